"""Contract 20: the test kit's fakes, messages and mocks. No broker, and the library's own machinery."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from dp_kafka import (
    BytesMessage,
    ClosedError,
    ConfigError,
    ConsumerGroup,
    ConsumerGroupConfig,
    DeadLetter,
    DeliveryError,
    MarshalError,
    Message,
    MessageTooLargeError,
    NotInitialisedError,
    Ordering,
    ProducerConfig,
    QueueFullError,
    RetryPolicy,
    State,
)
from dp_kafka import Producer as RealProducer
from dp_kafka.avro import Schema
from dp_kafka.codecs import AvroCodec, JsonCodec
from dp_kafka.kafkatest import (
    Consumer,
    KafkaTestError,
    MemoryCluster,
    Producer,
    consumer_group_mock,
    message_mock,
    new_message,
    producer_mock,
)
from tests.waiting import PATIENCE, Collected, Logged, in_thread

NOBODY = ["127.0.0.1:1"]
SCHEMA = Schema({"type": "record", "name": "Pet", "fields": [{"name": "name", "type": "string"}]})
MakeConsumer = Callable[..., Consumer]
MakeProducer = Callable[..., Producer]
KIT = {"codec", "partitions", "initialised", "cluster"}


def consumer_config(**fields: Any) -> ConsumerGroupConfig:
    return ConsumerGroupConfig(**{"broker_addrs": NOBODY, "topic": "in", "group_name": "group", **fields})


def producer_config(**fields: Any) -> ProducerConfig:
    return ProducerConfig(**{"broker_addrs": NOBODY, "topic": "out", **fields})


@pytest.fixture
def consumer(request: pytest.FixtureRequest) -> MakeConsumer:
    """Makes fakes, of the arguments of Consumer and of its configuration; the test's end closes them."""

    def make(**arguments: Any) -> Consumer:
        kit = {name: arguments.pop(name) for name in KIT & arguments.keys()}
        made = Consumer(consumer_config(**arguments), **kit)
        request.addfinalizer(lambda: made.close(timeout=PATIENCE / 3))
        return made

    return make


@pytest.fixture
def producer(request: pytest.FixtureRequest) -> MakeProducer:
    """Makes fakes, of the arguments of Producer and of its configuration; the test's end closes them."""

    def make(**arguments: Any) -> Producer:
        kit = {name: arguments.pop(name) for name in KIT & arguments.keys()}
        made = Producer(producer_config(**arguments), **kit)
        request.addfinalizer(lambda: made.close(timeout=PATIENCE / 3))
        return made

    return make


def quickest(scenario: Callable[[], None]) -> float:
    """The seconds of the quickest of some runs: what else the machine does is not the fakes' time."""
    best = float("inf")
    until = time.monotonic() + PATIENCE
    while best >= 1 and time.monotonic() < until:
        began = time.perf_counter()
        scenario()
        best = min(best, time.perf_counter() - began)
    return best


# -- the fake consumer --------------------------------------------------------------------------------


def test_20_2_the_fake_is_a_consumer_group_with_the_defaults_of_the_original(consumer: MakeConsumer) -> None:
    """contract 20.2: 30 partitions, initialised at creation"""
    fake = consumer()
    assert isinstance(fake, ConsumerGroup)
    assert fake.is_initialised
    assert fake.state is State.STOPPED
    assert len(fake.cluster.partitions_of("in")) == 30
    fake.start()
    assert fake.state_wait(State.CONSUMING, PATIENCE)
    assert fake.stop_and_wait(PATIENCE)
    assert fake.close(timeout=PATIENCE) == 0
    assert fake.channels.closed.is_set()


@pytest.mark.parametrize(
    ("make", "what"), [(Consumer, "consumer"), (Producer, "producer")], ids=["consumer", "producer"]
)
def test_20_3_a_fake_without_a_proper_configuration_is_refused(make: Any, what: str) -> None:
    """contract 20.3"""
    with pytest.raises(ConfigError, match=f"^kafka {what} config must be provided$"):
        make(None)
    full_name = "consumer group" if what == "consumer" else "producer"
    with pytest.raises(ConfigError, match=f"^failed to create {full_name} for testing: "):
        make({"topic": "in"})


