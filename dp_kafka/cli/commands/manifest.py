"""Manifests: the `kafka` section of an application's YAML file, and the accesses that it means.

name: dp-import-api
kafka:
  domain: example.org
  topics:
    - name: content-published
      subnets: [web, publishing]
      access: [read, write]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dp_kafka.admin import TopicAuth, TopicAuthList
from dp_kafka.config import checks
from dp_kafka.errors import ConfigError, DpKafkaError

__all__ = ["read_manifest"]

_TOPIC_KEYS = {"name", "subnets", "access", "hosts"}


def read_manifest(path: Path, *, app: str | None, domain: str | None) -> TopicAuthList:
    """The accesses in a file. `app` and `domain` win over what the file says.

    Raises:
        ConfigError: it is no YAML, or no manifest; the text says where.
        DpKafkaError: PyYAML is not installed.
    """
    document = _mapping(_load(path), path, "it")
    kafka = _mapping(document.get("kafka"), path, "'kafka'")
    topics = kafka.get("topics")
    if not isinstance(topics, list) or not topics:
        raise ConfigError(f"{path}: 'kafka.topics' must be a list of topics", field="kafka.topics")
    name = app or document.get("name")
    if not name:
        raise ConfigError(
            f"{path}: there is no 'name' of the application: add it, or give --app", field="name"
        )
    where = domain or kafka.get("domain")
    if not where:
        raise ConfigError(
            f"{path}: there is no 'kafka.domain': add it, or give --domain", field="kafka.domain"
        )
    try:
        auths = [_auth(topic, position, str(name)) for position, topic in enumerate(topics)]
        return TopicAuthList(str(where), auths)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}", field=error.field) from error


def _load(path: Path) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise DpKafkaError("manifests need PyYAML: pip install 'dp-kafka[cli]'") from error
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" at line {mark.line + 1}"
        raise ConfigError(f"{path} is not YAML{line}: {getattr(error, 'problem', error)}") from error


def _auth(topic: Any, position: int, app: str) -> TopicAuth:
    which = f"kafka.topics[{position}]"
    if not isinstance(topic, dict):
        raise ConfigError(
            f"{which} must have name, subnets and access, found {checks.shown(topic)}", field=which
        )
    unknown = sorted(map(str, topic.keys() - _TOPIC_KEYS))
    if unknown:
        raise ConfigError(f"{which} has unknown keys: {', '.join(unknown)}", field=which)
    try:
        return TopicAuth(
            app=app,
            subnets=topic.get("subnets") or (),
            topic=topic.get("name"),  # type: ignore[arg-type]  # checked there
            operations=topic.get("access") or (),
            hosts=topic.get("hosts", ["*"]),
        )
    except ConfigError as error:
        known = {"topic": "name", "operations": "access"}
        field = known.get(error.field or "", error.field)
        raise ConfigError(f"{which}.{field}: {error}", field=f"{which}.{field}") from error


def _mapping(value: Any, path: Path, what: str) -> dict[Any, Any]:
    if isinstance(value, dict):
        return value
    raise ConfigError(f"{path}: {what} must be a mapping, found {checks.shown(value)}", field="kafka")
