"""Contract 7: the life of a consumer group, and its states, on a broker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from dp_kafka import (
    ClosedError,
    ConfigError,
    ConsumerGroup,
    KafkaClientError,
    Message,
    NotInitialisedError,
    State,
    StateTransitionError,
)
from dp_kafka.consumer.client import confluent_consumer
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import (
    INCREMENTAL,
    REJOINING,
    CommittedFunction,
    GroupFactory,
    SendFunction,
    TopicFactory,
)
from tests.waiting import PATIENCE, Collected, Held, consuming, in_thread, wait_entered

AWAY = ["127.0.0.1:1"]  # nobody listens there


class Breaking:
    """A real client of which some methods raise, as often as there are errors for them."""

    def __init__(self, properties: dict[str, Any], broken: dict[str, list[Exception]]) -> None:
        self._client = confluent_consumer(properties)
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        errors = self._broken.get(name)
        real = getattr(self._client, name)
        if not errors:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "close":
                real(*args, **kwargs)
            if errors:
                raise errors.pop(0)
            return real(*args, **kwargs)

        return call


def breaking(**errors: list[Exception]) -> Callable[[dict[str, Any]], Breaking]:
    return lambda properties: Breaking(properties, errors)


def entries(group: ConsumerGroup, state: State) -> int:
    return group.channels.state.entries(state)


# -- states -----------------------------------------------------------------------------------------


def test_7_1_states_are_numbered_and_named() -> None:
    assert {int(state): str(state) for state in State} == {
        0: "Initialising",
        1: "Stopped",
        2: "Starting",
        3: "Consuming",
        4: "Stopping",
        5: "Closing",
    }


def test_7_2_a_group_begins_initialising_and_refuses_what_the_table_does_not_have(
    consumer_group: GroupFactory,
) -> None:
    group = consumer_group("topic", broker_addrs=AWAY)
    assert group.state is State.INITIALISING
    with pytest.raises(StateTransitionError, match="from Initialising to Consuming is not allowed"):
        group.channels.state.set_if([State.INITIALISING], State.CONSUMING)
    with pytest.raises(StateTransitionError, match="from Initialising to Stopped is not allowed"):
        group.channels.state.set_if([State.STARTING, State.CONSUMING], State.STOPPED)
    assert group.state is State.INITIALISING


def test_7_3_entering_a_state_is_counted_also_when_it_is_the_current_one(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    """With incremental rebalances another assignment is Consuming after Consuming."""
    name = topic(partitions=2)
    first = consuming(consumer_group(name, group_name=name, librdkafka=INCREMENTAL))
    seen, starting = entries(first, State.CONSUMING), entries(first, State.STARTING)
    second = consuming(consumer_group(name, group_name=name, librdkafka=INCREMENTAL))
    second.close(timeout=PATIENCE)
    assert wait_entered(first, State.CONSUMING, seen)
    assert entries(first, State.STARTING) == starting


def test_7_4_state_and_state_wait(topic: TopicFactory, consumer_group: GroupFactory) -> None:
    group = consumer_group(topic())
    assert group.state_wait(State.STOPPED, PATIENCE)
    assert group.state is State.STOPPED
    assert group.state_wait(State.STOPPED, timeout=0)
    assert not group.state_wait(State.CONSUMING, timeout=0.01)
    waiter = in_thread(lambda: group.state_wait(State.CONSUMING, PATIENCE))
    group.start()
    assert waiter.result(PATIENCE)


# -- initialisation ---------------------------------------------------------------------------------


def test_7_5_making_a_group_never_fails_because_of_the_cluster(consumer_group: GroupFactory) -> None:
    group = consumer_group("topic", broker_addrs=AWAY)
    assert group.state is State.INITIALISING
    assert not group.is_initialised
    assert not group.channels.initialised.is_set()
    assert group.channels.errors.maxsize == 20
    assert isinstance(group.channels.errors.get(timeout=PATIENCE), (KafkaClientError, NotInitialisedError))


def test_7_5_making_a_group_fails_because_of_its_configuration() -> None:
    with pytest.raises(ConfigError, match="takes a ConsumerGroupConfig, but got dict"):
        ConsumerGroup({"topic": "t"})  # type: ignore[arg-type]


def test_7_6_initialise_says_why_it_failed(consumer_group: GroupFactory) -> None:
    group = consumer_group("topic", broker_addrs=AWAY)
    with pytest.raises(NotInitialisedError, match="failed to create a new consumer group") as caught:
        group.initialise()
    assert AWAY[0] in str(caught.value)
    assert caught.value.log_data == {"topic": "topic", "group": group.group_name}


def test_7_6_initialise_does_nothing_once_initialised(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    made: list[dict[str, Any]] = []

    def factory(properties: dict[str, Any]) -> Any:
        made.append(properties)
        return confluent_consumer(properties)

    group = consumer_group(topic(), client_factory=factory)
    assert group.channels.initialised.wait(PATIENCE)
    for _ in range(3):
        group.initialise()
    assert group.is_initialised
    assert len(made) == 1


@pytest.mark.parametrize(
    ("started", "state"), [(False, State.STOPPED), (True, State.STARTING)], ids=["not started", "started"]
)
def test_7_7_and_7_18_a_group_made_without_a_broker_goes_on_when_there_is_one(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, started: bool, state: State
) -> None:
    """Tried again in the background; then Stopped, or Starting if start() was called meanwhile."""
    own_cluster.create_topic("topic")
    own_cluster.broker_down(1)
    group = consumer_group("topic", broker_addrs=own_cluster.broker_addrs, max_retry_period=0.3)
    assert group.state is State.INITIALISING
    if started:
        group.start()
        assert group.state is State.INITIALISING
    own_cluster.broker_up(1)
    assert group.state_wait(State.CONSUMING if started else State.STOPPED, PATIENCE)
    assert entries(group, state) == 1
    assert group.is_initialised


def test_7_8_initialised_is_set_before_the_first_state_after_initialising(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    group = consumer_group(topic())
    assert group.state_wait(State.STOPPED, PATIENCE)
    assert group.channels.initialised.is_set()
    assert group.is_initialised


# -- the transitions, row by row ----------------------------------------------------------------------


def test_7_9_stop_of_a_stopped_group_is_ignored(topic: TopicFactory, consumer_group: GroupFactory) -> None:
    group = consumer_group(topic())
    assert group.state_wait(State.STOPPED, PATIENCE)
    group.stop()
    group.channels.consume.put(False)
    assert group.stop_and_wait(timeout=0)
    assert group.state is State.STOPPED
    assert entries(group, State.STOPPING) == 0


def test_7_9_stopped_starting_consuming_stopping_stopped(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    group = consumer_group(topic())
    consuming(group)
    group.stop()
    assert group.state_wait(State.STOPPED, PATIENCE)
    assert [entries(group, state) for state in State] == [1, 2, 1, 1, 1, 0]


@pytest.mark.parametrize("how", ["close", "closer", "consume"])
@pytest.mark.parametrize(
    "state", [State.INITIALISING, State.STOPPED, State.STARTING, State.CONSUMING], ids=str
)
def test_7_9_every_state_goes_to_closing(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, state: State, how: str
) -> None:
    """By close(), by the closer signal, or by closing the consume channel."""
    own_cluster.create_topic("topic")
    addresses = AWAY if state is State.INITIALISING else own_cluster.broker_addrs
    group = consumer_group("topic", broker_addrs=addresses)
    if state is State.STARTING:
        own_cluster.inject_errors("JoinGroup", *["COORDINATOR_LOAD_IN_PROGRESS"] * 1000)
        group.start()
    elif state is State.CONSUMING:
        group.start()
    assert group.state_wait(state, PATIENCE)
    if how == "close":
        assert group.close(timeout=PATIENCE) == 0
    elif how == "closer":
        group.channels.closer.set()
    else:
        assert group.channels.consume.close()
    assert group.channels.closed.wait(PATIENCE)
    assert group.state is State.CLOSING
    assert entries(group, State.CLOSING) == 1


def test_7_9_stop_before_the_first_assignment(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory
) -> None:
    """Starting to Stopping to Stopped, while the broker refuses to let the group join."""
    own_cluster.create_topic("topic")
    group = consumer_group("topic", broker_addrs=own_cluster.broker_addrs)
    own_cluster.inject_errors("JoinGroup", *["COORDINATOR_LOAD_IN_PROGRESS"] * 1000)
    group.start()
    assert group.state_wait(State.STARTING, PATIENCE)
    assert group.stop_and_wait(PATIENCE)
    assert group.state is State.STOPPED
    assert entries(group, State.CONSUMING) == 0
    assert entries(group, State.STOPPING) == 1


def test_7_9_a_rebalance_that_takes_the_assignment_away_is_starting_again(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    """Consuming to Starting to Consuming, when a second member joins (classic protocol)."""
    name = topic(partitions=2)
    config: dict[str, Any] = {"group_name": name, "message_consume_timeout": 3.01, "librdkafka": REJOINING}
    first = consuming(consumer_group(name, **config))
    second = consuming(consumer_group(name, **config))
    assert wait_entered(first, State.CONSUMING, 1)
    assert entries(first, State.STARTING) >= 2
    assert entries(first, State.STOPPING) == 0
    second.close(timeout=PATIENCE)
    first.close(timeout=PATIENCE)


def test_7_9_close_while_stopping(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, "a")
    group = consumer_group(name)
    held = Held.by(group)
    group.stop()
    assert group.state is State.STOPPING
    closer = in_thread(lambda: group.close(timeout=PATIENCE))
    assert group.state_wait(State.CLOSING, PATIENCE)
    held.finish.set()
    assert closer.result(PATIENCE) == 0
    assert entries(group, State.STOPPED) == 1  # the one after Initialising


def test_7_9_closing_is_the_end(topic: TopicFactory, consumer_group: GroupFactory) -> None:
    group = consumer_group(topic())
    group.close(timeout=PATIENCE)
    for state in State:
        with pytest.raises(StateTransitionError):
            group.channels.state.set(state)


# -- start and stop -----------------------------------------------------------------------------------


def test_7_10_start_while_initialising_is_remembered(
    consumer_group: GroupFactory, own_cluster: EmbeddedCluster
) -> None:
    own_cluster.create_topic("topic")
    own_cluster.broker_down(1)
    group = consumer_group("topic", broker_addrs=own_cluster.broker_addrs, max_retry_period=0.3)
    group.start()
    own_cluster.broker_up(1)
    assert group.state_wait(State.CONSUMING, PATIENCE)


def test_7_10_start_while_stopping_is_followed(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """The call returns at once; the stop is finished first."""
    name = topic()
    send(name, "a")
    group = consumer_group(name, librdkafka=INCREMENTAL)
    held = Held.by(group)
    group.stop()
    group.start()
    assert group.state is State.STOPPING
    held.finish.set()
    assert wait_entered(group, State.CONSUMING, 1)
    assert entries(group, State.STOPPED) == 2
    send(name, "b")
    assert held.handled.wait(2) == [b"a", b"b"]


def test_7_10_start_while_starting_or_consuming_changes_nothing(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    group = consumer_group(topic())
    for _ in range(5):
        group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    group.start()
    assert group.state is State.CONSUMING
    assert entries(group, State.STARTING) == 1
    assert entries(group, State.CONSUMING) == 1


def test_7_10_start_of_a_closing_group_is_refused(topic: TopicFactory, consumer_group: GroupFactory) -> None:
    group = consumer_group(topic())
    group.close(timeout=PATIENCE)
    with pytest.raises(ClosedError, match="cannot be started because it is closing"):
        group.start()


def test_7_11_stop_returns_at_once_and_is_harmless_in_every_state(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, "a")
    group = consumer_group(name)
    held = Held()
    group.register_handler(held)
    group.stop()
    group.start()
    assert held.entered.wait(PATIENCE)
    for _ in range(3):
        group.stop()  # does not wait for the handler
    assert group.state is State.STOPPING
    held.finish.set()
    assert group.state_wait(State.STOPPED, PATIENCE)
    group.stop()
    group.close(timeout=PATIENCE)
    group.stop()
    assert str(group.state) == "Closing"


def test_7_12_stop_and_wait_waits_for_the_group_to_be_left(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory
) -> None:
    own_cluster.create_topic("topic")
    group = consumer_group("topic", broker_addrs=own_cluster.broker_addrs)
    consuming(group)
    own_cluster.track_requests()
    assert group.stop_and_wait(PATIENCE)
    assert group.state is State.STOPPED
    assert "LeaveGroup" in {request.api_name for request in own_cluster.requests()}


def test_7_12_stop_and_wait_returns_at_once_where_there_is_nothing_to_wait_for(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    away = consumer_group("topic", broker_addrs=AWAY)
    assert away.state is State.INITIALISING
    assert away.stop_and_wait(timeout=0)
    group = consumer_group(topic())
    assert group.state_wait(State.STOPPED, PATIENCE)
    assert group.stop_and_wait(timeout=0)
    group.close(timeout=PATIENCE)
    assert group.stop_and_wait(timeout=PATIENCE)


@pytest.mark.parametrize("calls", [["start", "stop"], ["start", "stop", "start"]], ids=" ".join)
def test_7_13_the_last_start_or_stop_before_the_initialisation_wins(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, calls: list[str]
) -> None:
    own_cluster.create_topic("topic")
    own_cluster.broker_down(1)
    group = consumer_group("topic", broker_addrs=own_cluster.broker_addrs, max_retry_period=0.3)
    for call in calls:
        getattr(group, call)()
    own_cluster.broker_up(1)
    assert group.channels.initialised.wait(PATIENCE)
    assert group.state_wait(State.CONSUMING if calls[-1] == "start" else State.STOPPED, PATIENCE)
    assert entries(group, State.STOPPED) == (0 if calls[-1] == "start" else 1)


# -- close --------------------------------------------------------------------------------------------


def test_7_14_close_ends_everything_and_may_be_called_again(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    group = consumer_group(topic())
    group.register_handler(lambda worker_id, message: None)
    group.log_errors()
    consuming(group)
    assert group.close(timeout=PATIENCE) == 0
    channels = group.channels
    assert channels.closed.is_set()
    assert channels.closer.is_set()
    assert channels.upstream.closed
    assert channels.errors.closed
    assert channels.consume.closed
    assert group.state is State.CLOSING
    assert group.close() == 0
    mine = {thread.name for thread in threading.enumerate() if group.topic in thread.name}
    assert mine <= {f"dp-kafka:close:{group.topic}"}  # which has told of the end, and is about to


def test_7_14_hooks_run_in_order_after_the_last_message_and_before_the_client_goes(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    closed: list[str] = []

    class Telling(Breaking):
        def __getattr__(self, name: str) -> Any:
            if name == "close":
                closed.append("client")
            return super().__getattr__(name)

    name = topic()
    send(name, "a", "b", "c")
    group = consumer_group(name, client_factory=lambda properties: Telling(properties, {}))
    entered, finish = threading.Event(), threading.Event()

    def handler(worker_id: int, message: Message) -> None:
        entered.set()
        assert finish.wait(PATIENCE)
        closed.append("handler")

    group.register_handler(handler)
    group.start()
    assert entered.wait(PATIENCE)
    closer = in_thread(
        lambda: group.close(
            lambda: closed.append("hook 1"), lambda: closed.append("hook 2"), timeout=PATIENCE
        )
    )
    assert group.state_wait(State.CLOSING, PATIENCE)
    finish.set()
    assert closer.result(PATIENCE) == 0
    assert set(closed[:-3]) == {"handler"}
    assert closed[-3:] == ["hook 1", "hook 2", "client"]


def test_7_15_a_client_that_does_not_close_is_reported_and_the_group_closes_all_the_same(
    topic: TopicFactory, consumer_group: GroupFactory, caplog: pytest.LogCaptureFixture
) -> None:
    failure = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    group = consumer_group(topic(), client_factory=breaking(close=[failure]))
    consuming(group)
    assert group.close(timeout=PATIENCE) == 0
    assert group.channels.closed.is_set()
    assert list(group.channels.errors) == [failure]
    record = next(each for each in caplog.records if "error closing the client" in each.getMessage())
    fields = record.__dict__["dp_kafka"]
    assert (fields["topic"], fields["group"]) == (group.topic, group.group_name)


def test_7_16_a_hook_commits_what_the_user_has_kept(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """A private batch: read from upstream, released, and committed only when the group closes."""
    name = topic()
    send(name, "a", "b", "c")
    group = consumer_group(name)
    group.start()
    batch: list[Message] = []
    for _ in range(3):
        batch.append(group.channels.upstream.get(timeout=PATIENCE))
        batch[-1].release()
    answers: list[bool] = []

    def finish_batch() -> None:
        answers.extend(message.commit() for message in batch)

    assert group.close(finish_batch, timeout=PATIENCE) == 0
    assert answers == [True, True, True]
    assert committed(group.group_name, name) == 3


def test_7_17_a_context_manager_closes_at_its_end(topic: TopicFactory, consumer_group: GroupFactory) -> None:
    """Where the original closes when its context is done."""
    with consumer_group(topic()) as group:
        assert group.state_wait(State.STOPPED, PATIENCE)
    assert group.state is State.CLOSING
    assert group.channels.closed.is_set()
    with pytest.raises(ZeroDivisionError), consumer_group(topic()) as group:
        raise ZeroDivisionError
    assert group.channels.closed.is_set()


def test_7_18_close_ends_the_attempts_to_reach_a_broker(consumer_group: GroupFactory) -> None:
    group = consumer_group("topic", broker_addrs=AWAY, min_retry_period=60.0, max_retry_period=60.0)
    waiter = in_thread(group.initialise)
    assert group.close(timeout=PATIENCE) == 0
    assert group.channels.closed.is_set()
    assert not group.channels.initialised.is_set()
    with pytest.raises((ClosedError, NotInitialisedError)):
        waiter.result(PATIENCE)


# -- failures -----------------------------------------------------------------------------------------


def test_7_19_a_session_that_fails_is_reported_and_begun_again(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, "a")
    failures: list[Exception] = [
        KafkaException(KafkaError(KafkaError._STATE)),
        KafkaException(KafkaError(KafkaError._FAIL)),
    ]
    handled: Collected[bytes | None] = Collected()
    group = consumer_group(
        name,
        client_factory=breaking(subscribe=list(failures)),
        min_retry_period=0.01,
        max_retry_period=0.02,
    )
    group.register_handler(lambda worker_id, message: handled.add(message.data))
    consuming(group)
    assert handled.wait(1) == [b"a"]
    assert entries(group, State.STARTING) == 1
    assert [group.channels.errors.get(timeout=PATIENCE) for _ in range(2)] == failures


def test_7_19_a_stop_in_the_pause_after_a_failure_is_carried_out_at_once(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    failure = KafkaException(KafkaError(KafkaError._STATE))
    group = consumer_group(
        topic(),
        client_factory=breaking(subscribe=[failure]),
        min_retry_period=60.0,
        max_retry_period=60.0,
        librdkafka=INCREMENTAL,
    )
    group.start()
    assert group.channels.errors.get(timeout=PATIENCE) is failure
    assert group.stop_and_wait(PATIENCE)
    assert group.state is State.STOPPED
    consuming(group)


def test_7_20_client_errors_come_on_the_errors_channel_and_stop_nothing_when_nobody_reads_them(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory
) -> None:
    own_cluster.create_topic("topic")
    group = consumer_group("topic", broker_addrs=own_cluster.broker_addrs)
    consuming(group)
    for _ in range(15):
        own_cluster.broker_down(1)
        assert group.channels.errors.get(timeout=PATIENCE)
        own_cluster.broker_up(1)
    for number in range(25):
        group.channels.errors.put(ValueError(number))
    assert group.channels.errors.qsize() <= 20
    assert group.channels.errors.dropped >= 5
    assert group.stop_and_wait(PATIENCE)


def test_7_20_errors_are_the_librarys_own(own_cluster: EmbeddedCluster, consumer_group: GroupFactory) -> None:
    own_cluster.create_topic("topic")
    group = consumer_group("topic", broker_addrs=own_cluster.broker_addrs)
    consuming(group)
    own_cluster.broker_down(1)
    error = group.channels.errors.get(timeout=PATIENCE)
    assert isinstance(error, KafkaClientError)
    assert error.name in ("_TRANSPORT", "_ALL_BROKERS_DOWN")
    assert not error.permanent
    own_cluster.broker_up(1)


# -- accessors ----------------------------------------------------------------------------------------


def test_7_21_accessors(topic: TopicFactory, consumer_group: GroupFactory) -> None:
    name = topic()
    group = consumer_group(name, group_name="accessors")
    assert group.state_wait(State.STOPPED, PATIENCE)
    assert (group.topic, group.group_name) == (name, "accessors")
    assert group.channels is group.channels
    assert group.is_initialised
    assert repr(group) == f"<ConsumerGroup accessors of {name}, Stopped>"
    with pytest.raises(AttributeError):
        group.topic = "other"  # type: ignore[misc]


def test_7_22_log_errors_logs_what_comes_with_topic_and_group(
    topic: TopicFactory, consumer_group: GroupFactory, caplog: pytest.LogCaptureFixture
) -> None:
    group = consumer_group(topic())
    group.log_errors()
    group.log_errors()  # a second call changes nothing
    group.channels.errors.put(NotInitialisedError("one", log_data={"attempt": 7}))
    group.close(timeout=PATIENCE)
    records = [each for each in caplog.records if "kafka consumer-group error" in each.getMessage()]
    assert len(records) == 1
    assert records[0].levelno == logging.ERROR
    fields = records[0].__dict__["dp_kafka"]
    assert fields["attempt"] == 7
    assert (fields["topic"], fields["group"]) == (group.topic, group.group_name)
