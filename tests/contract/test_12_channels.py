"""Contract 12: the channels of consumer groups and producers."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dp_kafka import (
    BytesMessage,
    Channel,
    ChannelClosed,
    ClosedError,
    ConsumerGroupChannels,
    Message,
    ProducerChannels,
    State,
)
from dp_kafka.channels import ErrorsChannel, Signal
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.state import StateMachine
from tests.conftest import GroupFactory, ProducerFactory, SendFunction, TopicFactory
from tests.sending import PLAIN
from tests.waiting import PATIENCE, Held, in_thread

AWAY = ["127.0.0.1:1"]


def test_12_1_the_channels_of_a_consumer_group(consumer_group: GroupFactory) -> None:
    """Changed: upstream has no fixed room, as a lane offers one message of its partition at a time."""
    group = consumer_group("topic", broker_addrs=AWAY, num_workers=3, batch_size=7)
    channels = group.channels
    assert isinstance(channels, ConsumerGroupChannels)
    assert isinstance(channels.upstream, Channel)
    assert channels.upstream.maxsize == 0
    assert isinstance(channels.errors, ErrorsChannel)
    assert channels.errors.maxsize == 20
    for signal in (channels.initialised, channels.closer, channels.closed):
        assert isinstance(signal, threading.Event)
        assert not signal.is_set()
    assert isinstance(channels.consume, Channel)
    assert isinstance(channels.state, StateMachine)


def test_12_1_the_consume_channel_takes_true_and_false_alone(consumer_group: GroupFactory) -> None:
    """A text such as "false" is true in Python, and would start the consumer."""
    channel = consumer_group("topic", broker_addrs=AWAY).channels.consume
    for wrong in ("false", 1, None):
        with pytest.raises(TypeError, match=f"takes True or False, but got {type(wrong).__name__}"):
            channel.put(wrong)  # type: ignore[arg-type]
    assert channel.qsize() == 0


def test_12_1_upstream_holds_one_message_of_each_partition_however_many_are_buffered(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic(partitions=3)
    for partition in range(3):
        send(name, *(f"{number}" for number in range(50)), partition=partition)
    group = consumer_group(name)
    upstream = group.channels.upstream
    sizes: list[int] = []
    taken: list[Message] = []
    group.start()
    for _ in range(150):
        message = upstream.get(timeout=PATIENCE)
        sizes.append(upstream.qsize())
        taken.append(message)
        message.commit_and_release()
    assert max(sizes) <= 3
    assert len({(message.partition, message.offset) for message in taken}) == 150


def test_12_2_the_channels_of_a_producer(topic: TopicFactory, producer: ProducerFactory) -> None:
    """Changed: output holds 10,000 messages and errors 20, where the original's hold none."""
    channels = producer(topic(), librdkafka=PLAIN).channels
    assert isinstance(channels, ProducerChannels)
    assert isinstance(channels.output, Channel)
    assert channels.output.maxsize == 10_000
    assert isinstance(channels.errors, ErrorsChannel)
    assert channels.errors.maxsize == 20
    assert channels.initialised.wait(PATIENCE)
    for signal in (channels.closer, channels.closed):
        assert isinstance(signal, threading.Event)
        assert not signal.is_set()


def test_12_3_a_channel_without_a_size_has_no_bound() -> None:
    """Changed: in the original it is unbuffered."""
    channel: Channel[int] = Channel()
    for number in range(1_000):
        channel.put(number, block=False)
    assert channel.qsize() == 1_000
    bounded: Channel[int] = Channel(2)
    bounded.put(1)
    bounded.put(2)
    with pytest.raises(queue.Full):
        bounded.put(3, block=False)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            ConsumerGroupChannels,
            ["upstream", "errors", "initialised", "consume", "closer", "closed", "state"],
        ),
        (ProducerChannels, ["output", "errors", "initialised", "closer", "closed"]),
    ],
)
def test_12_4_and_12_8_no_channel_can_be_missing(kind: Any, names: list[str]) -> None:
    """What the original validates at run time: here none has a default, and none can be taken away."""
    assert [field.name for field in dataclasses.fields(kind)] == names
    with pytest.raises(TypeError) as caught:
        kind()
    positions = [str(caught.value).index(repr(name)) for name in names]
    assert positions == sorted(positions)
    made = kind(*names)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.errors = None