def test_20_3_what_the_real_one_refuses_says_that_it_was_for_testing() -> None:
    with pytest.raises(
        ConfigError, match=r"^failed to create consumer group for testing: codec must"
    ) as caught:
        Consumer(consumer_config(), codec=SCHEMA)  # type: ignore[arg-type]
    assert caught.value.field == "codec"


def test_20_5_initialisation_may_come_later(consumer: MakeConsumer) -> None:
    """contract 20.5: creation leaves it uninitialised, the next initialise succeeds"""
    fake = consumer(initialised=False)
    assert not fake.is_initialised
    assert fake.state is State.INITIALISING
    fake.start()
    fake.queue_bytes(b"early")
    fake.initialise()
    assert fake.is_initialised
    message = fake.channels.upstream.get(timeout=PATIENCE)
    assert message.data == b"early"
    message.release()


def test_20_5_a_producer_too(producer: MakeProducer) -> None:
    fake = producer(initialised=False)
    with pytest.raises(NotInitialisedError):
        fake.send_bytes(b"too early")
    fake.initialise()
    fake.send_bytes(b"now")
    assert fake.wait_for_sent().value() == b"now"


def test_20_6_queued_messages_have_the_original_s_offsets_and_no_headers(consumer: MakeConsumer) -> None:
    """contract 20.6: offsets 1, 2, …; the configured topic; a timestamp of now; no headers"""
    fake = consumer()
    before = int(time.time() * 1000)
    fake.queue_message(SCHEMA, {"name": "Rex"})
    fake.queue_json({"name": "Tom"})
    fake.queue_bytes(b"as it is")
    fake.start()
    found = []
    for _ in range(3):
        message = fake.channels.upstream.get(timeout=PATIENCE)
        assert before <= (message.timestamp or 0) <= time.time() * 1000
        found.append((message.topic, message.partition, message.offset, message.data, message.headers))
        message.commit_and_release()
    assert found == [
        ("in", 0, 1, SCHEMA.marshal({"name": "Rex"}), []),
        ("in", 0, 2, b'{"name":"Tom"}', []),
        ("in", 0, 3, b"as it is", []),
    ]
    fake.wait_all_committed()
    assert fake.committed == {0: 4}


def test_20_6_what_cannot_be_queued_raises(consumer: MakeConsumer) -> None:
    """contract 20.6: marshal and closed-queue errors"""
    fake = consumer(partitions=2)
    with pytest.raises(MarshalError):
        fake.queue_message(SCHEMA, {"name": 1})
    with pytest.raises(MarshalError):
        fake.queue_json({1, 2})
    with pytest.raises(TypeError, match="encode it first"):
        fake.queue_bytes("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="partitions 0 to 1, there is no 2"):
        fake.queue_bytes(b"", partition=2)
    assert fake.uncommitted == {}
    fake.close(timeout=PATIENCE)
    with pytest.raises(ClosedError):
        fake.queue_bytes(b"")


def test_key_headers_partition_and_timestamp_reach_the_handler(consumer: MakeConsumer) -> None:
    fake = consumer(partitions=3)
    seen: Collected[Message] = Collected()
    fake.register_handler(lambda _worker, message: seen.add(message))
    fake.start()
    fake.queue_bytes(b"v", key="k", headers={"colour": "blue", "none": None}, partition=2, timestamp=1234)
    (message,) = seen.wait(1)
    assert (message.key, message.partition, message.timestamp) == (b"k", 2, 1234)
    assert message.headers == [("colour", b"blue"), ("none", None)]
    assert message.get_header("colour") == "blue"


def test_a_key_goes_to_the_partition_that_a_real_producer_gives_it(consumer: MakeConsumer) -> None:
    """Values of Kafka's own test of its default partitioner, DefaultPartitioner's murmur2."""
    fake = consumer(partitions=1000)
    known = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"abc": 479470107,
    }
    for key, value in known.items():
        assert fake.queue_bytes(b"", key=key).partition() == (value & 0x7FFFFFFF) % 1000


def test_20_7_the_state_machine_is_the_library_s(consumer: MakeConsumer) -> None:
    """contract 20.7: sessions begin and end as the real ones do"""
    fake = consumer()
    machine = fake.channels.state
    fake.start()
    assert fake.state_wait(State.CONSUMING, PATIENCE)
    assert fake.rebalance_cluster()
    assert machine.entries(State.CONSUMING) >= 2, "the new assignment was entered"
    assert fake.stop_and_wait(PATIENCE)
    assert machine.entries(State.STOPPED) == 2
    fake.start()
    assert fake.state_wait(State.CONSUMING, PATIENCE)


