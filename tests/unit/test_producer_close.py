"""What users rely on when a producer closes: nothing is lost silently, nothing hangs, nothing stays."""

from __future__ import annotations

import contextlib
import gc
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import confluent_kafka
import pytest

from dp_kafka import (
    BytesMessage,
    ChannelClosed,
    ClosedError,
    DeliveryError,
    KafkaClientError,
    NotInitialisedError,
    Producer,
    ProducerConfig,
)
from dp_kafka.health import CheckState, Status
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.producer import closing
from dp_kafka.producer.channels import OutputChannel
from dp_kafka.producer.output import OutputThread
from tests.conftest import ProducerFactory, TopicFactory
from tests.looking import eventually
from tests.sending import (
    PLAIN,
    RECONNECT,
    Breakable,
    Outcomes,
    Wrapped,
    on_broker,
    quick_producer,
    ready,
    received,
    taken_by_broker,
    unreachable,
)
from tests.waiting import PATIENCE, ClosesWhenPrinted, in_thread


@contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"it took {took:.2f} seconds"


# -- nothing is lost silently -----------------------------------------------------------------------------


def test_what_is_accepted_while_another_thread_closes_is_delivered(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory
) -> None:
    """Eight threads send until they are refused: as many messages are on the broker as were accepted."""
    name = topic()
    made = producer(name)
    started = threading.Barrier(9)

    def send_all(by_output: bool) -> int:
        started.wait(PATIENCE)
        if by_output:
            return sends_until_closed(made.channels.output.put, BytesMessage(b"v"))
        return sends_until_closed(made.send_bytes, b"v")

    senders = [in_thread(lambda odd=number % 2: send_all(bool(odd))) for number in range(8)]
    started.wait(PATIENCE)
    assert made.close(timeout=PATIENCE) == 0
    accepted = sum(sender.result(PATIENCE) for sender in senders)
    assert taken_by_broker(cluster, name) == accepted
    assert made.channels.errors.qsize() == 0


def test_the_first_put_and_the_close_at_the_same_moment(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory
) -> None:
    """The put that starts the output thread is either refused or delivered."""
    name = topic()
    made = producer(name)
    together = threading.Barrier(2)

    def put() -> int:
        together.wait(PATIENCE)
        try:
            made.channels.output.put(BytesMessage(b"v"))
        except ChannelClosed:
            return 0
        return 1

    putting = in_thread(put)
    together.wait(PATIENCE)
    assert made.close(timeout=PATIENCE) == 0
    assert taken_by_broker(cluster, name) == putting.result(PATIENCE)


