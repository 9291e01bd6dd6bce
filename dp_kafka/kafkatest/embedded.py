"""Owns the embedded cluster: Kafka brokers on loopback ports of this process, for tests and demos.

The brokers are librdkafka's mock cluster, which the confluent-kafka package carries along. They speak Kafka's
protocol over TCP, so clients of this process and of any other reach them at `broker_addrs`; nothing of a
client is replaced.

Guarantees:
- every method may be called from any thread, and returns without waiting for any client;
- `close()` may be called any number of times, from any thread, and waits for calls in progress;
- an object that is dropped, or still open when the interpreter ends, is closed then;
- after `os.fork()` the cluster stays the parent's: the child can reach it over TCP but not control or end it.

What differs from Apache Kafka, and shows in tests:
- a partition keeps its last 5 MiB or 100,000 batches, whatever is configured;
- a fetch that finds nothing waits its whole `fetch.wait.max.ms`, also when a message arrives meanwhile;
- a rebalance of a group that is not new takes the members' `session.timeout.ms` less a second, and about one
  heartbeat with `group.protocol=consumer`;
- members of a group must prefer the same assignment strategy: librdkafka aborts the process otherwise;
- idempotent producers are not deduplicated, and read_committed consumers see aborted transactions;
- there is no TLS, SASL, ACL, topic administration, or search for offsets by time.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Literal, NamedTuple

from dp_kafka.kafkatest._arguments import (
    INT16_MAX,
    INT64_MAX,
    MAX_PARTITIONS,
    check_int,
    check_partition,
    check_topic,
    encode,
    milliseconds,
)
from dp_kafka.kafkatest._librdkafka import EmbeddedClusterError, Librdkafka, load
from dp_kafka.kafkatest._mock_cluster import MockCluster
from dp_kafka.kafkatest._protocol import (
    DISCONNECT,
    ErrorSpec,
    api_key,
    api_name,
    error_code,
    injectable_since,
)

__all__ = ["DISCONNECT", "EmbeddedCluster", "EmbeddedClusterError", "LoggedRequest"]

_ALL_BROKERS = _NO_BROKER = -1
_MAX_BROKERS = 100
_TOPIC_ERROR_SINCE = (2, 10, 0)
_PARTITION_REQUESTS = (0, 1)  # Produce and Fetch
_HEARTBEAT_INTERVAL = 0.1  # seconds; the protocol's usual 3 s would be the time of each rebalance
_MAX_REPLICAS = 3  # as many as a topic has that a client's request creates


class LoggedRequest(NamedTuple):
    """A request that reached a broker of an `EmbeddedCluster`.

    `broker` is its id, `api_name` Kafka's name of the request, as "OffsetCommit", and `timestamp` is in
    seconds on the clock of `time.monotonic()`.
    """

    broker: int
    api_name: str
    timestamp: float


class EmbeddedCluster:
    """`brokers` Kafka brokers, numbered from 1, that run until `close()` or the end of the `with` block.

    Raises EmbeddedClusterError, also from every method, when librdkafka cannot be reached on this platform,
    when an argument makes no sense, and when the cluster is closed. `broker_addrs` ("host:port", one for each
    broker) and `bootstrap_servers` (the same, joined by commas) stay readable after `close()`.
    """

    def __init__(self, brokers: int = 1) -> None:
        check_int("brokers", brokers, 1, _MAX_BROKERS)
        self._brokers = brokers
        self._mock = MockCluster(load(), brokers)
        self._finalizer = weakref.finalize(self, self._mock.destroy)
        # The next three are guarded by _mock.in_use(), as they change together with the cluster.
        self._topics: dict[str, tuple[int, int]] = {}  # by create_topic(): partitions, replication factor
        self._own_errors: set[tuple[int, int]] = set()  # (broker, request key) with a list of its own
        self._tracking = False
        self.broker_addrs: list[str] = [f"{host}:{port}" for host, port in self._mock.addresses]
        self.bootstrap_servers: str = ",".join(self.broker_addrs)
        self.set_group_rebalance_delay(0)
        if self.has_consumer_protocol:
            self.set_consumer_heartbeat_interval(_HEARTBEAT_INTERVAL)
        if self._mock.lib.has("rd_kafka_mock_set_controller_id"):
            self.set_controller(1)  # without one, admin requests wait for it until their timeout

    def __enter__(self) -> EmbeddedCluster:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EmbeddedCluster {self.bootstrap_servers} {'open' if self._mock.is_open else 'closed'}>"

    def close(self) -> None:
        """End the brokers and free their ports; clients see disconnects. Does nothing when closed already."""
        self._mock.destroy()

    # -- topics ---------------------------------------------------------------------------------------------

    def create_topic(self, name: str, partitions: int = 1, replication_factor: int | None = None) -> None:
        """Create a topic with `replication_factor` (by default 3, or all brokers if fewer) replicas each.

        A topic that this method has made in the same shape is left as it is; any other topic of that name
        is an error, and so is one that a client's request has created.
        """
        check_topic(name)
        check_int("partitions", partitions, 1, MAX_PARTITIONS)
        replicas = min(_MAX_REPLICAS, self._brokers) if replication_factor is None else replication_factor
        check_int("replication_factor", replicas, 1, self._brokers)
        with self._mock.in_use():
            if self._topics.get(name) == (partitions, replicas):
                return
            self._mock.command("rd_kafka_mock_topic_create", name.encode(), partitions, replicas)
            self._topics[name] = (partitions, replicas)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and its records; from then on requests for it fail. Needs librdkafka 2.15."""
        check_topic(name)
        with self._mock.in_use():
            self._mock.command("rd_kafka_mock_topic_delete", name.encode())
            self._topics.pop(name, None)

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Drop the records before `before_offset`, which becomes the first one. Needs librdkafka 2.15."""
        check_partition(topic, partition)
        check_int("before_offset", before_offset, 0, INT64_MAX)
        name = "rd_kafka_mock_partition_delete_records"
        self._mock.command(name, topic.encode(), partition, before_offset)

    def set_topic_error(self, topic: str, error: ErrorSpec | None) -> None:
        """Make metadata requests answer `error` for the topic, until None is set. Creates a missing topic.

        Needs librdkafka 2.10, as older clients crash at such an answer, which has partitions besides.
        """
        check_topic(topic)
        self._mock.lib.require(_TOPIC_ERROR_SINCE, "set_topic_error()")
        code = 0 if error is None else error_code(error)
        self._mock.command("rd_kafka_mock_topic_set_error", topic.encode(), code)

    # -- brokers --------------------------------------------------------------------------------------------

    def broker_down(self, broker: int) -> None:
        """Cut the broker's connections and refuse new ones. Leaders and coordinators stay where they are."""
        self._mock.command("rd_kafka_mock_broker_set_down", self._broker(broker))

    def broker_up(self, broker: int) -> None:
        """Accept connections again, at the same address."""
        self._mock.command("rd_kafka_mock_broker_set_up", self._broker(broker))

    def set_latency(self, seconds: float, broker: int | None = None) -> None:
        """Delay every answer of one broker, or of all, by `seconds` (whole milliseconds); 0 ends it."""
        which = _ALL_BROKERS if broker is None else self._broker(broker)
        self._mock.command("rd_kafka_mock_broker_set_rtt", which, milliseconds("seconds", seconds))

    def set_rack(self, rack: str, broker: int | None = None) -> None:
        """Set the rack (broker.rack) that metadata gives for one broker, or for all."""
        which = _ALL_BROKERS if broker is None else self._broker(broker)
        self._mock.command("rd_kafka_mock_broker_set_rack", which, encode("rack", rack))

    def set_leader(self, topic: str, partition: int, broker: int | None) -> None:
        """Make `broker` the leader of a partition; None leaves it without one. Creates a missing topic."""
        check_partition(topic, partition)
        leader = _NO_BROKER if broker is None else self._broker(broker)
        self._mock.command("rd_kafka_mock_partition_set_leader", topic.encode(), partition, leader)

    def set_follower(self, topic: str, partition: int, broker: int | None) -> None:
        """Have consumers read a partition from this replica; None ends that. Creates a missing topic."""
        check_partition(topic, partition)
        follower = _NO_BROKER if broker is None else self._broker(broker)
        self._mock.command("rd_kafka_mock_partition_set_follower", topic.encode(), partition, follower)

    def set_coordinator(self, key: str, broker: int, kind: Literal["group", "transaction"] = "group") -> None:
        """Make `broker` the coordinator of the group, or of the transactional id, `key`."""
        if kind not in ("group", "transaction"):
            raise EmbeddedClusterError(f"kind is 'group' or 'transaction', not {kind!r}")
        args = kind.encode(), encode("key", key), self._broker(broker)
        self._mock.command("rd_kafka_mock_coordinator_set", *args)

    def set_controller(self, broker: int) -> None:
        """Say in metadata that `broker` is the controller; 1 at first. Needs librdkafka 2.16."""
        self._mock.call("rd_kafka_mock_set_controller_id", self._broker(broker))

    def set_api_versions(self, request: str | int, versions: tuple[int, int] | None) -> None:
        """Answer these versions of a request only, from the first to the second, as older brokers do.

        None: not at all. Clients hear of it when they connect.
        """
        lowest, highest = (-1, -1) if versions is None else versions
        for version in versions or ():
            check_int("version", version, 0, INT16_MAX)
        self._mock.command("rd_kafka_mock_set_apiversion", api_key(request), lowest, highest)

    # -- errors on purpose ----------------------------------------------------------------------------------

    def inject_errors(
        self,
        request: str | int,
        *errors: ErrorSpec | tuple[ErrorSpec, float],
        broker: int | None = None,
    ) -> None:
        """Answer the next requests of a kind ("Produce", "JoinGroup", …) with `errors`, one each, in order.

        An error is a name, a code or the client's object; `DISCONNECT` closes the connection; "NO_ERROR" lets
        a request succeed. As a pair (error, seconds) the answer is also that late, which needs `broker` in a
        cluster of several. Without `broker` the next requests anywhere count, with it those to that broker.
        """
        key = api_key(request)
        pairs = [_error_and_delay(error) for error in errors]
        if not pairs:
            raise EmbeddedClusterError("no error was given: to take errors back use clear_errors()")
        since = injectable_since(key, [code for code, _ in pairs])
        self._mock.lib.require(since, f"this for {api_name(key)}")
        if broker is not None:
            broker = self._broker(broker)
        elif any(delay for _, delay in pairs):
            broker = self._only_broker("a delayed error belongs to one broker")
        with self._mock.in_use():
            if broker is None and any(own_key == key for _, own_key in self._own_errors):
                # The mock looks at a broker's own list alone once there is one, even when it is empty.
                broker = self._only_broker(f"{api_name(key)} errors were given to one broker before")
            if broker is None:
                codes = (ctypes.c_int * len(pairs))(*(code for code, _ in pairs))
                self._mock.call("rd_kafka_mock_push_request_errors_array", key, len(pairs), codes)
                return
            # All in one call: between two of them a request could find the list empty and succeed.
            numbers = [ctypes.c_int(number) for pair in pairs for number in pair]
            name = "rd_kafka_mock_broker_push_request_error_rtts"
            self._mock.command(name, broker, key, len(pairs), *numbers)
            self._own_errors.add((broker, key))

    def inject_partition_errors(
        self, topic: str, partition: int, request: str | int, *errors: ErrorSpec
    ) -> None:
        """Answer for one partition with `errors` in the next requests of a kind. Needs librdkafka 2.15.

        Other partitions of the same request are not affected. Creates a missing topic.
        """
        check_partition(topic, partition)
        key = api_key(request)
        if not errors:
            raise EmbeddedClusterError("no error was given")
        if key not in _PARTITION_REQUESTS:
            known = ", ".join(api_name(one) for one in _PARTITION_REQUESTS)
            raise EmbeddedClusterError(f"errors of one partition can be injected for {known} only")
        codes = [ctypes.c_int(error_code(error)) for error in errors]
        name = "rd_kafka_mock_partition_push_request_errors"
        self._mock.command(name, topic.encode(), partition, key, len(codes), *codes)

    def clear_errors(self, request: str | int) -> None:
        """Take back the errors injected for `request` that no request has met yet.

        Those injected at one broker, or with a delay, cannot be taken back: if any is left this raises.
        """
        key = api_key(request)
        self._mock.call("rd_kafka_mock_clear_request_errors", key)
        left = {broker: self.pending_errors(broker, key) for broker in range(1, self._brokers + 1)}
        if any(left.values()):
            raise EmbeddedClusterError(
                f"errors injected at one broker stay until a request meets them, left per broker: {left}",
                log_data={"pending": left},
            )

    def pending_errors(self, broker: int, request: str | int) -> int:
        """How many errors injected at `broker`, or with a delay, no request has met yet."""
        count = ctypes.c_size_t(0)
        name = "rd_kafka_mock_broker_error_stack_cnt"
        self._mock.command(name, self._broker(broker), api_key(request), ctypes.byref(count))
        return count.value

    # -- groups ---------------------------------------------------------------------------------------------

    @property
    def has_consumer_protocol(self) -> bool:
        """Whether it serves groups of `group.protocol=consumer` (KIP-848): from librdkafka 2.8 on."""
        return self._mock.lib.has("rd_kafka_mock_set_group_consumer_heartbeat_interval_ms")

    def set_group_rebalance_delay(self, seconds: float) -> None:
        """Set how long an empty group waits for members (group.initial.rebalance.delay.ms); 0 at first."""
        name = "rd_kafka_mock_group_initial_rebalance_delay_ms"
        self._mock.call(name, milliseconds("seconds", seconds))

    def set_consumer_session_timeout(self, seconds: float) -> None:
        """Set the session timeout of `group.protocol=consumer` groups (KIP-848). Needs librdkafka 2.8."""
        name = "rd_kafka_mock_set_group_consumer_session_timeout_ms"
        self._mock.call(name, milliseconds("seconds", seconds))

    def set_consumer_heartbeat_interval(self, seconds: float) -> None:
        """Set how often members of `group.protocol=consumer` groups report; 0.1 at first.

        A rebalance takes about that long. Needs librdkafka 2.8.
        """
        name = "rd_kafka_mock_set_group_consumer_heartbeat_interval_ms"
        self._mock.call(name, milliseconds("seconds", seconds))

    def assign_consumer_group(self, group: str, assignment: Mapping[str, Iterable[tuple[str, int]]]) -> None:
        """Give the members of a `group.protocol=consumer` group these (topic, partition) pairs, by member id.

        Needs librdkafka 2.8. The group must have had a member already, else nothing happens.
        """
        lib = self._mock.lib
        group_id = encode("group", group)
        members = [encode("member id", member) for member in assignment]
        partitions = [_checked_pairs(pairs) for pairs in assignment.values()]
        new_target = lib.function("rd_kafka_mock_cgrp_consumer_target_assignment_new")
        destroy_target = lib.function("rd_kafka_mock_cgrp_consumer_target_assignment_destroy")
        lists = [_native_list(lib, pairs) for pairs in partitions]
        count = len(members)
        target = new_target((ctypes.c_char_p * count)(*members), count, (ctypes.c_void_p * count)(*lists))
        for native_list in lists:  # C has copied them
            lib.function("rd_kafka_topic_partition_list_destroy")(native_list)
        try:
            self._mock.call("rd_kafka_mock_cgrp_consumer_target_assignment", group_id, target)
        finally:
            destroy_target(target)

    # -- request log ----------------------------------------------------------------------------------------

    def track_requests(self) -> None:
        """Start to log requests, with an empty log. The log grows until `clear_requests()`."""
        with self._mock.in_use():
            self._mock.call("rd_kafka_mock_start_request_tracking")
            self._tracking = True

    def requests(self) -> list[LoggedRequest]:
        """The requests that the brokers have received since `track_requests()` or `clear_requests()`."""
        lib = self._mock.lib
        count = ctypes.c_size_t(0)
        with self._mock.in_use():
            if not self._tracking:
                raise EmbeddedClusterError("requests are not logged yet: call track_requests() first")
            array = self._mock.call("rd_kafka_mock_get_requests", ctypes.byref(count))
        if not array:
            return []
        broker, key, microseconds = (
            lib.function(f"rd_kafka_mock_request_{field}") for field in ("id", "api_key", "timestamp")
        )
        try:
            return [
                LoggedRequest(broker(one), api_name(key(one)), microseconds(one) / 1e6)
                for one in array[: count.value]
            ]
        finally:
            lib.function("rd_kafka_mock_request_destroy_array")(array, count)

    def clear_requests(self) -> None:
        """Empty the log of requests."""
        self._mock.call("rd_kafka_mock_clear_requests")

    # -- inside ---------------------------------------------------------------------------------------------

    def _broker(self, broker: int) -> int:
        check_int("broker", broker, 1, self._brokers)
        return broker

    def _only_broker(self, why: str) -> int:
        if self._brokers > 1:
            raise EmbeddedClusterError(f"{why}: say which of the {self._brokers} brokers with broker=")
        return 1


def _error_and_delay(error: ErrorSpec | tuple[ErrorSpec, float]) -> tuple[int, int]:
    if isinstance(error, tuple):
        if len(error) != 2:
            raise EmbeddedClusterError(f"a delayed error is a pair (error, seconds), not {error!r}")
        code, delay = error_code(error[0]), milliseconds("seconds", error[1])
        if delay and code == error_code(DISCONNECT):
            raise EmbeddedClusterError("a disconnect happens at once, it cannot be delayed")
        return code, delay
    return error_code(error), 0


def _checked_pairs(pairs: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    checked = list(pairs)
    for topic, partition in checked:
        check_partition(topic, partition)
    return checked


def _native_list(lib: Librdkafka, pairs: list[tuple[str, int]]) -> int:
    """A C list of (topic, partition) pairs; whoever calls this destroys it."""
    made: int = lib.function("rd_kafka_topic_partition_list_new")(len(pairs))
    for topic, partition in pairs:
        lib.function("rd_kafka_topic_partition_list_add")(made, topic.encode(), partition)
    return made
