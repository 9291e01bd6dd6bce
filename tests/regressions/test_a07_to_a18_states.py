"""Defects of the original in its life cycle and states, which this library must not have (A7 to A18)."""

from __future__ import annotations

import inspect
import threading
from pathlib import Path
from typing import Any

import pytest

import dp_kafka
from dp_kafka import ClosedError, ConsumerGroup, Message, NotInitialisedError, State
from dp_kafka.health import Status
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.state import TRANSITIONS, StateMachine
from tests.clients import WatchedConsumers
from tests.conftest import (
    INCREMENTAL,
    REJOINING,
    CommittedFunction,
    GroupFactory,
    SendFunction,
    TopicFactory,
)
from tests.unreachable import silent_address
from tests.waiting import PATIENCE, Collected, Logged, consuming, in_thread, wait_entered

AWAY = ["127.0.0.1:1"]


class Gate:
    """A handler that stays in its first message until it is let through."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.handled: Collected[tuple[int, bytes | None]] = Collected()

    def __call__(self, _worker_id: int, message: Message) -> None:
        self.entered.set()
        assert self.opened.wait(PATIENCE)
        self.handled.add((message.partition, message.data))


@pytest.mark.parametrize("how", ["start", "health"])
def test_a07_start_while_stopping_does_not_hang(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, how: str
) -> None:
    """A health flap while a handler is busy and more messages wait: start returns, and is followed."""
    name = topic(partitions=3)
    for partition in range(3):
        send(name, "a", "b", partition=partition)
    group = consumer_group(name, librdkafka=INCREMENTAL)
    gate = Gate()
    group.register_handler(gate)
    group.start()
    assert gate.entered.wait(PATIENCE)

    def flap() -> State:
        if how == "start":
            group.stop()
            group.start()
        else:
            group.on_health_update(Status.WARNING)
            group.on_health_update(Status.OK)
        return group.state

    for _ in range(5):
        assert in_thread(flap).result(PATIENCE) is State.STOPPING
    gate.opened.set()
    assert wait_entered(group, State.CONSUMING, 1)
    seen = gate.handled.wait(6)
    assert sorted(seen) == [(number, value) for number in range(3) for value in (b"a", b"b")]


def test_a08_stop_and_wait_returns_after_the_handlers(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    name = topic(partitions=2)
    for partition in range(2):
        send(name, "a", partition=partition)
    group = consumer_group(name, num_workers=2)
    inside, opened = threading.Barrier(3), threading.Event()
    ended: Collected[int] = Collected()

    def handler(_worker_id: int, message: Message) -> None:
        inside.wait(PATIENCE)
        assert opened.wait(PATIENCE)
        ended.add(message.partition)

    group.register_handler(handler)
    group.start()
    inside.wait(PATIENCE)
    waiting = in_thread(lambda: (group.stop_and_wait(PATIENCE), len(ended.items)))
    assert group.state_wait(State.STOPPING, PATIENCE)
    assert not group.stop_and_wait(timeout=0.2)
    opened.set()
    assert waiting.result(PATIENCE) == (True, 2)
    assert [committed(group.group_name, name, partition) for partition in range(2)] == [1, 1]


def test_a09_stop_and_wait_before_the_first_session_does_not_hang(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory
) -> None:
    """While the coordinator lets nobody join; and other calls go through meanwhile."""
    own_cluster.create_topic("topic")
    own_cluster.inject_errors("JoinGroup", *["COORDINATOR_LOAD_IN_PROGRESS"] * 1_000)
    group = consumer_group("topic", broker_addrs=own_cluster.broker_addrs)
    for number in range(1, 6):
        group.start()
        assert in_thread(lambda: group.stop_and_wait(PATIENCE)).result(PATIENCE)
        assert wait_entered(group, State.STOPPED, number)
    assert group.channels.state.entries(State.CONSUMING) == 0


def test_a10_a_session_without_partitions_stops_and_starts(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    """One partition, two members: one of them has nothing to consume."""
    name = topic()
    config: dict[str, Any] = {"group_name": name, "message_consume_timeout": 3.01, "librdkafka": REJOINING}
    groups = [consumer_group(name, **config) for _ in range(2)]
    for group in groups:
        consuming(group)
    for group in groups:
        assert in_thread(lambda group=group: group.stop_and_wait(PATIENCE)).result(PATIENCE)
        assert group.state is State.STOPPED
    for group in groups:
        in_thread(group.start).result(PATIENCE)
        assert group.state_wait(State.CONSUMING, PATIENCE)


def test_a11_waiting_for_initialising_returns_at_once_and_freezes_nothing(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory
) -> None:
    own_cluster.create_topic("topic")
    own_cluster.broker_down(1)
    group = consumer_group("topic", broker_addrs=own_cluster.broker_addrs, max_retry_period=0.3)
    waiting = [in_thread(lambda: group.state_wait(State.INITIALISING, PATIENCE)) for _ in range(4)]
    assert all(each.result(PATIENCE) for each in waiting)
    own_cluster.broker_up(1)
    assert group.state_wait(State.STOPPED, PATIENCE)


def test_a12_initialise_of_a_closed_group_is_an_error_and_no_hang(consumer_group: GroupFactory) -> None:
    group = consumer_group("topic", broker_addrs=AWAY, min_retry_period=60, max_retry_period=60)
    waiting = in_thread(group.initialise)
    group.close(timeout=PATIENCE)
    with pytest.raises((ClosedError, NotInitialisedError)):
        waiting.result(PATIENCE)
    with pytest.raises(ClosedError, match="cannot be initialised because it is closing"):
        in_thread(group.initialise).result(PATIENCE)
    assert group.state is State.CLOSING


def test_a13_nobody_waits_for_a_call_that_waits_for_the_network(consumer_group: GroupFactory) -> None:
    """The broker takes the connection and says nothing: initialise waits, and everything else goes on."""
    with silent_address() as address:
        group = consumer_group("topic", broker_addrs=[address])
        waiting = in_thread(group.initialise)

        def everything_else() -> tuple[State, bool]:
            group.start()
            group.stop()
            group.channels.errors.qsize()
            group.log_errors()
            group.register_handler(lambda worker_id, message: None)
            assert group.stop_and_wait(timeout=0)
            assert group.stuck_or_dead() == []
            assert repr(group)
            return group.state, group.is_initialised

        assert in_thread(everything_else).result(PATIENCE) == (State.INITIALISING, False)
        assert not waiting.done(), "the test came too late to tell anything"
        group.close(timeout=0.5)
        assert group.state is State.CLOSING
        with pytest.raises((ClosedError, NotInitialisedError)):
            waiting.result(PATIENCE)


@pytest.mark.parametrize("state", [State.INITIALISING, State.STOPPED, State.CLOSING], ids=str)
def test_a14_a_group_with_nothing_to_do_does_nothing(
    topic: TopicFactory, consumer_group: GroupFactory, state: State, logged: Logged
) -> None:
    """It waits to be told: no call of its client, and no line in the log, turn after turn."""
    clients = WatchedConsumers()
    if state is State.INITIALISING:
        group = consumer_group(
            "topic", client_factory=clients, broker_addrs=AWAY, min_retry_period=60, max_retry_period=60
        )
        logged.wait("initialisation failed")
    else:
        group = consumer_group(topic(), client_factory=clients)
        assert group.state_wait(State.STOPPED, PATIENCE)
        if state is State.CLOSING:
            group.close(timeout=PATIENCE)
    calls, lines = clients.total, len(logged.of("initialisation failed"))
    assert not group.state_wait(State.CONSUMING, timeout=0.3)
    assert (clients.total, len(logged.of("initialisation failed"))) == (calls, lines)


def test_a15_nothing_undoes_a_close(
    topic: TopicFactory, consumer_group: GroupFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start and stop on one thread while another closes, again and again: after Closing comes no state."""
    history: dict[StateMachine, list[State]] = {}
    set_state = StateMachine.set

    def recording(machine: StateMachine, new: State) -> None:
        set_state(machine, new)
        history.setdefault(machine, []).append(new)  # under the machine's condition, as it is reentrant

    monkeypatch.setattr(StateMachine, "set", recording)
    name = topic()
    for _ in range(25):
        group = consumer_group(name, librdkafka=INCREMENTAL)
        assert group.channels.initialised.wait(PATIENCE)
        together = threading.Barrier(2)

        def start_and_stop(group: ConsumerGroup = group, together: threading.Barrier = together) -> None:
            together.wait(PATIENCE)
            try:
                while True:
                    group.start()
                    group.stop()
            except ClosedError:
                return

        racing = in_thread(start_and_stop)
        together.wait(PATIENCE)
        assert group.close(timeout=PATIENCE) == 0
        racing.result(PATIENCE)
        assert group.state is State.CLOSING
    for states in history.values():
        assert states.index(State.CLOSING) == len(states) - 1