def test_20_8_a_rebalance_waits_for_what_is_in_hand_and_commits_it(consumer: MakeConsumer) -> None:
    """contract 20.8, and invariant 4: on revoke the messages in hand are finished and committed"""
    fake = consumer()
    entered, finish = threading.Event(), threading.Event()
    handled: Collected[int] = Collected()

    def handler(_worker: int, message: Message) -> None:
        entered.set()
        assert finish.wait(PATIENCE)
        handled.add(message.offset)

    fake.register_handler(handler)
    fake.start()
    fake.queue_bytes(b"first")
    fake.queue_bytes(b"second")
    assert entered.wait(PATIENCE)
    rebalance = in_thread(fake.rebalance_cluster)
    assert not rebalance.done()
    finish.set()
    assert rebalance.result(PATIENCE)
    fake.wait_all_committed()
    assert handled.wait(2) == [1, 2], "nothing was handled twice"


def test_20_8_without_a_session_a_rebalance_does_nothing(consumer: MakeConsumer) -> None:
    """contract 20.8: no-op without one"""
    fake = consumer()
    assert fake.rebalance_cluster() is False
    assert fake.lose_partitions() is False
    assert fake.state is State.STOPPED


def test_a_handler_may_ask_for_a_rebalance(consumer: MakeConsumer) -> None:
    """It has to return for the rebalance to go on, so it does not wait for it."""
    fake = consumer()
    results: Collected[bool] = Collected()
    fake.register_handler(lambda _worker, _message: results.add(fake.rebalance_cluster()))
    fake.start()
    fake.queue_bytes(b"")
    assert results.wait(1) == [False]
    fake.wait_all_committed()


@pytest.mark.parametrize("all_of_it", [True, False], ids=["all", "one"])
def test_what_was_in_hand_of_a_lost_partition_is_refused_and_comes_again(
    consumer: MakeConsumer, logged: Logged, all_of_it: bool
) -> None:
    """Invariant 3, in a session's own loss: the late commit does nothing, and says so."""
    fake = consumer(partitions=2)
    fake.start()
    fake.queue_bytes(b"a")
    fake.queue_bytes(b"b", partition=1)
    taken = {m.partition: m for m in (fake.channels.upstream.get(timeout=PATIENCE) for _ in range(2))}
    assert fake.lose_partitions(*() if all_of_it else (0,))
    assert not taken[0].commit_and_release()
    logged.wait("commit refused: the partition was revoked or lost")
    assert taken[1].commit_and_release() is not all_of_it
    again = fake.channels.upstream.get(timeout=PATIENCE)
    if all_of_it and again.partition == 1:
        again.commit_and_release()
        again = fake.channels.upstream.get(timeout=PATIENCE)
    assert (again.partition, again.data) == (0, b"a")
    if all_of_it and 1 not in fake.committed:
        other = fake.channels.upstream.get(timeout=PATIENCE)
        other.commit_and_release()
    assert again.commit_and_release()
    fake.wait_all_committed()
    assert fake.committed == {0: 2, 1: 2}


def test_a_partition_that_the_group_does_not_have_cannot_be_lost(consumer: MakeConsumer) -> None:
    fake = consumer(partitions=2)
    fake.start()
    assert fake.state_wait(State.CONSUMING, PATIENCE)
    with pytest.raises(ValueError, match=r"does not have the partitions \[2\]"):
        fake.lose_partitions(2)


def test_a_commit_can_fail_and_is_tried_again(consumer: MakeConsumer, logged: Logged) -> None:
    fake = consumer()
    fake.register_handler(lambda _worker, _message: None)
    fake.fail_next("commit", "NOT_COORDINATOR")
    fake.start()
    fake.queue_bytes(b"")
    fake.wait_all_committed()
    assert logged.wait("commit failed, it is tried again").dp_kafka["name"] == "NOT_COORDINATOR"  # type: ignore[attr-defined]