@pytest.mark.parametrize("make", [Channel, ErrorsChannel])
def test_12_5_close_says_whether_this_call_closed_it(make: Callable[[], Channel[Any]]) -> None:
    channel = make()
    assert channel.close() is True
    assert channel.close() is False
    assert channel.closed


def test_12_5_a_signal_may_be_set_again_and_again() -> None:
    """And an event that somebody else has set is set: the original's would panic without its help."""
    calls: list[int] = []
    signal = Signal(lambda: calls.append(1))
    signal.set()
    signal.set()
    assert signal.is_set()
    assert calls == [1]


def test_12_6_a_put_on_a_closed_channel_is_an_error(
    topic: TopicFactory, producer: ProducerFactory, consumer_group: GroupFactory
) -> None:
    """Of every channel that users put on; `errors` takes what comes late without a word, as it is logged."""
    made = producer(topic(), librdkafka=PLAIN)
    group = consumer_group("topic", broker_addrs=AWAY)
    made.close(timeout=PATIENCE)
    group.close(timeout=PATIENCE)
    with pytest.raises(ChannelClosed, match="put on a closed channel"):
        made.channels.output.put(BytesMessage(b"v"))
    for value in (True, False):
        with pytest.raises(ChannelClosed, match="put on a closed channel"):
            group.channels.consume.put(value)
    assert issubclass(ChannelClosed, ClosedError)
    for errors in (made.channels.errors, group.channels.errors):
        late = ValueError("late")
        errors.put(late)
        assert late not in list(errors)
        with pytest.raises(ChannelClosed):
            errors.get(timeout=PATIENCE)


def test_12_6_a_put_that_waits_for_room_is_told_of_the_close() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    waiting = in_thread(lambda: channel.put(2))
    channel.close()
    with pytest.raises(ChannelClosed):
        waiting.result(PATIENCE)
    assert list(channel) == [1]


def test_12_7_waiting_for_a_state_holds_nothing_that_a_transition_needs(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    """Changed: the original's Wait holds a read lock while it is blocked."""
    group = consumer_group(topic())
    assert group.channels.state is group.channels.state
    assert group.state_wait(State.STOPPED, PATIENCE)
    waiting = [in_thread(lambda: group.channels.state.wait(State.CONSUMING, PATIENCE)) for _ in range(4)]
    waiting += [in_thread(lambda: group.state_wait(State.CLOSING, PATIENCE)) for _ in range(4)]
    group.start()
    for each in waiting[:4]:
        assert each.result(PATIENCE)
    assert not any(each.done() for each in waiting[4:])
    group.close(timeout=PATIENCE)
    for each in waiting[4:]:
        assert each.result(PATIENCE)


def test_12_9_closer_asks_for_the_end_and_closed_tells_of_it(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, "a")
    group = consumer_group(name)
    held = Held.by(group)
    group.channels.closer.set()
    assert group.state_wait(State.CLOSING, PATIENCE)
    assert not group.channels.closed.wait(0.1)
    held.finish.set()
    assert group.channels.closed.wait(PATIENCE)
    assert [each.name for each in threading.enumerate() if f"worker-1:{name}" in each.name] == []


def test_12_9_initialised_tells_that_a_broker_has_answered(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory
) -> None:
    own_cluster.create_topic("topic")
    own_cluster.broker_down(1)
    group = consumer_group("topic", broker_addrs=own_cluster.broker_addrs, max_retry_period=0.3)
    assert not group.channels.initialised.is_set()
    own_cluster.broker_up(1)
    assert group.channels.initialised.wait(PATIENCE)