def test_close_with_the_broker_gone_keeps_its_timeout_and_says_how_many_were_left(
    own_cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    own_cluster.create_topic("t")
    made = ready(quick_producer(own_cluster))
    made.send_bytes(b"arrives")
    assert made.flush(PATIENCE) == 0
    own_cluster.broker_down(1)
    outcomes = Outcomes()
    for _ in range(30):
        made.send_bytes(b"v", on_delivery=outcomes.outcome)
    made.channels.output.put(BytesMessage(b"v", on_delivery=outcomes.outcome))
    with no_longer_than(3):
        assert made.close(timeout=2) == 31
    # It does not wait for all of the callbacks where the machine is too busy for that.
    told = outcomes.wait(31)
    assert [type(error) for error, _ in told] == [DeliveryError] * 31
    assert {error.name for error, _ in told if isinstance(error, DeliveryError)} <= {
        "_PURGE_QUEUE",
        "_PURGE_INFLIGHT",
    }
    kept = [error for error in made.channels.errors if isinstance(error, DeliveryError)]
    assert len(kept) + made.channels.errors.dropped >= 31
    assert "closed with messages left" in caplog.text
    assert "left=31" in caplog.text
    # What was given up does not arrive after all.
    own_cluster.broker_up(1)
    assert on_broker(own_cluster, "t") == 1


def test_close_without_time_gives_everything_up(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    made = ready(quick_producer(own_cluster))
    own_cluster.broker_down(1)
    outcomes = Outcomes()
    for _ in range(5_000):
        made.send_bytes(b"v", on_delivery=outcomes.outcome)
    with no_longer_than(2):
        assert made.close(timeout=0) == 5_000
    # It does not wait for all of the callbacks where the machine is too busy for that.
    eventually(lambda: len(outcomes.items), 5_000)


def test_messages_of_the_output_channel_are_given_up_when_no_broker_ever_answered() -> None:
    """Each has its error and its callback; the close waits as long as it was told, not longer."""
    made = unreachable()
    outcomes = Outcomes()
    for _ in range(50):
        made.channels.output.put(BytesMessage(b"v", on_delivery=outcomes.outcome))
    with no_longer_than(3):
        assert made.close(timeout=0.3) == 50
    assert [(type(error), message) for error, message in outcomes.wait(50)] == [(ClosedError, None)] * 50
    assert sum(isinstance(error, ClosedError) for error in made.channels.errors) == 20


def test_messages_put_before_the_broker_runs_are_sent_once_it_runs_even_while_closing(
    own_cluster: EmbeddedCluster,
) -> None:
    own_cluster.create_topic("t")
    own_cluster.broker_down(1)
    made = quick_producer(own_cluster)
    for number in range(5):
        made.channels.output.put(BytesMessage(b"%d" % number))
    closing = in_thread(made.close)
    own_cluster.broker_up(1)
    assert closing.result(PATIENCE) == 0
    assert [m.value() for m in received(own_cluster, "t", 5)] == [b"%d" % number for number in range(5)]


def test_what_the_output_channel_cannot_send_is_told_to_its_callback_and_holds_up_nothing(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory
) -> None:
    name = topic()
    made = producer(name, max_message_bytes=1000, librdkafka=PLAIN)
    outcomes = Outcomes()

    def raises(_error: BaseException | None, _message: Any) -> None:
        raise ValueError("from the callback")

    made.channels.output.put(BytesMessage(b"v" * 2_000, on_delivery=outcomes.outcome))
    made.channels.output.put(BytesMessage(b"v", key=5, on_delivery=outcomes.outcome))  # type: ignore[arg-type]
    made.channels.output.put(BytesMessage(b"v" * 2_000, on_delivery=raises))
    made.channels.output.put(BytesMessage(b"small"))
    assert made.flush(PATIENCE) == 0
    assert [message.value() for message in received(cluster, name, 1)] == [b"small"]
    too_large, bad_key = (error for error, _ in outcomes.wait(2))
    assert "larger than the limit of 1000" in str(too_large)
    assert "could not be sent: TypeError" in str(bad_key)
    made.close(timeout=PATIENCE)
    assert [type(error).__name__ for error in made.channels.errors] == [
        "MessageTooLargeError",
        "DeliveryError",
        "MessageTooLargeError",
        "ValueError",
    ]


def test_a_wrong_message_is_refused_by_who_makes_or_puts_it(
    topic: TopicFactory, producer: ProducerFactory
) -> None:
    made = producer(topic())
    with pytest.raises(TypeError, match="takes bytes or None, but got str"):
        BytesMessage("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="header 'h'"):
        BytesMessage(b"v", headers={"h": 1})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="takes a BytesMessage, but got bytes"):
        made.channels.output.put(b"v")  # type: ignore[arg-type]


# -- from anywhere, as often as anyone likes --------------------------------------------------------------


def test_several_threads_close_at_the_same_time(topic: TopicFactory, producer: ProducerFactory) -> None:
    made = producer(topic())
    for _ in range(100):
        made.send_bytes(b"v")
    closing = [in_thread(lambda: made.close(timeout=PATIENCE)) for _ in range(5)]
    assert [close.result(PATIENCE) for close in closing] == [0] * 5
    assert made.channels.closed.is_set()
    assert made.close() == 0
    assert repr(made).endswith("closed>")


def test_a_second_close_brings_the_end_forward(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    made = ready(quick_producer(own_cluster))
    own_cluster.broker_down(1)
    made.send_bytes(b"v")
    patient = in_thread(made.close)
    with no_longer_than(3):
        assert made.close(timeout=0.2) == 1
        assert patient.result(PATIENCE) == 1


def test_a_delivery_callback_may_close(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory
) -> None:
    name = topic()
    made = producer(name)
    returned: list[int] = []
    made.send_bytes(b"1", on_delivery=lambda _error, _message: returned.append(made.close()))
    made.send_bytes(b"2")
    assert made.channels.closed.wait(PATIENCE)
    assert returned == [0]
    assert on_broker(cluster, name) == 2


def test_a_log_handler_that_closes_on_an_error_does_not_wait_for_itself(
    topic: TopicFactory, producer: ProducerFactory
) -> None:
    made = producer(topic())
    made.log_errors()
    error = ClosesWhenPrinted(made)
    made.channels.errors.put(error)
    assert made.channels.closed.wait(PATIENCE)
    assert error.left


def sends_until_closed(send: Callable[[Any], None], value: Any) -> int:
    accepted = 0
    while True:
        try:
            send(value)
        except ClosedError:
            return accepted
        accepted += 1


@pytest.mark.parametrize("by_output", [False, True], ids=["send", "put"])
def test_a_signal_handler_may_close_on_top_of_a_send(
    by_output: bool, cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory
) -> None:
    """The handler runs in the middle of a send that can go on only after it: it must not wait for that."""
    made: Producer | None = None
    closed: list[int] = []
    old = signal.signal(signal.SIGALRM, lambda *_: closed.append(made.close()) if made else None)
    try:
        for number in range(4):
            name = topic()
            made = producer(name)
            send = made.channels.output.put if by_output else made.send_bytes
            value: Any = BytesMessage(b"v") if by_output else b"v"
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            with no_longer_than(PATIENCE):
                accepted = sends_until_closed(send, value)
            assert made.channels.closed.wait(PATIENCE)
            assert closed == [0] * (number + 1)
            # The send that the signal interrupted may have been accepted after the count.
            assert on_broker(cluster, name) in (accepted, accepted + 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_setting_closer_closes(topic: TopicFactory, producer: ProducerFactory) -> None:
    made = producer(topic())
    made.channels.closer.set()
    assert made.channels.closed.wait(PATIENCE)
    with pytest.raises(ClosedError):
        made.send_bytes(b"v")


def test_close_wakes_whoever_waits() -> None:
    made = unreachable(min_retry_period=30, max_retry_period=30)
    waiting = [
        in_thread(lambda: made.send_bytes(b"v", timeout=PATIENCE)),
        in_thread(made.initialise),
    ]
    with no_longer_than(PATIENCE / 2):
        made.close(timeout=PATIENCE)
        for call in waiting:
            with pytest.raises((ClosedError, NotInitialisedError)):
                call.result(PATIENCE)
    with pytest.raises(ClosedError):
        made.initialise()
    with pytest.raises(ClosedError):
        made.send_bytes(b"v", timeout=1)


def test_a_sender_that_waits_for_room_is_told_of_the_close(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    made = ready(quick_producer(own_cluster, librdkafka={**RECONNECT, "queue.buffering.max.messages": 1}))
    own_cluster.broker_down(1)
    made.send_bytes(b"v")
    waiting = in_thread(lambda: made.send_bytes(b"v", timeout=PATIENCE))
    assert made.close(timeout=0.2) == 1
    with pytest.raises(ClosedError):
        waiting.result(PATIENCE)


# -- nothing is left behind -------------------------------------------------------------------------------


def test_open_and_close_leaves_no_thread_and_no_file(topic: TopicFactory, cluster: EmbeddedCluster) -> None:
    name = topic()
    counts: list[int] = []
    # What earlier tests left to the garbage collector would else go in the middle of the counting.
    gc.collect()
    for number in range(12):
        with Producer(ProducerConfig(cluster.broker_addrs, name, librdkafka=PLAIN)) as made:
            made.channels.output.put(BytesMessage(b"v"))
            made.log_errors()
        assert not [t for t in threading.enumerate() if t.name.endswith(f":{name}") and "close" not in t.name]
        if number >= 6:
            counts.append(len(os.listdir("/proc/self/fd")))
    # The broker in this process closes its ends a little later, so they vary by some.
    assert max(counts) - min(counts) <= 6


def test_a_delivery_thread_that_dies_closes_the_producer_and_says_so(
    topic: TopicFactory, producer: ProducerFactory, caplog: pytest.LogCaptureFixture
) -> None:
    clients: list[Breakable] = []

    def factory(properties: dict[str, Any]) -> Breakable:
        clients.append(Breakable(properties))
        return clients[0]

    made = ready(producer(topic(), client_factory=factory))
    made.send_bytes(b"v")
    assert made.flush(PATIENCE) == 0
    clients[0].broken.set()
    assert made.channels.closed.wait(PATIENCE)
    assert isinstance(made.channels.errors.get(timeout=1), MemoryError)
    assert not made.is_initialised
    with pytest.raises(ClosedError):
        made.send_bytes(b"v")
    assert "delivery thread died" in caplog.text


def test_an_output_thread_that_dies_closes_the_producer_and_says_so(
    topic: TopicFactory,
    producer: ProducerFactory,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dies(_self: OutputChannel) -> list[BytesMessage]:
        raise MemoryError

    monkeypatch.setattr(OutputChannel, "take_all", dies)
    made = producer(topic())
    with contextlib.suppress(ChannelClosed):  # the thread may have died before the message is in
        made.channels.output.put(BytesMessage(b"v"))
    assert made.channels.closed.wait(PATIENCE)
    assert isinstance(made.channels.errors.get(timeout=1), MemoryError)
    assert made.stuck_or_dead() == ["output thread died of MemoryError"]
    assert "output thread died, the producer closes" in caplog.text


def test_a_put_that_could_not_start_the_output_thread_may_be_tried_again(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_self: OutputThread) -> None:
        raise RuntimeError("can't start new thread")

    name = topic()
    made = producer(name)
    with monkeypatch.context() as patched:
        patched.setattr(OutputThread, "start", refuses)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            made.channels.output.put(BytesMessage(b"refused"))
    made.channels.output.put(BytesMessage(b"sent"))
    assert made.close() == 0
    assert [message.value() for message in received(cluster, name, 1)] == [b"sent"]


@pytest.mark.parametrize(
    "lock",
    [
        "_output._lock",
        "_closer._deadline._condition",
        "_delivery.initialisation._condition",
        "_delivery._condition",
        "_sender._hand_over",
        "_error_log._lock",
        "channels.output.mutex",
        "channels.errors.mutex",
    ],
)
def test_a_signal_handler_may_close_on_top_of_whatever_holds_a_lock(
    topic: TopicFactory, producer: ProducerFactory, lock: str
) -> None:
    """The call below it has to go on first, so it does not wait for the close that it asks for."""
    made = producer(topic())
    with operator.attrgetter(lock)(made):
        assert made.close() == 0
    assert made.channels.closed.wait(PATIENCE)


@pytest.mark.parametrize("when", ["before the thread starts", "behind it"])
def test_a_close_that_ctrl_c_ended_as_it_began_may_be_begun_again(
    topic: TopicFactory, producer: ProducerFactory, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    made = producer(topic())
    start = made._closer.start

    def interrupted() -> None:
        monkeypatch.undo()
        if when == "behind it":
            start()
        raise KeyboardInterrupt

    monkeypatch.setattr(made._closer, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.close()
    assert made.close(timeout=PATIENCE) == 0
    assert made.channels.closed.is_set()


def test_a_signal_handler_may_close_on_top_of_a_close_that_has_just_begun(
    topic: TopicFactory, producer: ProducerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = producer(topic())
    start, inner = made._closer.start, []

    def interrupted() -> None:
        inner.append(made.close())
        start()

    monkeypatch.setattr(made._closer, "start", interrupted)
    assert made.close(PATIENCE) == 0
    assert inner == [0]
    assert made.channels.closed.is_set()


class GoesLate(Wrapped):
    """A client that librdkafka does not get rid of before the test says so."""

    may_go: threading.Event

    def __del__(self) -> None:
        self.may_go.wait(PATIENCE)


def test_a_client_that_does_not_go_holds_up_no_close(
    topic: TopicFactory, producer: ProducerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a forked process, where glibc may never resolve a name; nobody waits for a message any more."""
    monkeypatch.setattr(closing, "LET_GO_SECONDS", 0.2)
    GoesLate.may_go = threading.Event()
    made = ready(producer(topic(), client_factory=GoesLate))
    made.send_bytes(b"v")
    try:
        assert in_thread(made.close).result(PATIENCE / 2) == 0
        assert made._delivery.is_alive()
    finally:
        GoesLate.may_go.set()
    made._delivery.join(PATIENCE)


AT_EXIT = """
import atexit, sys
from dp_kafka import BytesMessage, Producer, ProducerConfig
producer = Producer(ProducerConfig([sys.argv[1]], sys.argv[2], librdkafka={"linger.ms": 5000}))
assert producer.channels.initialised.wait(15)
if sys.argv[3] == "closes":
    atexit.register(lambda: print("left", producer.close()))
for _ in range(100):
    producer.send_bytes(b"v")
    producer.channels.output.put(BytesMessage(b"v"))
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["forgets", "closes"])
def test_a_program_that_ends_without_close_still_delivers(
    how: str, cluster: EmbeddedCluster, topic: TopicFactory
) -> None:
    name = topic()
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT, cluster.broker_addrs[0], name, how],
        timeout=3 * PATIENCE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert on_broker(cluster, name) == 200
    assert ("was not closed before the program ended" in done.stderr) == (how == "forgets")
    assert ("left 0" in done.stdout) == (how == "closes")


def test_where_no_thread_can_be_started_the_caller_closes(
    topic: TopicFactory, producer: ProducerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Python 3.12 on that is so while the interpreter shuts down."""
    made = producer(topic())
    made.send_bytes(b"v")

    def refuses() -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(made._closer, "start", refuses)
    assert made.close(timeout=PATIENCE) == 0
    assert made.channels.closed.is_set()


def test_a_producer_that_may_write_nowhere_closes_and_reports_what_it_has(
    own_cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker gives it no id, which is fatal to librdkafka: docs/troubleshooting.md."""
    own_cluster.create_topic("t")
    own_cluster.inject_errors("InitProducerId", *["CLUSTER_AUTHORIZATION_FAILED"] * 100)
    outcomes, accepted = Outcomes(), 0
    with Producer(ProducerConfig(own_cluster.broker_addrs, "t")) as made:
        # librdkafka may know the refusal before the first of them.
        with contextlib.suppress(ClosedError, DeliveryError):
            for _ in range(3):
                made.send_bytes(b"v", on_delivery=outcomes.outcome, timeout=PATIENCE)
                accepted += 1
        assert made.channels.closed.wait(PATIENCE)
        state = CheckState("producer")
        made.checker(state)
        assert state.status is Status.CRITICAL
        assert "uthorization failed" in state.message
        with pytest.raises(ClosedError):
            made.send_bytes(b"v")
    assert "delivery thread died" in caplog.text
    found = [error for error in made.channels.errors if isinstance(error, KafkaClientError)]
    assert any(error.fatal and error.permanent for error in found)
    assert all(isinstance(error, DeliveryError) for error, _ in outcomes.wait(accepted))
    assert len(outcomes.items) == accepted, "each that was accepted has its report"


def test_errors_of_a_closed_producer_are_logged_by_no_thread(
    topic: TopicFactory, producer: ProducerFactory
) -> None:
    made = producer(topic())
    made.close()
    made.log_errors()
    assert made._error_log.thread is None


def test_a_log_errors_that_could_not_start_its_thread_may_be_tried_again(
    topic: TopicFactory, producer: ProducerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    made = producer(topic())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuses)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            made.log_errors()
    made.log_errors()
    assert made._error_log.thread is not None
    assert made._error_log.thread.is_alive()


class Interrupted(confluent_kafka.Producer):
    """A client whose next hand-over a signal handler interrupts, before or after it: as Ctrl-C does."""

    interrupts: frozenset[str] = frozenset()

    def produce(self, *args: Any, **options: Any) -> None:
        """Queue a message, if it comes to that."""
        self._handle_signals("before")
        super().produce(*args, **options)
        self._handle_signals("behind")

    def _handle_signals(self, when: str) -> None:
        if when in Interrupted.interrupts:
            Interrupted.interrupts = frozenset()
            raise KeyboardInterrupt


@pytest.mark.parametrize(("when", "arrives"), [("before", 2), ("behind", 3)])
def test_ctrl_c_on_top_of_a_hand_over_holds_up_neither_a_flush_nor_the_close(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory, when: str, arrives: int
) -> None:
    """Nobody knows whether that message is queued; those before and behind it are waited for all the same."""
    name = topic()
    made = ready(producer(name, client_factory=Interrupted))
    made.send_bytes(b"before")
    Interrupted.interrupts = frozenset({when})
    with pytest.raises(KeyboardInterrupt):
        made.send_bytes(b"interrupted")
    reported = threading.Event()
    made.send_bytes(b"later", on_delivery=lambda _error, _message: reported.set())
    assert made.flush(PATIENCE) == 0
    assert reported.is_set(), "the flush ended one message early"
    assert in_thread(made.close).result(PATIENCE) == 0
    assert len(received(cluster, name, arrives)) == arrives
