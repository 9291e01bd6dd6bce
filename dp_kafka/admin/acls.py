"""Who may do what on a topic: `TopicAuth`, `TopicAuthList`, the ACL bindings they mean, and applying them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import KafkaError
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from dp_kafka.admin.client import new_admin, requests_of
from dp_kafka.admin.requests import TIMEOUT
from dp_kafka.config import AdminConfig, checks
from dp_kafka.errors import AclError, ConfigError, KafkaClientError
from dp_kafka.logs import log_event

__all__ = [
    "AclDifference",
    "AclResult",
    "Acls",
    "TopicAuth",
    "TopicAuthList",
    "apply",
    "compare",
    "get_acls",
    "get_principal",
    "operation_name",
]

T = TypeVar("T")

logger = logging.getLogger("dp_kafka.admin")

#: What a part of a certificate's name may hold here: a comma would begin another attribute of the name.
_NAME_PART = re.compile(r"[^\s,=+<>#;\\\"]+")
_OPERATIONS = tuple(
    operation for operation in AclOperation if operation not in (AclOperation.UNKNOWN, AclOperation.ANY)
)


def get_principal(app: str, subnet: str, domain: str) -> str:
    """The principal of an application in a subnet: the common name of its client certificate."""
    return f"User:CN={app}.{subnet}.{domain}"


def operation_name(operation: AclOperation | str | int) -> str:
    """How an operation is written in manifests and shown: 'read', 'describe_configs'."""
    # A binding holds an AclOperation, whatever it was made with; its annotation is wider.
    return operation.name.lower() if isinstance(operation, AclOperation) else str(operation).lower()


class Acls(list[AclBinding]):
    """A list of ACLs, each a confluent_kafka AclBinding, as `get_acls` gives them."""

    def apply(self, admin: AdminClient, *, timeout: float = TIMEOUT) -> list[AclResult]:
        """See `dp_kafka.admin.apply`."""
        return apply(self, admin, timeout=timeout)


@dataclass(frozen=True)
class TopicAuth:
    """An application's access to a topic: from each of `subnets` and `hosts`, each of `operations`.

    - `app`: its name, the first part of the principal (`get_principal`).
    - `subnets`: the second part.
    - `topic`: a topic's name, literally.
    - `operations`: AclOperation, or their names: 'read', 'write', 'describe' …
    - `hosts`: IP addresses, or '*' for every host.

    Lists become tuples. Raises `ConfigError` for an empty list too: it would allow nothing, silently.
    """

    app: str
    subnets: Sequence[str]
    topic: str
    operations: Sequence[AclOperation | str]
    hosts: Sequence[str]

    def __post_init__(self) -> None:
        _name_part("app", self.app)
        checks.topic_name("topic", self.topic)
        set_ = object.__setattr__
        set_(self, "subnets", _distinct("subnets", self.subnets, lambda value: _name_part("subnets", value)))
        set_(self, "operations", _distinct("operations", self.operations, _operation))
        set_(
            self, "hosts", _distinct("hosts", self.hosts, lambda value: checks.required_text("hosts", value))
        )

    def get_acls(self, domain: str) -> Acls:
        """An ACL for each subnet, operation and host, in that order of nesting.

        Raises:
            ConfigError: a domain that can't be part of a principal.
        """
        _name_part("domain", domain)
        return Acls(
            AclBinding(
                ResourceType.TOPIC,
                self.topic,
                ResourcePatternType.LITERAL,
                get_principal(self.app, subnet, domain),
                host,
                operation,
                AclPermissionType.ALLOW,
            )
            for subnet in self.subnets
            for operation in self.operations
            for host in self.hosts
        )


@dataclass(frozen=True)
class TopicAuthList:
    """The accesses of a domain's applications.

    - `domain`: the last part of the principals.
    - `acls`: a `TopicAuth` for each application and topic.
    - `brokers`: the addresses for an `apply` without an admin client.

    Raises `ConfigError` for an empty list of accesses, and for malformed addresses.
    """

    domain: str
    acls: Sequence[TopicAuth]
    brokers: Sequence[str] = ()

    def __post_init__(self) -> None:
        _name_part("domain", self.domain)
        object.__setattr__(self, "acls", _distinct("acls", self.acls, _topic_auth))
        brokers = checks.addresses("brokers", list(self.brokers)) if self.brokers else ()
        object.__setattr__(self, "brokers", brokers)

    def get_acls(self) -> Acls:
        """The ACLs of all accesses, each once."""
        found = (binding for each in self.acls for binding in each.get_acls(self.domain))
        return Acls(dict.fromkeys(found))

    def apply(
        self, admin: AdminClient | None = None, *, config: AdminConfig | None = None, timeout: float = TIMEOUT
    ) -> list[AclResult]:
        """See `dp_kafka.admin.apply`. Without an admin client one is made for `brokers`, with `config`.

        Raises `ConfigError` also when there is neither.
        """
        if admin is None:
            if not self.brokers:
                raise ConfigError(
                    "apply() needs an admin client, or brokers in the TopicAuthList", field="brokers"
                )
            admin = new_admin(self.brokers, config)
        return self.get_acls().apply(admin, timeout=timeout)


@dataclass(frozen=True)
class AclResult:
    """What became of one ACL, `binding`: `created`, or it was there already, or `error` says why not."""

    binding: AclBinding
    created: bool = False
    error: KafkaClientError | None = None

    @property
    def ok(self) -> bool:
        """Whether the ACL is on the cluster now."""
        return self.error is None


@dataclass(frozen=True)
class AclDifference:
    """ACLs that are wanted against those on the cluster.

    - `missing`: wanted, and not there: `apply` would create them.
    - `present`: wanted, and there.
    - `extra`: there for the same principals on the same topics, but not wanted. Nothing here removes them.
    """

    missing: Acls
    present: Acls
    extra: Acls


def get_acls(auth: TopicAuth, domain: str) -> Acls:
    """The ACLs of one application: as `auth.get_acls(domain)`.

    Raises:
        ConfigError: a domain that can't be part of a principal.
    """
    return auth.get_acls(domain)


def compare(
    acls: TopicAuthList | Iterable[AclBinding], admin: AdminClient, *, timeout: float = TIMEOUT
) -> AclDifference:
    """What `apply` would do; changes nothing. Blocks, at most about `timeout` seconds.

    On a cluster without an authorizer all of it is missing; `apply` is told there that security is disabled.

    Raises:
        ConfigError: there are no ACLs in it.
        KafkaClientError: the cluster cannot be asked, or refuses to tell.
    """
    wanted = _bindings(acls)
    there = _existing(wanted, admin, time.monotonic() + timeout)
    principals = {binding.principal for binding in wanted}
    return AclDifference(
        missing=Acls(each for each in wanted if each not in there),
        present=Acls(each for each in wanted if each in there),
        extra=Acls(sorted(each for each in there - set(wanted) if each.principal in principals)),
    )


def apply(
    acls: TopicAuthList | Iterable[AclBinding], admin: AdminClient, *, timeout: float = TIMEOUT
) -> list[AclResult]:
    """Create those ACLs that the cluster does not have; a result for each, in their order.

    `admin` is that of `new_admin`, or any confluent_kafka AdminClient. What fails for a passing reason is
    repeated (`AdminConfig.retry_max`). Applying the same again changes nothing. Kafka has no transaction for
    this: when some fail, the others are there. Blocks, at most about `timeout` seconds.

    Raises:
        AclError: some failed; its `results` tells of each.
        ConfigError: there are no ACLs in it.
        KafkaClientError: the cluster cannot be asked what it has; nothing was created.
    """
    wanted = _bindings(acls)
    until = time.monotonic() + timeout
    there = _existing(wanted, admin, until)
    missing = [binding for binding in wanted if binding not in there]

    def send(bindings: list[AclBinding], seconds: float) -> dict[AclBinding, Future[None]]:
        futures: dict[AclBinding, Future[None]] = admin.create_acls(bindings, request_timeout=seconds)
        return futures

    answers = requests_of(admin).each(send, missing, until) if missing else {}
    results = [_result(binding, answers) for binding in wanted]
    for result in results:
        _log(result)
    failed = [result for result in results if not result.ok]
    if failed:
        raise AclError(_failure(results, failed), results=results) from failed[0].error
    return results


def _result(binding: AclBinding, answers: dict[AclBinding, KafkaClientError | None]) -> AclResult:
    if binding not in answers:
        return AclResult(binding)
    error = answers[binding]
    return AclResult(binding, created=error is None, error=error)


def _failure(results: list[AclResult], failed: list[AclResult]) -> str:
    created = sum(result.created for result in results)
    first = failed[0]
    return (
        f"error applying cluster-admin ACLs: {len(failed)} of {len(results)} were not created "
        f"({created} were, {len(results) - created - len(failed)} were there): "
        f"{first.binding.principal} {operation_name(first.binding.operation)} on topic "
        f"{first.binding.name!r}: {first.error}"
    )


def _log(result: AclResult) -> None:
    binding = result.binding
    fields = {
        "topic": binding.name,
        "principal": binding.principal,
        "operation": operation_name(binding.operation),
        "host": binding.host,
    }
    if result.error is not None:
        log_event(logger, logging.ERROR, "ACL not created", {**fields, "error": str(result.error)})
    else:
        event = "created ACL" if result.created else "ACL is there already"
        log_event(logger, logging.INFO, event, fields)


def _existing(wanted: Acls, admin: AdminClient, until: float) -> set[AclBinding]:
    """All bindings on the topics of `wanted`."""
    requests = requests_of(admin)
    found: set[AclBinding] = set()
    for topic in dict.fromkeys(binding.name for binding in wanted):
        there: list[AclBinding] = requests.call(partial(_describe, admin, topic), until)
        found.update(there)
    if not found:
        _require_sight(admin, until)
    return found


def _require_sight(admin: AdminClient, until: float) -> None:
    """Raise unless the client may see ACLs: librdkafka turns the broker's refusal into an empty answer."""

    def ask(seconds: float) -> Future[Any]:
        future: Future[Any] = admin.describe_cluster(
            include_authorized_operations=True, request_timeout=seconds
        )
        return future

    cluster: Any = requests_of(admin).call(ask, until)
    if AclOperation.DESCRIBE not in (cluster.authorized_operations or ()):
        raise KafkaClientError(
            "CLUSTER_AUTHORIZATION_FAILED: this client may not see the ACLs of the cluster: it needs the "
            "operation Describe on the cluster, and Alter to create them",
            code=KafkaError.CLUSTER_AUTHORIZATION_FAILED,
            name="CLUSTER_AUTHORIZATION_FAILED",
        )