def test_a16_who_sees_consuming_can_stop_the_session_that_it_belongs_to(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    """The stop waits until the client of that session is closed, each time, however early it comes."""
    clients = WatchedConsumers()
    group = consumer_group(topic(), client_factory=clients, librdkafka=INCREMENTAL)
    assert group.channels.initialised.wait(PATIENCE)
    for cycle in range(1, 11):

        def stop_when_consuming() -> tuple[bool, int]:
            assert group.state_wait(State.CONSUMING, PATIENCE)
            return group.stop_and_wait(PATIENCE), clients.count("close")

        stopping = in_thread(stop_when_consuming)
        group.start()
        assert stopping.result(PATIENCE) == (True, cycle)


def test_a17_who_waits_for_a_state_or_a_message_holds_up_nobody(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, "a")
    group = consuming(consumer_group(name, librdkafka=INCREMENTAL))
    message = group.channels.upstream.get(timeout=PATIENCE)
    for_closing = [in_thread(lambda: group.state_wait(State.CLOSING, PATIENCE)) for _ in range(8)]
    for_release = [in_thread(lambda: message.upstream_done.wait(PATIENCE)) for _ in range(8)]
    stopping = in_thread(lambda: group.stop_and_wait(PATIENCE))
    assert group.state_wait(State.STOPPING, PATIENCE)
    assert not any(each.done() for each in (*for_closing, *for_release, stopping))
    message.release()
    assert all(each.result(PATIENCE) for each in for_release)
    assert stopping.result(PATIENCE)
    consuming(group)
    assert group.close(timeout=PATIENCE) == 0
    assert all(each.result(PATIENCE) for each in for_closing)


def test_a18_the_documentation_of_stop_tells_what_it_does(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    """The original's comments on Stop and StopAndWait stand the wrong way round; a transition is missing."""
    stop, stop_and_wait = inspect.getdoc(ConsumerGroup.stop), inspect.getdoc(ConsumerGroup.stop_and_wait)
    assert stop is not None
    assert stop_and_wait is not None
    assert "returns at once" in stop
    assert "are finished and committed" in stop
    assert "wait until handlers have finished" in " ".join(stop_and_wait.split())
    assert State.STOPPING in TRANSITIONS[State.STARTING]
    group = consumer_group(topic())
    group.close(timeout=PATIENCE)
    with pytest.raises(ClosedError, match=r"^the consumer cannot be started because it is closing"):
        group.start()
    package = Path(dp_kafka.__file__).parent
    assert not [path for path in package.rglob("*.py") if "consummer" in path.read_text()]