def test_a_durable_commit_that_is_refused_says_so(consumer: MakeConsumer) -> None:
    fake = consumer(commit_interval=0)
    fake.fail_next("commit", "GROUP_AUTHORIZATION_FAILED")
    fake.start()
    fake.queue_bytes(b"")
    message = fake.channels.upstream.get(timeout=PATIENCE)
    assert message.commit() is False
    assert message.commit_and_release() is True
    assert fake.committed == {0: 2}


def test_a_poll_can_fail_in_passing_or_break_the_session_off(consumer: MakeConsumer, logged: Logged) -> None:
    fake = consumer(min_retry_period=0.001, max_retry_period=0.002)
    handled: Collected[int] = Collected()
    fake.register_handler(lambda _worker, message: handled.add(message.offset))
    fake.start()
    fake.fail_next("poll")
    fake.queue_bytes(b"")
    assert handled.wait(1) == [1]
    assert "_TRANSPORT" in str(fake.channels.errors.get(timeout=PATIENCE))
    fake.fail_next("poll", OSError("broken by the test"))
    logged.wait("consuming failed, it is begun again")
    fake.queue_bytes(b"")
    assert handled.wait(2) == [1, 2]
    assert isinstance(fake.channels.errors.get(timeout=PATIENCE), OSError)


def test_what_cannot_fail_is_refused_with_what_can(consumer: MakeConsumer) -> None:
    fake = consumer()
    with pytest.raises(ValueError, match="one of commit, poll, produce"):
        fake.fail_next("start")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no error of Kafka's"):
        fake.fail_next("commit", "NO_COORDINATOR_AT_ALL")


def test_a_cluster_that_goes_down_is_heard_of_and_comes_back(consumer: MakeConsumer) -> None:
    fake = consumer()
    handled: Collected[int] = Collected()
    fake.register_handler(lambda _worker, message: handled.add(message.offset))
    fake.start()
    assert fake.state_wait(State.CONSUMING, PATIENCE)
    fake.cluster.down()
    fake.queue_bytes(b"")
    assert "_ALL_BROKERS_DOWN" in str(fake.channels.errors.get(timeout=PATIENCE))
    assert fake.committed == {}
    fake.cluster.up()
    fake.wait_all_committed()
    assert handled.items == [1]


def test_what_is_not_committed_is_told_by_partition(consumer: MakeConsumer) -> None:
    fake = consumer()
    fake.queue_bytes(b"")
    fake.queue_bytes(b"", partition=3)
    fake.queue_bytes(b"", partition=3)
    assert fake.uncommitted == {0: 1, 3: 2}
    with pytest.raises(KafkaTestError, match=r"\{0: 1, 3: 2\}; the group is Stopped, with 0") as caught:
        fake.wait_all_committed(timeout=0)
    assert isinstance(caught.value, AssertionError), "to a test it is a failed assertion"


def test_failures_go_the_library_s_way_to_the_dead_letter_topic(consumer: MakeConsumer) -> None:
    """Retry policy and dead letters work on the fake: the letters are in its cluster."""
    fake = consumer(retry=RetryPolicy(3, 0.001, 0.002), dead_letter=DeadLetter("dead"), codec=JsonCodec())
    fake.register_handler(lambda _worker, _message: None)
    fake.start()
    fake.queue_bytes(b"no json", key=b"k", headers={"colour": "blue"})
    fake.queue_json(2)
    fake.wait_all_committed()
    (letter,) = fake.cluster.records("dead")
    assert (letter.value(), letter.key()) == (b"no json", b"k")
    headers = dict(letter.headers() or [])
    assert headers["dead-letter.attempts"] == b"3"
    assert headers["colour"] == b"blue"


def test_events_are_what_the_codec_makes_of_the_queue(consumer: MakeConsumer) -> None:
    fake = consumer(codec=AvroCodec(SCHEMA))
    seen: Collected[Any] = Collected()
    fake.register_handler(lambda _worker, message: seen.add(message.event))
    fake.start()
    fake.queue_message(SCHEMA, {"name": "Rex"})
    assert seen.wait(1) == [{"name": "Rex"}]