def _describe(admin: AdminClient, topic: str, seconds: float) -> Future[list[AclBinding]]:
    every = AclBindingFilter(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        None,  # type: ignore[arg-type]  # any principal, which the annotation of the package forgets
        None,  # type: ignore[arg-type]  # any host
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    future: Future[list[AclBinding]] = admin.describe_acls(every, request_timeout=seconds)
    return future


def _bindings(acls: TopicAuthList | Iterable[AclBinding]) -> Acls:
    if isinstance(acls, TopicAuthList):
        return acls.get_acls()
    bindings = Acls(dict.fromkeys(acls))
    if not bindings:
        raise ConfigError("there are no ACLs to apply: the list is empty", field="acls")
    return bindings


def _distinct(field: str, values: Any, check: Callable[[Any], T]) -> tuple[T, ...]:
    """A tuple of the checked values, which must be there, and different."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(f"{field} must be a list, found {checks.shown(values)}", field=field)
    found = tuple(check(value) for value in values)
    if not found:
        raise ConfigError(f"{field} is empty, which would allow nothing: name at least one", field=field)
    for position, value in enumerate(found):
        if value in found[:position]:
            raise ConfigError(f"{field} names {checks.shown(value)} twice", field=field)
    return found


def _name_part(field: str, value: Any) -> str:
    text = checks.required_text(field, value)
    if not _NAME_PART.fullmatch(text):
        raise ConfigError(
            f"{field} must be part of a certificate's common name, without blanks and without "
            f"any of , = + < > # ; \\ and quotes, found {checks.shown(text)}",
            field=field,
        )
    return text


def _operation(value: Any) -> AclOperation:
    for operation in _OPERATIONS:
        if value is operation or (isinstance(value, str) and value.lower() == operation_name(operation)):
            return operation
    names = ", ".join(operation_name(operation) for operation in _OPERATIONS)
    raise ConfigError(f"operations must be of {names}, found {checks.shown(value)}", field="operations")


def _topic_auth(value: Any) -> TopicAuth:
    if not isinstance(value, TopicAuth):
        raise ConfigError(f"acls must hold TopicAuth, found {type(value).__name__}", field="acls")
    return value
