"""Every exception of dp_kafka, and the three questions that logs and workers ask of a chain of exceptions.

All exceptions derive from `DpKafkaError` and carry `log_data`, a dict of facts for a structured log. Nothing
in this module, and nothing that is put into one of these exceptions, shows a payload, a key or a secret.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from dp_kafka.kafkaerror import KafkaErrorLike

__all__ = [
    "AclError",
    "BatchError",
    "CACertsError",
    "ChannelClosed",
    "ClosedError",
    "CommitError",
    "ConfigError",
    "DeliveryError",
    "DpKafkaError",
    "DrainError",
    "ForkedError",
    "HandlerError",
    "HandlerRegistrationError",
    "HealthCheckError",
    "KafkaClientError",
    "MarshalError",
    "MessageTooLargeError",
    "NotInitialisedError",
    "QueueFullError",
    "StateTransitionError",
    "UnknownTopicError",
    "commit_wanted",
    "stack_trace",
    "unwrap_log_data",
]

_E = TypeVar("_E", bound="DpKafkaError")

PERMANENT_ERROR_NAMES = frozenset(
    {
        # What the user configured, or what the broker's administrator granted, has to change first.
        "_AUTHENTICATION",
        "_FATAL",
        "_INVALID_ARG",
        "_UNSUPPORTED_FEATURE",
        "CLUSTER_AUTHORIZATION_FAILED",
        "FENCED_INSTANCE_ID",
        "GROUP_AUTHORIZATION_FAILED",
        "INCONSISTENT_GROUP_PROTOCOL",
        "INVALID_GROUP_ID",
        "INVALID_SESSION_TIMEOUT",
        "ILLEGAL_SASL_STATE",
        "SASL_AUTHENTICATION_FAILED",
        "TOPIC_AUTHORIZATION_FAILED",
        "TOPIC_EXCEPTION",
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        "UNSUPPORTED_SASL_MECHANISM",
        "UNSUPPORTED_VERSION",
    }
)


class DpKafkaError(Exception):
    """Raised by dp_kafka for anything that goes wrong; the base of all its exceptions.

    `log_data` is copied, so a caller may go on using its own dict.
    """

    def __init__(self, message: object = "", *, log_data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.log_data: dict[str, Any] = dict(log_data) if log_data else {}

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle as cls(*args), which would fail for those that need keyword arguments.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(cls: type[_E], args: tuple[Any, ...], state: dict[str, Any]) -> _E:
    exc = cls.__new__(cls, *args)
    exc.__dict__.update(state)
    return exc


class ConfigError(DpKafkaError, ValueError):
    """Raised when a configuration value is missing, malformed or at odds with another one.

    `field` names the configuration field or environment variable, or is None when no single one is to blame.
    """

    def __init__(
        self, message: object = "", *, field: str | None = None, log_data: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, log_data=log_data)
        self.field = field


class CACertsError(ConfigError):
    """Raised when no certificate could be read from the root CA certificates ("cannot load CA Certs")."""


class NotInitialisedError(DpKafkaError):
    """Raised when something needs a client that has not reached the cluster yet."""


class ClosedError(DpKafkaError):
    """Raised when a producer or consumer group is used after its `close()`."""


class ChannelClosed(ClosedError):
    """Raised by `put` on a closed channel, and by `get` on one that is closed and empty."""


class ForkedError(DpKafkaError):
    """Raised when a client made before `os.fork()` is used in the child, where its threads do not exist."""


class MarshalError(DpKafkaError):
    """Raised when an event cannot be encoded, or bytes cannot be decoded, with the schema given."""


class QueueFullError(DpKafkaError):
    """Raised when the local send queue was still full after the timeout of a send."""


class MessageTooLargeError(DpKafkaError):
    """Raised when a message is larger than `max_message_bytes` allows, before anything is sent."""


class DeliveryError(DpKafkaError):
    """Raised, or put on `errors`, when a message that was accepted for sending could not be delivered.

    It says where the message was going and what Kafka answered; never the message's key, value or headers.

    - `topic`, `partition`: where it was going; the partition is -1 when none had been chosen.
    - `has_key`: whether the message has a key.
    - `code`, `name`: those of confluent_kafka.KafkaError.
    - `fatal`: the producer cannot be used any more.
    - `retriable`: the same message may be delivered if it is sent again.
    """

    def __init__(
        self,
        message: object = "",
        *,
        topic: str,
        partition: int = -1,
        has_key: bool = False,
        code: int = 0,
        name: str = "",
        fatal: bool = False,
        retriable: bool = False,
        log_data: Mapping[str, Any] | None = None,
    ) -> None:
        where = {"topic": topic, "partition": partition, "has_key": has_key, "code": code, "name": name}
        super().__init__(message, log_data={**where, **(log_data or {})})
        self.topic = topic
        self.partition = partition
        self.has_key = has_key
        self.code = code
        self.name = name
        self.fatal = fatal
        self.retriable = retriable

    @classmethod
    def from_kafka_error(
        cls, error: KafkaErrorLike, *, topic: str, partition: int | None = None, has_key: bool = False
    ) -> DeliveryError:
        """The error for a delivery report that carries `error` (a confluent_kafka.KafkaError)."""
        chosen = -1 if partition is None else partition
        where = f"topic {topic!r}" + (f", partition {chosen}" if chosen >= 0 else "")
        return cls(
            f"delivery to {where} failed: {error.name()}: {error.str()}",
            topic=topic,
            partition=chosen,
            has_key=has_key,
            code=error.code(),
            name=error.name(),
            fatal=error.fatal(),
            retriable=error.retriable(),
        )


class HandlerRegistrationError(DpKafkaError):
    """Raised when a second handler is registered, or something that is not callable."""


class HealthCheckError(DpKafkaError):
    """Raised when a health check can't be set up as asked, or its state refuses what it has found."""


