"""The `librdkafka` field: raw client properties, held unchangeable, and which of them are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dp_kafka.config.checks import shown
from dp_kafka.errors import ConfigError

FIELD = "librdkafka"

# librdkafka's second names. Only those that dp_kafka sets, refuses or reads are needed here.
_ALIASES = {
    "metadata.broker.list": "bootstrap.servers",
    "auto.commit.enable": "enable.auto.commit",
    "max.in.flight": "max.in.flight.requests.per.connection",
    "default_topic_conf": "default.topic.config",
    "max.partition.fetch.bytes": "fetch.message.max.bytes",
    "queue.buffering.max.ms": "linger.ms",
    "request.required.acks": "acks",
    "retries": "message.send.max.retries",
    "sasl.mechanism": "sasl.mechanisms",
}

_CALLBACK = "dp_kafka sets the client's callbacks itself and calls them on its own threads"
_REFUSED = {
    "bootstrap.servers": "use broker_addrs",
    "default.topic.config": "give topic properties directly in librdkafka",
    "enabled_events": _CALLBACK,
    "error_cb": f"{_CALLBACK}; read channels.errors or call log_errors()",
    "log.queue": "dp_kafka passes librdkafka's log on to the logging module",
    "log_cb": "dp_kafka passes librdkafka's log on to the logging module",
    "logger": "dp_kafka passes librdkafka's log on to the logging module",
    "opaque": _CALLBACK,
}
_REFUSED_CONSUMER = {
    "auto.commit.interval.ms": "only finished messages are committed; use commit_interval",
    "auto.offset.reset": "use offset",
    "enable.auto.commit": "only finished messages are committed, so automatic commits stay off",
    "enable.auto.offset.store": "only finished messages are committed, so offsets are stored by dp_kafka",
    "enable.partition.eof": "an end-of-partition event is no message, and would reach the handler as one",
    "group.id": "use group_name",
    "offset.store.method": "offsets are committed to the broker",
    "on_commit": f"{_CALLBACK}; commit_interval=0 makes Message.commit() wait for the answer",
    "session.timeout.ms": "use message_consume_timeout",
}
_REFUSED_PRODUCER = {
    "delivery.report.only.error": "flush() and on_delivery need the reports of deliveries that succeeded",
    "dr_cb": f"{_CALLBACK}; use the on_delivery argument of send()",
    "dr_msg_cb": f"{_CALLBACK}; use the on_delivery argument of send()",
    "on_delivery": f"{_CALLBACK}; use the on_delivery argument of send()",
    "transactional.id": "the producer has no transactions, and librdkafka refuses messages outside one",
}
# The one callback that is the user's business: without it OAUTHBEARER (MSK IAM, say) cannot log in.
_ALLOWED_CALLBACK = "oauth_cb"

_SECRET = re.compile(
    r"password|passphrase|secret|keystore|\.pem$|private\.key|kinit|oauthbearer\.config|token", re.IGNORECASE
)


class Properties(Mapping[str, Any]):
    """An unchangeable copy of a mapping of client properties; its repr hides what may be secret.

    A mapping and not a dict, so that frozen configurations stay frozen; a class and not a mappingproxy,
    because that one neither pickles nor hides anything.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._items: dict[str, Any] = dict(items) if items else {}

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self._items),)

    def __repr__(self) -> str:
        return repr(redacted(self._items))


def redacted(properties: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of client properties that may be logged: secrets and certificates replaced by '<hidden>'."""
    return {
        name: "<hidden>" if _SECRET.search(name) or "-----BEGIN" in str(value) else value
        for name, value in properties.items()
    }


def canonical(name: str) -> str:
    """The one name of a property that librdkafka knows under two."""
    return _ALIASES.get(name, name)


def is_true(value: Any) -> bool:
    """Whether librdkafka reads `value` as true."""
    return str(value).lower() in ("true", "t", "1")


def lookup(properties: Mapping[str, Any], name: str) -> Any:
    """The value of a property under any of its names, or None."""
    for key, value in properties.items():
        if canonical(key) == name:
            return value
    return None


def merged(ours: Mapping[str, Any], users: Mapping[str, Any]) -> dict[str, Any]:
    """Our properties with the user's applied last: one that is given under another name replaces ours too."""
    replaced = {canonical(name) for name in users}
    return {name: value for name, value in ours.items() if canonical(name) not in replaced} | dict(users)


def checked_consumer(value: Any) -> Properties:
    """The raw properties of a consumer group, or `ConfigError` naming the one that is refused."""
    return _checked(value, _REFUSED | _REFUSED_CONSUMER)


def checked_producer(value: Any) -> Properties:
    """The raw properties of a producer, or `ConfigError` naming the one that is refused."""
    return _checked(value, _REFUSED | _REFUSED_PRODUCER)


def checked_admin(value: Any) -> Properties:
    """The raw properties of an admin client, or `ConfigError` naming the one that is refused."""
    return _checked(value, _REFUSED)


def _checked(value: Any, refused: Mapping[str, str]) -> Properties:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{FIELD} must be a mapping of client properties, found {type(value).__name__}", field=FIELD
        )
    seen: dict[str, str] = {}
    for name, setting in value.items():
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{FIELD} has the property name {shown(name)}, which is no string", field=FIELD)
        one_name = canonical(name)
        if one_name in refused:
            raise ConfigError(f"{FIELD} must not set {name!r}: {refused[one_name]}", field=FIELD)
        if name != _ALLOWED_CALLBACK:
            _check_setting(name, setting)
        elif not callable(setting):
            raise ConfigError(f"{FIELD} sets {name!r} to something that is not callable", field=FIELD)
        if one_name in seen:
            raise ConfigError(
                f"{FIELD} sets the same property as {seen[one_name]!r} and as {name!r}", field=FIELD
            )
        seen[one_name] = name
    return Properties(value)


def _check_setting(name: str, setting: Any) -> None:
    if name.endswith("_cb"):
        raise ConfigError(f"{FIELD} must not set {name!r}: {_CALLBACK}", field=FIELD)
    # The value itself is not shown: whatever it is, it may be a password.
    if not isinstance(setting, (str, int, float)):
        raise ConfigError(
            f"{FIELD} sets {name!r} to a value of type {type(setting).__name__}; "
            "librdkafka takes strings, numbers and booleans",
            field=FIELD,
        )
