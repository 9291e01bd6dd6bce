"""The one place that turns configurations into librdkafka's client properties.

Each function returns a new dict that the confluent_kafka constructor of its kind accepts. The user's own
`librdkafka` properties are applied last; where one of ours depends on one of theirs it follows, and where
the two cannot go together a `ConfigError` says so. Configurations call these functions when they are
constructed, so a mistake shows there and not in the first client. The dicts contain secrets: log them
through `dp_kafka.config.properties.redacted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from dp_kafka.config.checks import addresses, shown
from dp_kafka.config.pem import inline_text
from dp_kafka.config.properties import FIELD, canonical, is_true, lookup, merged
from dp_kafka.errors import ConfigError

if TYPE_CHECKING:
    from dp_kafka.config.admin import AdminConfig
    from dp_kafka.config.consumer import ConsumerGroupConfig
    from dp_kafka.config.producer import ProducerConfig
    from dp_kafka.config.security import SecurityConfig

# Shown in broker logs and quotas; librdkafka={"client.id": …} gives another.
CLIENT_ID = "dp-kafka"

# librdkafka's numbers for syslog's "warning": its "info" speaks of every reconnect.
_LOG_LEVEL_WARNING = 4

# How long produce() may wait for company, in milliseconds: a batch per 5 ms costs a message little latency
# and saves most of the requests.
_LINGER_MS = 5

# With several, an idempotent producer of librdkafka can store a message twice when leaders move: the second
# request is refused because the first one was, librdkafka begins a new epoch, and what other partitions had
# stored without saying so is sent again (its issue 4953). Batches grow while a request is under way.
_REQUESTS_IN_FLIGHT = 1

# The longest wait of a broker for new messages, in milliseconds: the original's value.
_FETCH_WAIT_MS = 50

# How soon librdkafka looks again whether its full queue has room, in milliseconds. With its default of 1000
# the queue runs dry, because ours is small: reading messages of 100 bytes went at 72,000 a second with 1000
# and at 204,000 with 20.
_FETCH_QUEUE_BACKOFF_MS = 20

# Kafka's usual heartbeat; at most a third of the session, so that two may get lost.
_HEARTBEAT_MS = 3_000

# The commit at the end of a rebalance, after the wait for messages in hand, has to fit between two polls too.
_REBALANCE_MARGIN_MS = 30_000

# How often librdkafka tells how far a group is behind, in milliseconds: only metrics want to know.
_STATISTICS_MS = 5_000

# librdkafka's own defaults, which ours must not undercut or exceed.
_MAX_POLL_INTERVAL_MS = 300_000
_RETRY_BACKOFF_MS = 100
_RETRY_BACKOFF_MAX_MS = 1_000
_MESSAGE_MAX_BYTES = 1_000_000
_FETCH_MAX_BYTES = 52_428_800
_PARTITION_FETCH_BYTES = 1_048_576
_QUEUED_MAX_KBYTES = 2_097_151

# Properties that a SecurityConfig sets in one form and the user could set in another.
_SAME_PURPOSE = (
    {"ssl.ca.pem", "ssl.ca.location"},
    {"ssl.certificate.pem", "ssl.certificate.location", "ssl.keystore.location"},
    {"ssl.key.pem", "ssl.key.location", "ssl.keystore.location"},
)


def producer_properties(config: ProducerConfig) -> dict[str, Any]:
    """Properties for confluent_kafka.Producer.

    acks=all and an idempotent producer with one request at a time for each broker: a retry neither loses,
    doubles nor reorders. The partitioner is murmur2_random and not librdkafka's default consistent_random
    (CRC32): it puts a key into the partition that Java producers, Kafka Streams and Connect put it, so
    producers of both kinds can share a keyed topic. Messages without a key are spread over all partitions.
    (The original's Go client cannot send keys at all.)
    """
    users = config.librdkafka
    ours = _common_properties(config.broker_addrs, config.keep_alive, config.retry_backoff)
    ours |= {
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": _LINGER_MS,
        "max.in.flight.requests.per.connection": _REQUESTS_IN_FLIGHT,
        "partitioner": "murmur2_random",
    }
    if config.max_message_bytes is not None:
        ours["message.max.bytes"] = config.max_message_bytes
    if config.retry_max is not None:
        ours["message.send.max.retries"] = config.retry_max
    _settle_idempotence(ours, users)
    return _finished(ours, config.security, users)


def _settle_idempotence(ours: dict[str, Any], users: Mapping[str, Any]) -> None:
    """Without retries there is nothing to be idempotent about, and librdkafka refuses the combination."""
    asked = lookup(users, "enable.idempotence")
    if lookup(merged(ours, users), "message.send.max.retries") in (0, "0"):
        if asked is not None and is_true(asked):
            raise ConfigError(
                "retry_max=0 and enable.idempotence=true exclude each other: an idempotent producer must be "
                "allowed to retry; leave one of them out",
                field="retry_max",
            )
        ours["enable.idempotence"] = False
    acks = lookup(users, "acks")
    if acks is not None and str(acks).lower() not in ("all", "-1") and (asked is None or is_true(asked)):
        raise ConfigError(
            f"{FIELD} sets acks={acks}, with which an acknowledged message can be lost, and which an "
            "idempotent producer cannot have; leave it out, or set enable.idempotence=false as well to say "
            "that you want this",
            field=FIELD,
        )


def consumer_properties(config: ConsumerGroupConfig) -> dict[str, Any]:
    """Properties for confluent_kafka.Consumer.

    Only finished messages are committed, so automatic commits and the automatic offset store are off, for
    good. Memory: librdkafka gets half of `max_buffered_bytes`, dp_kafka's lanes have the rest; and half
    as many messages as these. Of its half, an eighth is one answer of a broker (fetch.max.bytes) and
    three eighths stay free for such answers, because librdkafka looks at its queue before it asks, not
    before it stores. One answer is never below 1,000,000 bytes, nor smaller than one message batch. Sizes
    are those of the fetch, so a compressed batch counts for more once it is unpacked, and the queue then
    stops further fetches.

    With group.protocol=consumer (KIP-848) the broker decides on session, heartbeat and assignor; those are
    left out.
    """
    users = config.librdkafka
    ours = _common_properties(config.broker_addrs, config.keep_alive, config.retry_backoff)
    ours |= {
        "group.id": config.group_name,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "latest" if config.offset == -1 else "earliest",
        "allow.auto.create.topics": False,
        "fetch.wait.max.ms": _FETCH_WAIT_MS,
        "fetch.queue.backoff.ms": _FETCH_QUEUE_BACKOFF_MS,
    }
    ours |= _membership(config.message_consume_timeout, users)
    ours |= _fetch_sizes(config.max_buffered_messages, config.max_buffered_bytes, users)
    if config.retry_backoff is not None:
        ours["fetch.error.backoff.ms"] = _milliseconds(config.retry_backoff)
    if config.otel_enabled:
        ours["statistics.interval.ms"] = _STATISTICS_MS
    return _finished(ours, config.security, users)


def _membership(message_consume_timeout: float, users: Mapping[str, Any]) -> dict[str, Any]:
    session = _milliseconds(message_consume_timeout)
    longest_poll = users.get("max.poll.interval.ms")
    if longest_poll is not None and _number(longest_poll, "max.poll.interval.ms") < session:
        raise ConfigError(
            f"{FIELD} sets max.poll.interval.ms={longest_poll}, which must not be less than "
            f"message_consume_timeout ({session} ms): a rebalance may wait that long for messages in hand",
            field=FIELD,
        )
    membership: dict[str, Any] = {
        "max.poll.interval.ms": max(_MAX_POLL_INTERVAL_MS, session + _REBALANCE_MARGIN_MS)
    }
    if is_kip_848(users):
        for name in ("heartbeat.interval.ms", "partition.assignment.strategy", "group.protocol.type"):
            if name in users:
                raise ConfigError(
                    f"{FIELD} must not set {name!r} with group.protocol=consumer: the broker decides on it"
                    + ("; use group.remote.assignor" if "strategy" in name else ""),
                    field=FIELD,
                )
        return membership
    heartbeat = users.get("heartbeat.interval.ms")
    if heartbeat is not None and _number(heartbeat, "heartbeat.interval.ms") >= session:
        raise ConfigError(
            f"{FIELD} sets heartbeat.interval.ms={heartbeat}, which must be less than "
            f"message_consume_timeout ({session} ms)",
            field=FIELD,
        )
    return membership | {
        "session.timeout.ms": session,
        "heartbeat.interval.ms": min(_HEARTBEAT_MS, session // 3),
        "partition.assignment.strategy": "roundrobin",
    }


def _fetch_sizes(max_messages: int, max_bytes: int, users: Mapping[str, Any]) -> dict[str, Any]:
    half = max_bytes // 2
    answer = min(max(half // 8, _MESSAGE_MAX_BYTES), _FETCH_MAX_BYTES)
    # librdkafka wants message.max.bytes <= fetch.max.bytes <= receive.message.max.bytes - 512.
    largest = lookup(users, "message.max.bytes")
    if largest is not None:
        answer = max(answer, _number(largest, "message.max.bytes"))
    received = lookup(users, "receive.message.max.bytes")
    if received is not None:
        answer = max(0, min(answer, _number(received, "receive.message.max.bytes") - 512))
    queued = max(half - 3 * answer, half // 4)
    return {
        "fetch.max.bytes": answer,
        "fetch.message.max.bytes": min(_PARTITION_FETCH_BYTES, max(answer, 1)),
        "queued.max.messages.kbytes": min(max(queued // 1000, 1), _QUEUED_MAX_KBYTES),
        # Despite its name this is the number of queued messages at which librdkafka stops fetching.
        "queued.min.messages": min(max(max_messages // 2, 1), 10_000_000),
    }


def admin_properties(broker_addrs: tuple[str, ...] | list[str], config: AdminConfig | None) -> dict[str, Any]:
    """Properties for confluent_kafka.admin.AdminClient, from the addresses (checked here) and the rest.

    `retry_max` is not among them: librdkafka does not repeat admin requests, dp_kafka.admin does.
    """
    checked = addresses("broker_addrs", broker_addrs)
    if config is None:
        return _common_properties(checked, None, None)
    ours = _common_properties(checked, config.keep_alive, config.retry_backoff)
    return _finished(ours, config.security, config.librdkafka)


def lookup_properties(config: ProducerConfig | ConsumerGroupConfig) -> dict[str, Any]:
    """Properties for the AdminClient with which a health check looks up the client's topic.

    Those of the client that are about connections, so that it meets the brokers as the client does, and
    no automatic creation of the topic that it asks for. It logs nothing: the check says what it found.
    """
    users = {name: value for name, value in config.librdkafka.items() if _is_about_connections(name)}
    ours = _common_properties(config.broker_addrs, config.keep_alive, config.retry_backoff)
    ours["allow.auto.create.topics"] = False
    return _finished(ours, config.security, users) | {"log_level": 0}


def _is_about_connections(name: str) -> bool:
    one_name = canonical(name)
    return one_name in ("oauth_cb", "client.id", "security.protocol") or one_name.startswith(
        ("api.", "broker.", "client.dns.", "enable.s", "https.", "reconnect.", "sasl.", "socket.", "ssl.")
    )


def security_properties(security: SecurityConfig | None) -> dict[str, Any]:
    """The TLS and SASL properties alone; without a SecurityConfig there are none, which means plaintext."""
    if security is None:
        return {}
    sasl = security.sasl_mechanism is not None
    protocol = ("sasl_" if sasl else "") + ("ssl" if security.tls else "plaintext")
    properties: dict[str, Any] = {"security.protocol": protocol}
    if security.tls:
        for name, value in (
            ("ssl.ca", security.root_ca_certs),
            ("ssl.certificate", security.client_cert),
            ("ssl.key", security.client_key),
        ):
            properties |= _pem_property(name, value)
        if security.insecure_skip_verify:
            properties["enable.ssl.certificate.verification"] = False
            properties["ssl.endpoint.identification.algorithm"] = "none"
    if sasl:
        properties["sasl.mechanisms"] = security.sasl_mechanism
        properties["sasl.username"] = security.sasl_username
        properties["sasl.password"] = security.sasl_password
    return properties


def _pem_property(name: str, value: str) -> dict[str, str]:
    if not value:
        return {}
    text = inline_text(value)
    return {f"{name}.location": value} if text is None else {f"{name}.pem": text}


def _common_properties(
    broker_addrs: tuple[str, ...] | list[str], keep_alive: float | None, retry_backoff: float | None
) -> dict[str, Any]:
    ours: dict[str, Any] = {
        "bootstrap.servers": ",".join(broker_addrs),
        "client.id": CLIENT_ID,
        "log_level": _LOG_LEVEL_WARNING,
        # A broker closes idle connections as a matter of course.
        "log.connection.close": False,
    }
    if keep_alive is not None:
        # librdkafka takes a switch; the interval is the operating system's.
        ours["socket.keepalive.enable"] = keep_alive > 0
    if retry_backoff is not None:
        ours["retry.backoff.ms"] = _milliseconds(retry_backoff)
        ours["retry.backoff.max.ms"] = max(_RETRY_BACKOFF_MAX_MS, _milliseconds(retry_backoff))
    return ours


def _finished(
    ours: dict[str, Any], security: SecurityConfig | None, users: Mapping[str, Any]
) -> dict[str, Any]:
    """Ours, then security's, then the user's, which must not contradict security."""
    secured = security_properties(security)
    for name, value in users.items():
        one_name = canonical(name)
        rivals = {other for same in _SAME_PURPOSE if one_name in same for other in same} - {one_name}
        differs = one_name in secured and str(secured[one_name]).lower() != str(value).lower()
        if differs or rivals & secured.keys():
            raise ConfigError(
                f"{FIELD} sets {name!r}, and so does security, differently; leave it out of {FIELD}, or "
                f"leave security out and give all of its properties in {FIELD}",
                field=FIELD,
            )
    return merged(ours | secured, users)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _number(value: Any, name: str) -> int:
    try:
        return int(value, 0) if isinstance(value, str) else int(value)
    except (ValueError, OverflowError):
        message = f"{FIELD} sets {name} to {shown(value)}, which is not a whole number"
    raise ConfigError(message, field=FIELD)


def is_kip_848(properties: Mapping[str, Any]) -> bool:
    """Whether a consumer's properties choose the newer group protocol."""
    return str(properties.get("group.protocol", "classic")).lower() == "consumer"


class RetryBackoff(NamedTuple):
    """When librdkafka tries a request again by itself, in seconds after the answer that it did not like."""

    shortest: float  #: the first time, at the earliest
    longest: float  #: the second and last time, at the latest


def retry_backoff(config: ConsumerGroupConfig) -> RetryBackoff:
    """The backoff of a consumer's requests: doubled for the second try, and up to 20 % more or less."""
    properties = consumer_properties(config)
    name, name_of_longest = "retry.backoff.ms", "retry.backoff.max.ms"
    first = _number(properties.get(name, _RETRY_BACKOFF_MS), name)
    longest = _number(properties.get(name_of_longest, _RETRY_BACKOFF_MAX_MS), name_of_longest)
    return RetryBackoff(min(0.8 * first, longest) / 1000, min(1.2 * 2 * first, longest) / 1000)


def refused(error: BaseException) -> ConfigError:
    """The error for properties that librdkafka refuses, from what making the client has raised."""
    first = error.args[0] if error.args else error
    # A KafkaError, in a KafkaException; else the text of a TypeError or ValueError.
    reason = first.str() if hasattr(first, "str") else str(first)
    return ConfigError(f"librdkafka refused the configuration: {reason}")