@pytest.mark.parametrize("ordering", list(Ordering))
def test_a_thousand_messages_take_less_than_a_second(consumer: MakeConsumer, ordering: Ordering) -> None:
    """Each once, in the order of its partition where that is promised, all committed."""

    def scenario() -> None:
        fake = consumer(num_workers=4, ordering=ordering, partitions=4)
        seen: dict[int, list[int]] = defaultdict(list)
        lock = threading.Lock()

        def handler(_worker: int, message: Message) -> None:
            with lock:
                seen[message.partition].append(message.offset)

        fake.register_handler(handler)
        fake.start()
        for number in range(1_000):
            fake.queue_json({"number": number}, key=f"{number}", partition=number % 4)
        fake.wait_all_committed()
        assert fake.committed == dict.fromkeys(range(4), 251)
        assert all(sorted(seen[number]) == list(range(1, 251)) for number in range(4))
        if ordering is Ordering.PARTITION:
            assert all(offsets == sorted(offsets) for offsets in seen.values())
        fake.close()

    assert quickest(scenario) < 1


def test_batches_too(consumer: MakeConsumer) -> None:
    fake = consumer(batch_size=64, batch_wait_time=0.01)
    sizes: list[int] = []
    fake.register_batch_handler(lambda batch: sizes.append(len(batch)))
    for number in range(1_000):
        fake.queue_json(number)
    fake.start()
    fake.wait_all_committed()
    assert sum(sizes) == 1_000
    assert max(sizes) == 64


def test_fakes_of_one_cluster_share_its_topics_and_groups(
    consumer: MakeConsumer, producer: MakeProducer
) -> None:
    """A service that consumes and produces, and a second member of its group."""
    cluster = MemoryCluster(partitions=2)
    out = producer(cluster=cluster)
    first, second = (consumer(cluster=cluster, partitions=2) for _ in range(2))
    handled: Collected[tuple[int, int]] = Collected()

    def handler_of(number: int) -> Callable[[int, Message], None]:
        def handler(_worker: int, message: Message) -> None:
            handled.add((number, message.partition))
            out.send_bytes(message.data)

        return handler

    for number, fake in enumerate((first, second)):
        fake.register_handler(handler_of(number))
        fake.start()
        assert fake.state_wait(State.CONSUMING, PATIENCE)
    assert first.rebalance_cluster()
    for partition in (0, 1):
        first.queue_bytes(b"%d" % partition, partition=partition)
    first.wait_all_committed()
    found = handled.wait(2)
    assert {partition for _, partition in found} == {0, 1}
    assert {number for number, _ in found} == {0, 1}, "each member has one of the two partitions"
    assert {out.wait_for_sent().value() for _ in range(2)} == {b"0", b"1"}
    assert second.stop_and_wait(PATIENCE)
    first.queue_bytes(b"2", partition=0)
    first.queue_bytes(b"3", partition=1)
    first.wait_all_committed()
    assert {number for number, _ in handled.wait(4)[2:]} == {0}, "who leaves gives its partition to the other"


# -- the fake producer --------------------------------------------------------------------------------


def test_20_9_the_fake_is_a_producer(producer: MakeProducer) -> None:
    """contract 20.9"""
    fake = producer()
    assert isinstance(fake, RealProducer)
    assert fake.is_initialised
    assert fake.close() == 0
    with pytest.raises(ClosedError):
        fake.send_bytes(b"")


def test_20_10_messages_are_waited_for_one_by_one_and_decoded(producer: MakeProducer) -> None:
    """contract 20.10"""
    fake = producer(partitions=2)
    fake.add_header("service", "pets")
    fake.send(SCHEMA, {"name": "Rex"})
    fake.send_json({"name": "Tom"})
    fake.send_bytes(b"raw", key="k", headers={"colour": "blue"}, partition=1)
    assert fake.wait_for_message_sent(SCHEMA) == {"name": "Rex"}
    assert fake.wait_for_json_message_sent() == {"name": "Tom"}
    record = fake.wait_for_sent()
    assert (record.value(), record.key(), record.partition()) == (b"raw", b"k", 1)
    headers = dict(record.headers() or [])
    assert (headers["service"], headers["colour"]) == (b"pets", b"blue")
    assert headers["request-id"], "the trace id goes with it, as on a real one"
    assert [one.offset() for one in fake.sent] == [0, 1, 0]
    fake.wait_no_message_sent(0.01)


def test_20_10_a_message_that_comes_later_is_waited_for(producer: MakeProducer) -> None:
    fake = producer()
    waiting = in_thread(fake.wait_for_json_message_sent)
    fake.send_json(1)
    assert waiting.result(PATIENCE) == 1


