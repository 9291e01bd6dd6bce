"""Contract 15: the checkers of producer and consumer group, on real brokers that are up, away or mute."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, NotInitialisedError, Producer, ProducerConfig
from dp_kafka.errors import HealthCheckError
from dp_kafka.health import BrokerCheck, CheckState, Status
from dp_kafka.health.lookup import Found
from dp_kafka.health.probe import Answer
from dp_kafka.kafkatest import EmbeddedCluster
from tests.sending import ready
from tests.unreachable import dead_address, dropping_address, silent_address
from tests.waiting import PATIENCE

#: Seconds for a check with brokers that do not answer: all of it, however many they are.
DEADLINE = 3.0
#: Seconds for a check of brokers that all answer or refuse: it ends with their answers.
LONG = 10.0

Client = Producer | ConsumerGroup
MakeClient = Callable[..., Client]


@pytest.fixture(scope="module")
def three() -> Iterator[EmbeddedCluster]:
    """Three brokers, which every test leaves up."""
    with EmbeddedCluster(brokers=3) as embedded:
        yield embedded


@pytest.fixture
def topic(three: EmbeddedCluster) -> str:
    name = f"health-{uuid.uuid4().hex[:8]}"
    three.create_topic(name)
    return name


@pytest.fixture(params=["producer", "consumer-group"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def client(kind: str) -> Iterator[MakeClient]:
    """Makes a client of the kind, initialised: `client(addresses, topic, min_brokers_healthy=2)`."""
    with contextlib.ExitStack() as stack:

        def make(
            addresses: Sequence[str],
            topic: str,
            check: dict[str, Any] | None = None,
            initialised: bool = True,
            **config: Any,
        ) -> Client:
            made: Client
            settings = {"timeout": LONG, **(check or {})}
            if kind == "producer":
                producer = ProducerConfig(list(addresses), topic, **config)
                made = Producer(producer, broker_check=BrokerCheck(producer, **settings))
            else:
                group = ConsumerGroupConfig(list(addresses), topic, "group", **config)
                made = ConsumerGroup(group, broker_check=BrokerCheck(group, **settings))
            stack.callback(made.close, timeout=2)
            return ready(made) if initialised else made

        yield make


def checked(client: Client) -> tuple[Status | None, str]:
    state = CheckState()
    client.checker(state)
    assert state.status_code == 0, "contract 15.10"
    return state.status, state.message


HEALTHY = {"producer": "kafka producer is healthy", "consumer-group": "kafka consumer group is healthy"}


def test_15_1_a_client_that_is_not_initialised_is_a_warning(kind: str, client: MakeClient) -> None:
    """contract 15.1"""
    with dead_address() as address:
        made = client([address], "t", initialised=False)
        assert checked(made) == (Status.WARNING, f"kafka {kind} is not initialised")
        with pytest.raises(NotInitialisedError):
            made.initialise()


def test_15_2_a_state_that_refuses_the_update_is_named(
    kind: str, client: MakeClient, three: EmbeddedCluster, topic: str
) -> None:
    """contract 15.2"""

    class Refusing(CheckState):
        def update(self, status: Status | str, message: str, status_code: int = 0) -> None:
            raise RuntimeError("no more room")

    made = client(three.broker_addrs, topic)
    with pytest.raises(
        HealthCheckError, match=f"error updating {kind} healthcheck status: no more room"
    ) as caught:
        made.checker(Refusing())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_15_3_a_broker_that_takes_connections_and_does_not_answer_is_not_reachable(
    kind: str, client: MakeClient, three: EmbeddedCluster, topic: str
) -> None:
    """contract 15.3: reachable is who answers a request; a connection may be the kernel's alone"""
    with silent_address() as silent:
        made = client([silent, *three.broker_addrs], topic, check={"timeout": DEADLINE})
        assert checked(made) == (Status.OK, f"broker(s) not reachable at: [{silent}]")