class StateTransitionError(DpKafkaError):
    """Raised when a consumer group is asked to go to a state that its present state does not lead to."""


class UnknownTopicError(DpKafkaError):
    """Raised when a topic that something is asked of is not on the cluster, or hidden from this client."""


class CommitError(DpKafkaError):
    """Raised by no call, but put on `errors`, when the broker refuses a commit for good.

    What is handled will be handled again until that is put right. A commit that fails for a while is only
    logged, and tried again. Who waits for one hears of it by the False of `Message.commit`.
    """


class DrainError(DpKafkaError):
    """Raised, or in a `DrainResult`, when a topic was not drained, or not all of it."""


class KafkaClientError(DpKafkaError):
    """Raised, or put on `errors`, for what librdkafka reports of itself rather than of one message.

    `code` and `name` are those of confluent_kafka.KafkaError. `fatal`: the client cannot be used any more.
    `retriable`: the same request may succeed later. `permanent`: nothing will get better until somebody
    changes the configuration, a credential, or an ACL on the broker; by default told from `fatal` and `name`.
    """

    def __init__(
        self,
        message: object = "",
        *,
        code: int,
        name: str,
        fatal: bool = False,
        retriable: bool = False,
        permanent: bool | None = None,
        log_data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, log_data={"code": code, "name": name, **(log_data or {})})
        self.code = code
        self.name = name
        self.fatal = fatal
        self.retriable = retriable
        self.permanent = (fatal or name in PERMANENT_ERROR_NAMES) if permanent is None else permanent

    @classmethod
    def from_kafka_error(
        cls,
        error: KafkaErrorLike,
        *,
        permanent: bool | None = None,
        log_data: Mapping[str, Any] | None = None,
    ) -> KafkaClientError:
        """The error for `error`, a confluent_kafka.KafkaError from an error callback or a KafkaException."""
        return cls(
            f"{error.name()}: {error.str()}",
            code=error.code(),
            name=error.name(),
            fatal=error.fatal(),
            retriable=error.retriable(),
            permanent=permanent,
            log_data=log_data,
        )


class HandlerError(DpKafkaError):
    """Raised by a handler to fail and to say whether its message, or batch, is committed all the same.

    With `commit` False it is not: the message is neither marked nor committed, and Kafka gives it again to
    whoever has the partition next. `log_data` goes into the log with the error.
    """

    def __init__(
        self, message: object = "", *, commit: bool = True, log_data: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, log_data=log_data)
        self.commit = commit