def test_20_10_what_does_not_come_or_is_something_else_is_an_error(producer: MakeProducer) -> None:
    """contract 20.10: errors for timeout, a closed producer, a decode failure"""
    fake = producer()
    with pytest.raises(KafkaTestError, match=r"within 0\.01 seconds"):
        fake.wait_for_sent(0.01)
    for value in (b"\xff", None):
        fake.send_bytes(value)
        fake.send_bytes(value)
        with pytest.raises(KafkaTestError, match="a message was sent, but"):
            fake.wait_for_message_sent(SCHEMA)
        with pytest.raises(KafkaTestError, match="a message was sent, but"):
            fake.wait_for_json_message_sent()
    waiting = in_thread(lambda: fake.wait_for_sent(PATIENCE))
    fake.close()
    with pytest.raises(KafkaTestError, match="the producer is closed"):
        waiting.result(PATIENCE)


def test_20_11_no_message_means_a_whole_window_without_one(producer: MakeProducer) -> None:
    """contract 20.11"""
    fake = producer()
    began = time.monotonic()
    fake.wait_no_message_sent(0.05)
    assert time.monotonic() - began >= 0.05
    waiting = in_thread(lambda: fake.wait_no_message_sent(PATIENCE))
    fake.send_bytes(b"")
    with pytest.raises(KafkaTestError, match="was not expected"):
        waiting.result(PATIENCE)
    fake.wait_for_sent()
    waiting = in_thread(lambda: fake.wait_no_message_sent(PATIENCE))
    fake.close()
    with pytest.raises(KafkaTestError, match="closed while no message was expected"):
        waiting.result(PATIENCE)


def test_the_output_channel_is_the_library_s_too(producer: MakeProducer) -> None:
    fake = producer()
    fake.channels.output.put(BytesMessage(b"by the channel"))
    assert fake.wait_for_sent().value() == b"by the channel"


def test_a_delivery_can_fail(producer: MakeProducer) -> None:
    fake = producer()
    outcomes: Collected[BaseException | None] = Collected()
    fake.fail_next("produce", "NOT_LEADER_FOR_PARTITION")
    fake.send_bytes(b"", on_delivery=lambda error, _message: outcomes.add(error))
    (failure,) = outcomes.wait(1)
    assert isinstance(failure, DeliveryError)
    assert failure.name == "NOT_LEADER_FOR_PARTITION"
    assert fake.channels.errors.get(timeout=PATIENCE) is failure
    assert fake.sent == []
    fake.fail_next("produce", BufferError())
    with pytest.raises(QueueFullError):
        fake.send_bytes(b"", timeout=0)


def test_what_a_client_refuses_the_fake_refuses_too(producer: MakeProducer) -> None:
    """A partition that is not there, a message that is too large, a queue that is full."""
    fake = producer(max_message_bytes=1_000, librdkafka={"queue.buffering.max.messages": 2})
    with pytest.raises(DeliveryError) as caught:
        fake.send_bytes(b"v", partition=7)
    assert caught.value.name == "_UNKNOWN_PARTITION"
    with pytest.raises(MessageTooLargeError):
        fake.send_bytes(b"v" * 1_001)
    fake.cluster.down()
    for _ in range(2):
        fake.send_bytes(b"v")
    with pytest.raises(QueueFullError):
        fake.send_bytes(b"one more", timeout=0)
    fake.cluster.up()
    assert fake.flush(PATIENCE) == 0
    assert [message.value() for message in fake.sent] == [b"v", b"v"]


def test_while_the_cluster_is_down_messages_wait_and_close_gives_them_up(producer: MakeProducer) -> None:
    fake = producer()
    fake.cluster.down()
    fake.send_bytes(b"later")
    assert fake.flush(0.01) == 1
    assert fake.sent == []
    fake.cluster.up()
    assert fake.wait_for_sent().value() == b"later"
    assert fake.flush(PATIENCE) == 0
    fake.cluster.down()
    fake.send_bytes(b"never")
    assert fake.close(timeout=0.05) == 1


def test_a_thousand_sends_take_less_than_a_second(producer: MakeProducer) -> None:
    def scenario() -> None:
        fake = producer()
        for number in range(1_000):
            fake.send_json({"number": number})
        assert [fake.wait_for_json_message_sent()["number"] for _ in range(1_000)] == list(range(1_000))
        assert fake.close() == 0

    assert quickest(scenario) < 1