def test_15_4_a_topic_counts_when_it_has_no_error_and_a_partition(
    client: MakeClient, three: EmbeddedCluster, topic: str
) -> None:
    """contract 15.4, and A80: what the brokers say of the topic decides"""
    made = client(three.broker_addrs, topic)
    assert checked(made)[0] is Status.OK
    three.set_topic_error(topic, "TOPIC_AUTHORIZATION_FAILED")
    status, message = checked(made)
    assert status is Status.CRITICAL
    assert message.startswith(f"topic {topic} not available in broker(s): [{' '.join(three.broker_addrs)}]")
    assert "TOPIC_AUTHORIZATION_FAILED" in message, "somebody has to put that right, so it is named"
    three.set_topic_error(topic, None)
    assert checked(made)[0] is Status.OK


def test_15_5_all_healthy_is_ok(kind: str, client: MakeClient, three: EmbeddedCluster, topic: str) -> None:
    """contract 15.5"""
    assert checked(client(three.broker_addrs, topic)) == (Status.OK, HEALTHY[kind])


@pytest.mark.parametrize(("enough", "status"), [(1, Status.OK), (2, Status.OK), (3, Status.CRITICAL)])
def test_15_6_15_7_the_threshold_decides(
    client: MakeClient, three: EmbeddedCluster, topic: str, enough: int, status: Status
) -> None:
    """contract 15.6, 15.7"""
    made = client(three.broker_addrs, topic, min_brokers_healthy=enough)
    three.broker_down(2)
    try:
        assert checked(made) == (status, f"broker(s) not reachable at: [{three.broker_addrs[1]}]")
    finally:
        three.broker_up(2)
    assert checked(made)[0] is Status.OK


def test_15_7_all_brokers_away(client: MakeClient, own_cluster: EmbeddedCluster) -> None:
    """contract 15.7, 15.8: the topic is not spoken of when nobody was there to ask"""
    own_cluster.create_topic("t")
    made = client(own_cluster.broker_addrs, "t")
    assert checked(made)[0] is Status.OK
    own_cluster.broker_down(1)
    assert checked(made) == (Status.CRITICAL, f"broker(s) not reachable at: [{own_cluster.broker_addrs[0]}]")


def test_15_8_a_missing_topic(client: MakeClient, three: EmbeddedCluster) -> None:
    """contract 15.8"""
    made = client(three.broker_addrs, "missing")
    addresses = " ".join(three.broker_addrs)
    assert checked(made) == (Status.CRITICAL, f"topic missing not available in broker(s): [{addresses}]")


def test_15_8_unreachable_first_then_the_missing_topic(client: MakeClient, three: EmbeddedCluster) -> None:
    """contract 15.8"""
    first, second, third = three.broker_addrs
    with dead_address() as dead:
        made = client([first, dead, second, third], "missing")
        assert checked(made) == (
            Status.CRITICAL,
            f"broker(s) not reachable at: [{dead}], "
            f"topic missing not available in broker(s): [{first} {second} {third}]",
        )


def test_15_8_brokers_that_do_not_say_whether_the_topic_is_there() -> None:
    """It may well be: what is wrong is told, too."""
    with silent_address() as address:
        config = ProducerConfig([address], "topic")
        check = BrokerCheck(config, timeout=DEADLINE, probe=lambda address, until: Answer())
        status, message = check.verdict()
        check.close()
    assert status is Status.CRITICAL
    assert message == (
        f"topic topic not available in broker(s): [{address}] "
        "(no answer in time to the question whether the topic is there)"
    )


def test_15_9_no_state_is_an_error(client: MakeClient, three: EmbeddedCluster, topic: str) -> None:
    """contract 15.9"""
    made = client(three.broker_addrs, topic)
    with pytest.raises(TypeError, match="state must not be None"):
        made.checker(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="CheckState, but got dict"):
        made.checker({})  # type: ignore[arg-type]


def test_15_10_the_service_is_called_kafka_and_the_status_code_is_0() -> None:
    """contract 15.10"""
    state = CheckState()
    assert (state.name, state.status_code) == ("Kafka", 0)


def test_15_11_the_check_of_the_brokers_can_be_had_without_a_client(
    three: EmbeddedCluster, topic: str, kind: str
) -> None:
    """contract 15.11"""
    config = (
        ProducerConfig(three.broker_addrs, topic)
        if kind == "producer"
        else ConsumerGroupConfig(three.broker_addrs, topic, "group")
    )
    check = BrokerCheck(config, timeout=LONG)
    state = CheckState("brokers")
    check(state)
    assert (state.status, state.message) == (Status.OK, HEALTHY[kind])
    with pytest.raises(TypeError, match="state must not be None"):
        check(None)  # type: ignore[arg-type]
    check.close()