class BatchError(DpKafkaError):
    """Raised by a batch handler when only the messages in `failed` failed; the others are finished."""

    def __init__(
        self,
        failed: Sequence[Any],
        message: object = "some messages of the batch failed",
        *,
        log_data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, log_data=log_data)
        self.failed = tuple(failed)


class AclError(DpKafkaError):
    """Raised when some ACLs were not created; `results` tells of each one, in order (`AclResult`)."""

    def __init__(
        self, message: object = "", *, results: Sequence[Any], log_data: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, log_data=log_data)
        self.results = tuple(results)


def unwrap_log_data(exc: BaseException) -> dict[str, Any]:
    """All `log_data` of the chain of `exc` in one new dict, outermost exception first.

    The chain is `exc`, the members of an exception group, then `__cause__`, or else `__context__` unless
    `raise … from None` cut it. A key with one distinct value keeps that value. A key with several becomes the
    list of the distinct ones in the order of the chain; a value that is itself a list counts as one value.
    """
    found: dict[str, _DistinctValues] = {}
    for _, link in _chain(exc):
        data = _attribute(link, "log_data")
        if isinstance(data, Mapping):
            for key, value in data.items():
                found.setdefault(key, _DistinctValues()).add(value)
    return {key: each.values[0] if len(each.values) == 1 else each.values for key, each in found.items()}


def commit_wanted(exc: BaseException) -> bool:
    """Whether the message whose handler raised `exc` is to be committed.

    The first exception of the chain (see `unwrap_log_data`) whose `commit` attribute is a bool decides, the
    outermost first; without one the answer is True, as in the original.
    """
    for _, link in _chain(exc):
        commit = _attribute(link, "commit")
        if isinstance(commit, bool):
            return commit
    return True


def stack_trace(exc: BaseException) -> list[dict[str, Any]]:
    """Where it went wrong first: the frames of the deepest exception of the chain that has a traceback.

    Each frame is {"file": str, "function": str, "line": int}, the most recent call last. Of members of one
    exception group that lie equally deep, the first counts. Empty when nothing of the chain was raised yet.
    """
    deepest: BaseException | None = None
    depth_of_deepest = -1
    for depth, link in _chain(exc):
        if link.__traceback__ is not None and depth > depth_of_deepest:
            deepest, depth_of_deepest = link, depth
    if deepest is None:
        return []
    return [
        {"file": frame.f_code.co_filename, "function": frame.f_code.co_name, "line": line}
        for frame, line in traceback.walk_tb(deepest.__traceback__)
    ]


def _chain(exc: BaseException) -> Iterator[tuple[int, BaseException]]:
    """Each exception of the chain once, with its depth; no recursion, so length and cycles are harmless."""
    seen: set[int] = set()
    todo: list[tuple[int, BaseException]] = [(0, exc)]
    while todo:
        depth, link = todo.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield depth, link
        inner: list[BaseException] = []
        # ExceptionGroup is a builtin from Python 3.11 on only; the backport has the same attribute.
        members = _attribute(link, "exceptions")
        if isinstance(members, (tuple, list)):
            inner.extend(member for member in members if isinstance(member, BaseException))
        if link.__cause__ is not None:
            inner.append(link.__cause__)
        elif link.__context__ is not None and not link.__suppress_context__:
            inner.append(link.__context__)
        todo.extend((depth + 1, member) for member in reversed(inner))


def _attribute(exc: BaseException, name: str) -> Any:
    """`exc.name` or None: a property of the user that raises must not hide the failure itself."""
    try:
        return getattr(exc, name, None)
    except Exception:  # noqa: BLE001 - user code
        return None


class _DistinctValues:
    """The different values of one key, in order. True is not 1; arrays and the like always differ."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._hashed: set[tuple[bool, Any]] = set()

    def add(self, value: Any) -> None:
        mark = (isinstance(value, bool), value)
        try:
            known = mark in self._hashed
            self._hashed.add(mark)
        except Exception:  # noqa: BLE001 - not hashable, like lists and dicts, or broken user code
            known = any(_equal(value, seen) for seen in self.values)
        if not known:
            self.values.append(value)


def _equal(left: Any, right: Any) -> bool:
    try:
        return left is right or bool(left == right)
    except Exception:  # noqa: BLE001 - user code
        return False