# -- messages and mocks -------------------------------------------------------------------------------


def test_20_12_a_new_message_is_a_message_that_tells_what_was_done_to_it() -> None:
    """contract 20.12"""
    message = new_message(
        b'{"a": 1}', 5, headers={"colour": "blue"}, key="k", topic="t", partition=2, codec=JsonCodec()
    )
    assert isinstance(message, Message)
    assert (message.data, message.offset, message.key) == (b'{"a": 1}', 5, b"k")
    assert (message.topic, message.partition, message.attempt) == ("t", 2, 1)
    assert message.headers == [("colour", b"blue")]
    assert message.event == {"a": 1}
    assert (message.is_marked, message.is_committed, message.is_released) == (False, False, False)
    assert message.mark()
    assert (message.is_marked, message.is_committed, message.is_released) == (True, False, False)
    assert message.commit()
    assert (message.is_marked, message.is_committed, message.is_released) == (True, True, False)
    assert not message.upstream_done.is_set()
    message.release()
    assert (message.is_marked, message.is_committed, message.is_released) == (True, True, True)
    assert message.released
    assert message.upstream_done.is_set()


def test_20_12_release_alone_commits_nothing_and_commit_and_release_does_both() -> None:
    released, both = new_message(b"", 1), new_message(b"", 2)
    released.release()
    assert (released.is_marked, released.is_committed, released.is_released) == (False, False, True)
    assert both.commit_and_release()
    assert (both.is_marked, both.is_committed, both.is_released) == (True, True, True)


def test_20_12_a_message_that_cannot_be_is_refused() -> None:
    """contract 20.12: an option may fail"""
    with pytest.raises(TypeError, match="encode it first"):
        new_message("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must not be negative"):
        new_message(b"", -1)
    with pytest.raises(TypeError, match="header"):
        new_message(b"", headers={"number": 1})  # type: ignore[dict-item]
    assert new_message(None).data is None


@pytest.mark.parametrize(
    ("make", "cls"),
    [(consumer_group_mock, ConsumerGroup), (producer_mock, RealProducer), (message_mock, Message)],
    ids=["consumer group", "producer", "message"],
)
def test_20_1_mocks_know_the_signatures(make: Callable[[], Any], cls: type) -> None:
    """contract 20.1: recorded calls; beyond it, a wrong call fails"""
    mock = make()
    assert isinstance(mock, cls)
    with pytest.raises(AttributeError):
        mock.no_such_method()
    with pytest.raises(AttributeError):
        mock.no_such_attribute = 1
    method = mock.release if cls is Message else mock.log_errors
    method()
    with pytest.raises(TypeError):
        method("one argument too many")
    method.assert_called_once_with()


def test_20_1_a_wrong_keyword_fails() -> None:
    mock = producer_mock()
    mock.send_json({"a": 1}, key="k")
    mock.send_json.assert_called_once_with({"a": 1}, key="k")
    with pytest.raises(TypeError):
        mock.send_json({"a": 1}, kye="k")
    mock.send_bytes.side_effect = QueueFullError("full")
    with pytest.raises(QueueFullError):
        mock.send_bytes(b"")
    with mock as entered:
        assert entered is mock


def test_20_4_a_mock_can_delegate_to_a_fake_and_records_the_calls(
    consumer: MakeConsumer, producer: MakeProducer
) -> None:
    """contract 20.4"""
    fake = consumer()
    mock = consumer_group_mock(fake)
    assert (mock.topic, mock.is_initialised, mock.state) == ("in", True, State.STOPPED)
    mock.start()
    assert mock.state_wait(State.CONSUMING, timeout=PATIENCE)
    assert mock.state is fake.state
    mock.start.assert_called_once_with()
    sender = producer()
    recorder = producer_mock(sender)
    with recorder as entered:
        entered.send_json(1, key="k")
    recorder.send_json.assert_called_once_with(1, key="k")
    assert sender.wait_for_json_message_sent() == 1
    assert sender.channels.closed.is_set(), "leaving the block closed it"
    message = new_message(b"x", 3)
    stand_in = message_mock(message)
    assert stand_in.offset == 3
    stand_in.release()
    assert message.is_released
    with pytest.raises(TypeError, match="must be a ConsumerGroup"):
        consumer_group_mock(sender)  # type: ignore[arg-type]