def test_a_closed_client_is_critical_and_asks_nobody(
    kind: str, client: MakeClient, three: EmbeddedCluster, topic: str
) -> None:
    """And A26: nothing is opened again."""
    asked: list[str] = []

    def probe(address: str, until: float) -> Answer:
        asked.append(address)
        return Answer()

    made = client(three.broker_addrs, topic, check={"probe": probe})
    assert checked(made)[0] is Status.OK
    asked.clear()
    made.close()
    assert checked(made) == (Status.CRITICAL, f"kafka {kind} is closed")
    assert asked == []


def test_a_client_that_is_closed_in_the_middle_of_a_check_is_critical(
    kind: str, client: MakeClient, three: EmbeddedCluster, topic: str
) -> None:
    inside, closed = threading.Event(), threading.Event()

    def probe(address: str, until: float) -> Answer:
        inside.set()
        closed.wait(PATIENCE)
        return Answer()

    settings = {"probe": probe}
    made = client(three.broker_addrs, topic, check=settings)
    found: list[tuple[Status | None, str]] = []
    checking = threading.Thread(target=lambda: found.append(checked(made)))
    checking.start()
    assert inside.wait(PATIENCE)
    made.close()
    closed.set()
    checking.join(PATIENCE)
    assert found == [(Status.CRITICAL, f"kafka {kind} is closed")]


def test_a_check_takes_its_deadline_at_most_and_the_topic_is_looked_up_all_the_same(
    client: MakeClient, three: EmbeddedCluster, topic: str
) -> None:
    """While one address is waited for, the others are asked for the topic."""
    with silent_address() as silent, dropping_address() as dropping:
        addresses = [silent, dropping, *three.broker_addrs]
        made = client(addresses, topic, check={"timeout": DEADLINE}, min_brokers_healthy=3)
        started = time.monotonic()
        status, message = checked(made)
        took = time.monotonic() - started
    assert (status, message) == (Status.OK, f"broker(s) not reachable at: [{silent} {dropping}]")
    assert DEADLINE * 0.9 < took < 2 * DEADLINE, "one deadline for both"


def test_the_topic_is_looked_up_once_for_all_brokers(
    client: MakeClient, three: EmbeddedCluster, topic: str
) -> None:
    class Lookup:
        def __init__(self) -> None:
            self.times = 0
            self.closed = False

        def __call__(self, timeout: float) -> Found:
            assert 0 <= timeout <= LONG
            self.times += 1
            return Found(True)

        def close(self) -> None:
            self.closed = True

    lookup = Lookup()
    made = client(three.broker_addrs, topic, check={"lookup": lookup})
    assert checked(made)[0] is Status.OK
    assert lookup.times == 1
    made.close()
    assert lookup.closed


def test_slow_brokers_are_healthy_once_the_connection_is_there(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    check = BrokerCheck(ConsumerGroupConfig(own_cluster.broker_addrs, "t", "g"), timeout=LONG)
    state = CheckState()
    check(state)
    own_cluster.set_latency(0.5)
    check(state)
    assert (state.status, state.message) == (Status.OK, "kafka consumer group is healthy")
    check.close()


def test_checks_may_overlap(client: MakeClient, three: EmbeddedCluster, topic: str, kind: str) -> None:
    """A probe of the orchestrator and the periodic check, say."""
    made = client(three.broker_addrs, topic)
    found: list[tuple[Status | None, str]] = []
    threads = [
        threading.Thread(target=lambda: found.extend(checked(made) for _ in range(5))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [(Status.OK, HEALTHY[kind])] * 20


def test_why_a_broker_is_not_reachable_is_logged_once(
    client: MakeClient, three: EmbeddedCluster, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    with dead_address() as dead:
        made = client([*three.broker_addrs, dead], topic)
        for _ in range(3):
            checked(made)
    lines = [record.getMessage() for record in caplog.records if record.name == "dp_kafka.health"]
    assert lines == [f"broker not reachable address={dead!r} topic={topic!r} problem='Connection refused'"]
