"""Owns the names of Kafka's requests and errors: what a test calls them, and the numbers behind them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeAlias

from confluent_kafka import KafkaError, KafkaException

from dp_kafka.kafkatest._librdkafka import EmbeddedClusterError

__all__ = [
    "DISCONNECT",
    "ERROR_CODES",
    "ErrorSpec",
    "api_key",
    "api_name",
    "error_code",
    "injectable_since",
    "near",
]

ErrorSpec: TypeAlias = str | int | KafkaError | KafkaException
"""An error by name ("NOT_LEADER_FOR_PARTITION"), by code, or as the client's own object."""

DISCONNECT = "_TRANSPORT"
"""As an injected error: the broker closes the connection instead of answering."""

_API_NAMES = {
    0: "Produce",
    1: "Fetch",
    2: "ListOffsets",
    3: "Metadata",
    8: "OffsetCommit",
    9: "OffsetFetch",
    10: "FindCoordinator",
    11: "JoinGroup",
    12: "Heartbeat",
    13: "LeaveGroup",
    14: "SyncGroup",
    15: "DescribeGroups",
    16: "ListGroups",
    17: "SaslHandshake",
    18: "ApiVersions",
    19: "CreateTopics",
    20: "DeleteTopics",
    21: "DeleteRecords",
    22: "InitProducerId",
    23: "OffsetForLeaderEpoch",
    24: "AddPartitionsToTxn",
    25: "AddOffsetsToTxn",
    26: "EndTxn",
    28: "TxnOffsetCommit",
    29: "DescribeAcls",
    30: "CreateAcls",
    31: "DeleteAcls",
    32: "DescribeConfigs",
    33: "AlterConfigs",
    36: "SaslAuthenticate",
    37: "CreatePartitions",
    42: "DeleteGroups",
    44: "IncrementalAlterConfigs",
    47: "OffsetDelete",
    60: "DescribeCluster",
    68: "ConsumerGroupHeartbeat",
    69: "ConsumerGroupDescribe",
    71: "GetTelemetrySubscriptions",
    72: "PushTelemetry",
    76: "ShareGroupHeartbeat",
    78: "ShareFetch",
    79: "ShareAcknowledge",
}
_API_KEYS = {name.lower(): key for key, name in _API_NAMES.items()}

# The requests for which the mock looks into its lists of errors; injected elsewhere one would wait for ever.
_INJECTABLE = frozenset(
    {0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18, 22, 23, 24, 25, 26, 28, 68, 71, 72, 76, 78, 79}
)
_METADATA = 3
_ALWAYS = (0, 0, 0)
_METADATA_DELAYS_SINCE = (2, 15, 0)
_METADATA_ERRORS_SINCE = (2, 16, 0)

ERROR_CODES: dict[str, int] = {
    name: code
    for name, code in vars(KafkaError).items()
    if name.strip("_").isupper() and isinstance(code, int)
}
_CODES = frozenset(ERROR_CODES.values())
_UNKNOWN = -1  # the one negative code that a broker sends; the others are librdkafka's own


def api_key(request: str | int) -> int:
    """The number of a request named as Kafka names it, in any case; raises EmbeddedClusterError if none."""
    if isinstance(request, int) and not isinstance(request, bool):
        if request in _API_NAMES:
            return request
        raise EmbeddedClusterError(f"no request of Kafka's protocol has the key {request}")
    key = _API_KEYS.get(request.lower()) if isinstance(request, str) else None
    if key is None:
        hint = near(str(request), _API_NAMES.values())
        raise EmbeddedClusterError(f"{request!r} is not the name of a Kafka request{hint}")
    return key


def api_name(key: int) -> str:
    """The name of the request with this number, or the number as text."""
    return _API_NAMES.get(key, str(key))


def injectable_since(key: int, codes: Iterable[int]) -> tuple[int, int, int]:
    """The first librdkafka whose mock heeds these errors for `key`; EmbeddedClusterError if none does."""
    if key not in _INJECTABLE:
        known = ", ".join(_API_NAMES[one] for one in sorted(_INJECTABLE))
        raise EmbeddedClusterError(
            f"the embedded cluster does not answer {api_name(key)} requests, so nothing can be injected. "
            f"It can for: {known}"
        )
    if key != _METADATA:
        return _ALWAYS
    plain = all(code in (0, ERROR_CODES[DISCONNECT]) for code in codes)
    return _METADATA_DELAYS_SINCE if plain else _METADATA_ERRORS_SINCE


def error_code(error: ErrorSpec) -> int:
    """The code of an error that a broker can be told to answer with; raises EmbeddedClusterError if none.

    Negative codes are librdkafka's own and never come from a broker. Of those only `DISCONNECT` is taken.
    """
    if isinstance(error, KafkaException):
        error = error.args[0]
    if isinstance(error, KafkaError):
        error = error.code()
    if isinstance(error, str):
        code = ERROR_CODES.get(error.upper())
        if code is None:
            raise EmbeddedClusterError(
                f"{error!r} is not the name of a Kafka error{near(error.upper(), ERROR_CODES)}"
            )
    elif isinstance(error, int) and not isinstance(error, bool):
        code = error
        if code not in _CODES:
            raise EmbeddedClusterError(f"no Kafka error has the code {code}")
    else:
        raise EmbeddedClusterError(
            f"an error is given as its name or its code, not as {type(error).__name__}"
        )
    if code < _UNKNOWN and code != ERROR_CODES[DISCONNECT]:
        raise EmbeddedClusterError(
            f"{error!r} is an error of the client itself, no broker answers with it: "
            f"use a broker's error, or {DISCONNECT} to cut the connection"
        )
    return code


def near(name: str, names: Iterable[str]) -> str:
    """Those of `names` that somebody who wrote `name` may have meant, as the end of a sentence."""
    by_lower = {candidate.lower(): candidate for candidate in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(by_lower[lower] for lower in found)}?" if found else ""
