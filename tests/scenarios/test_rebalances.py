"""Members come and go, by every group protocol: nothing is handled twice, and all is committed.

The embedded broker refuses commits during a rebalance of the classic protocol, and takes a session timeout
for each. So those run on Apache Kafka alone.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Message, Producer, ProducerConfig, State
from dp_kafka.health import CheckState, Status
from tests.looking import eventually
from tests.scenarios.conftest import Kafka
from tests.sending import ready

PARTITIONS = 4
CONSUME_TIMEOUT = 3.1
PATIENCE = 20.0
#: Of members that must not give up on what is in hand, though the process stands still in a rebalance.
PATIENT = {"message_consume_timeout": PATIENCE}

EAGER = {"partition.assignment.strategy": "roundrobin", "heartbeat.interval.ms": 200}
COOPERATIVE = {"partition.assignment.strategy": "cooperative-sticky", "heartbeat.interval.ms": 200}
KIP_848 = {"group.protocol": "consumer"}


def on(kind: str, *protocols: tuple[str, dict[str, Any]]) -> list[Any]:
    """Parameters for both fixtures: the kind of Kafka, and the properties of the members."""
    marks = [pytest.mark.kafka, pytest.mark.timeout(240)] if kind == "apache" else []
    return [pytest.param(kind, each, marks=marks, id=f"{kind}-{name}") for name, each in protocols]


every_protocol = pytest.mark.parametrize(
    ("kafka", "protocol"),
    [
        *on("embedded", ("KIP-848", KIP_848)),
        *on("apache", ("eager", EAGER), ("cooperative", COOPERATIVE), ("KIP-848", KIP_848)),
    ],
    indirect=["kafka"],
)
#: Its static members are those of Apache Kafka only in the newer protocol.
every_static_protocol = pytest.mark.parametrize(
    ("kafka", "protocol"),
    [*on("embedded", ("KIP-848", KIP_848)), *on("apache", ("eager", EAGER), ("KIP-848", KIP_848))],
    indirect=["kafka"],
)


class Service:
    """A topic, a producer, and members of one group that come and go; every handling is recorded."""

    def __init__(self, kafka: Kafka, protocol: dict[str, Any], partitions: int) -> None:
        self.kafka, self.protocol, self.partitions = kafka, protocol, partitions
        self.topic = kafka.create_topic(partitions)
        self._stack = ExitStack()
        self._producer = self._stack.enter_context(
            ready(Producer(ProducerConfig(kafka.broker_addrs, self.topic)))
        )
        self.sent = 0
        #: Who handled which number, in the order of the ends; guarded by the condition.
        self.handled: list[tuple[str, int]] = []
        #: Numbers that handlers have begun with.
        self.begun: set[int] = set()
        self._condition = threading.Condition()
        #: Handlers wait for it with every message.
        self.go_on = threading.Event()
        self.go_on.set()

    def member(self, name: str, **config: Any) -> ConsumerGroup:
        """A member that is not started."""
        librdkafka = {**self.protocol, "fetch.wait.max.ms": 10, **config.pop("librdkafka", {})}
        config.setdefault("message_consume_timeout", CONSUME_TIMEOUT)
        group = ConsumerGroup(
            ConsumerGroupConfig(
                self.kafka.broker_addrs,
                self.topic,
                self.topic,
                num_workers=self.partitions,
                librdkafka=librdkafka,
                **config,
            )
        )
        self._stack.callback(group.close, timeout=10)

        def handle(_worker: int, message: Message) -> None:
            number = int(message.data or b"-1")
            with self._condition:
                self.begun.add(number)
                self._condition.notify_all()
            assert self.go_on.wait(2 * PATIENCE)
            with self._condition:
                self.handled.append((name, number))
                self._condition.notify_all()

        group.register_handler(handle)
        return group

    def send(self, count: int) -> None:
        for _ in range(count):
            self._producer.send_bytes(b"%d" % self.sent, partition=self.sent % self.partitions)
            self.sent += 1
        assert self._producer.flush(PATIENCE) == 0

    def wait_handled(self) -> None:
        with self._condition:
            done = self._condition.wait_for(lambda: len(self.handled) >= self.sent, PATIENCE)
            assert done, f"{len(self.handled)} of {self.sent} were handled: {self.handled}"

    def wait_begun(self, count: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.begun) >= count, PATIENCE), self.begun

    def check(self) -> None:
        """Each message was handled once, and all is committed."""
        assert Counter(number for _, number in self.handled) == Counter(range(self.sent))
        ends = self.kafka.ends(self.topic, self.partitions)

        def committed() -> dict[int, int]:
            found = self.kafka.committed(self.topic, self.partitions)
            return {partition: max(0, offset) for partition, offset in found.items()}

        eventually(committed, ends)

    def close(self) -> None:
        self.go_on.set()
        self._stack.close()


@pytest.fixture
def services() -> Iterator[list[Service]]:
    made: list[Service] = []
    yield made
    for service in made:
        service.close()


@pytest.fixture
def service(kafka: Kafka, services: list[Service], protocol: dict[str, Any]) -> Service:
    services.append(Service(kafka, protocol, PARTITIONS))
    return services[0]


def owned(group: ConsumerGroup) -> set[int]:
    session = group._poller.session
    return set() if session is None else set(session.lanes)


def served(group: ConsumerGroup) -> int:
    """How many rebalance callbacks the member has had in this session."""
    membership = group._poller.membership
    assert membership is not None
    return membership.rebalances.served


def is_giving_up(group: ConsumerGroup) -> bool:
    """Whether a rebalance waits for messages in the hand of this member."""
    session = group._poller.session
    return session is not None and any(
        lane.phase.value == "draining" for lane in list(session.lanes.values())
    )


def are_paused(group: ConsumerGroup) -> bool:
    """Whether all partitions of this member are paused on its client."""
    session = group._poller.session
    return session is not None and all(lane.paused for lane in list(session.lanes.values()))


def consuming(group: ConsumerGroup) -> ConsumerGroup:
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    return group


@every_protocol
def test_messages_in_hand_are_finished_and_committed_before_their_partitions_go(service: Service) -> None:
    """A second member comes while the first has a message of every partition in hand; then the first goes."""
    first, second = service.member("first", **PATIENT), service.member("second", **PATIENT)
    consuming(first)
    eventually(lambda: len(owned(first)), PARTITIONS)
    service.go_on.clear()
    service.send(3 * PARTITIONS)
    service.wait_begun(PARTITIONS)
    second.start()
    eventually(lambda: is_giving_up(first))
    assert owned(second) == set(), "partitions went before what was in hand of them was finished"
    service.go_on.set()
    eventually(lambda: (len(owned(first)), len(owned(second))), (2, 2))
    service.send(2 * PARTITIONS)
    service.wait_handled()
    assert {name for name, _ in service.handled} == {"first", "second"}
    assert first.stop_and_wait(PATIENCE)
    eventually(lambda: len(owned(second)), PARTITIONS)
    service.send(PARTITIONS)
    service.wait_handled()
    assert {name for name, _ in service.handled[-PARTITIONS:]} == {"second"}
    assert second.close(timeout=PATIENCE) == 0
    service.check()


@every_static_protocol
def test_a_static_member_comes_back_to_its_partitions_without_a_rebalance(service: Service) -> None:
    """`group.instance.id`: the other member hears nothing of a restart that is over within the session."""
    static = {"group.instance.id": "one"}
    first, other = service.member("first", librdkafka=static), service.member("other")
    consuming(first)
    consuming(other)
    eventually(lambda: (len(owned(first)), len(owned(other))), (2, 2))
    mine = owned(first)
    service.send(PARTITIONS)
    service.wait_handled()
    rebalances = served(other)
    assert first.stop_and_wait(PATIENCE)
    service.send(PARTITIONS)
    consuming(first)
    eventually(lambda: owned(first), mine)
    service.wait_handled()
    assert served(other) == rebalances, "the restart of a static member cost a rebalance"
    for group in (first, other):
        assert group.close(timeout=PATIENCE) == 0
    service.check()


@every_protocol
def test_a_member_without_partitions_is_healthy_and_stops_and_starts(
    kafka: Kafka, services: list[Service], protocol: dict[str, Any]
) -> None:
    """Two members, one partition."""
    service = Service(kafka, protocol, 1)
    services.append(service)
    groups = [service.member("first"), service.member("second")]
    for group in groups:
        consuming(group)
    eventually(lambda: sorted(len(owned(group)) for group in groups), [0, 1])
    idle = next(group for group in groups if not owned(group))
    for _ in range(2):
        eventually(lambda: idle.state, State.CONSUMING)
        state = CheckState()
        idle.checker(state)
        assert state.status is Status.OK
        assert idle.stuck_or_dead() == []
        assert idle.stop_and_wait(PATIENCE)
        assert idle.state is State.STOPPED
        consuming(idle)
    service.send(3)
    service.wait_handled()
    for group in groups:
        assert group.close(timeout=PATIENCE) == 0
    service.check()


@every_protocol
def test_a_partition_that_was_paused_goes_on_when_it_comes_back(service: Service) -> None:
    """librdkafka keeps a partition paused through its loss and return; who gets it back knows of no pause."""
    first = service.member("first", max_buffered_messages=8, **PATIENT)
    consuming(first)
    eventually(lambda: len(owned(first)), PARTITIONS)
    service.go_on.clear()
    service.send(20 * PARTITIONS)
    eventually(lambda: are_paused(first))
    other = service.member("second", **PATIENT)
    other.start()
    eventually(lambda: is_giving_up(first))
    service.go_on.set()
    eventually(lambda: (len(owned(first)), len(owned(other))), (2, 2))
    service.wait_handled()
    assert other.close(timeout=PATIENCE) == 0
    eventually(lambda: len(owned(first)), PARTITIONS)
    service.send(2 * PARTITIONS)
    service.wait_handled()
    assert first.close(timeout=PATIENCE) == 0
    service.check()


@every_protocol
def test_a_handler_that_is_longer_than_max_poll_interval_keeps_the_group(service: Service) -> None:
    """The poll thread goes on polling, so no member is thrown out for a slow handler."""
    group = service.member("slow", librdkafka={"max.poll.interval.ms": 3_100})
    consuming(group)
    eventually(lambda: len(owned(group)), PARTITIONS)
    rebalances = served(group)
    service.go_on.clear()
    service.send(1)
    service.wait_begun(1)
    assert not service.go_on.wait(4.5)
    service.go_on.set()
    service.wait_handled()
    assert served(group) == rebalances
    assert group.state is State.CONSUMING
    assert group.close(timeout=PATIENCE) == 0
    assert not [error for error in group.channels.errors if "MAX_POLL" in str(error)]
    service.check()
