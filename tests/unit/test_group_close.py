"""What users rely on when a consumer group closes: it ends, whoever closes it, whatever goes wrong."""

from __future__ import annotations

import contextlib
import logging
import operator
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import confluent_kafka
import pytest

from dp_kafka import ChannelClosed, ClosedError, ConsumerGroup, Message, State
from dp_kafka.consumer import closing
from dp_kafka.consumer.lane import Lane
from dp_kafka.health import CheckState, HealthCheck, Status
from dp_kafka.kafkatest import EmbeddedCluster
from tests.clients import WatchedConsumer
from tests.conftest import (
    CLASSIC,
    INCREMENTAL,
    CommittedFunction,
    GroupFactory,
    SendFunction,
    TopicFactory,
    committed_offset,
)
from tests.lanes import new_session, open_lane, raws
from tests.looking import eventually
from tests.unreachable import dead_address
from tests.waiting import PATIENCE, ClosesWhenPrinted, Held, Logged, consuming, fields, in_thread

#: For a member that has to notice soon that its broker is there again.
RECONNECT = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 50}
#: Seconds within which `close(timeout=2)` has to return, whatever the brokers do.
BOUND = 3.0


@contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"it took {took:.2f} seconds"


class Busy:
    """A handler that stays with its message until it may finish."""

    def __init__(self) -> None:
        self.entered, self.finish = threading.Event(), threading.Event()

    def __call__(self, *_: object) -> None:
        self.entered.set()
        self.finish.wait(2 * PATIENCE)


@pytest.fixture
def busy() -> Iterator[Busy]:
    handler = Busy()
    yield handler
    handler.finish.set()


@pytest.fixture
def plain_send() -> Callable[..., None]:
    """Puts values into a topic of a cluster of the test's own."""

    def put(cluster: EmbeddedCluster, topic: str, *values: bytes) -> None:
        producer = confluent_kafka.Producer({"bootstrap.servers": cluster.bootstrap_servers, "linger.ms": 0})
        for value in values:
            producer.produce(topic, value, partition=0)
        assert producer.flush(PATIENCE) == 0

    return put


def in_hand(group: ConsumerGroup, busy: Busy, send: Callable[[], object]) -> ConsumerGroup:
    """The group consumes, and its handler has a message in hand."""
    group.register_handler(busy)
    consuming(group)
    send()
    assert busy.entered.wait(PATIENCE)
    return group


# -- who closes, and how often ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", [State.INITIALISING, State.STOPPED, State.CONSUMING, State.STOPPING], ids=str
)
def test_eight_threads_close_at_once_in_every_state(
    state: State,
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    busy: Busy,
) -> None:
    """Each returns, none before the group is closed, and one closing is what comes of it."""
    name = topic()
    with dead_address() as nobody:
        more = {"broker_addrs": [nobody]} if state is State.INITIALISING else {}
        group = consumer_group(name, librdkafka=INCREMENTAL, **more)
        if state in (State.CONSUMING, State.STOPPING):
            in_hand(group, busy, lambda: send(name, "a"))
        if state is State.STOPPING:
            group.stop()
        assert group.state_wait(state, PATIENCE)
        start = threading.Barrier(8)

        def close() -> tuple[int, bool]:
            start.wait(PATIENCE)
            return group.close(timeout=PATIENCE), group.channels.closed.is_set()

        calls = [in_thread(close) for _ in range(8)]
        assert group.state_wait(State.CLOSING, PATIENCE)
        busy.finish.set()
        assert [call.result(PATIENCE) for call in calls] == [(0, True)] * 8
        assert group.channels.state.entries(State.CLOSING) == 1
        assert group.close() == 0


@pytest.mark.parametrize("batch", [False, True], ids=["handler", "batch handler"])
def test_a_handler_may_close_and_its_message_is_committed(
    batch: bool,
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
) -> None:
    name = topic()
    group = consumer_group(name)
    returned: list[int] = []

    def handler(*_: object) -> None:
        returned.append(group.close(timeout=PATIENCE))
        returned.append(group.close())
        assert group.stop_and_wait() is False

    if batch:
        group.register_batch_handler(handler)
    else:
        group.register_handler(handler)
    consuming(group)
    send(name, "a")
    assert group.channels.closed.wait(PATIENCE)
    assert returned == [0, 0]
    assert committed(group.group_name, name) == 1


def test_a_health_callback_may_stop_and_close(topic: TopicFactory, consumer_group: GroupFactory) -> None:
    group = consuming(consumer_group(topic(), librdkafka=INCREMENTAL))
    answers: list[object] = []

    class Subscriber:
        def on_health_update(self, _status: Status) -> None:
            answers.append(group.stop_and_wait(PATIENCE))
            answers.append(group.close(timeout=PATIENCE))

    def check(state: CheckState) -> None:
        state.update(Status.OK, "well")

    with HealthCheck() as health:
        health.subscribe(Subscriber(), health.add_check("check", check))
        assert group.channels.closed.wait(PATIENCE)
    assert answers == [True, 0]


def test_a_checker_that_closes_does_not_wait_for_itself(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    group = consuming(consumer_group(topic()))
    state = CheckState()

    def check(found: CheckState) -> None:
        group.checker(found)
        group.close(timeout=PATIENCE)
        group.checker(found)

    check(state)
    assert state.status is Status.CRITICAL
    assert group.channels.closed.is_set()


def test_a_log_handler_that_closes_on_an_error_does_not_wait_for_itself(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    """The thread of log_errors() logs, and the close waits for that thread."""
    group = consumer_group(topic())
    group.log_errors()
    error = ClosesWhenPrinted(group)
    group.channels.errors.put(error)
    assert group.channels.closed.wait(PATIENCE)
    assert error.left


def test_a_signal_handler_may_close_on_top_of_a_close_and_of_what_holds_a_lock(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    name = topic()
    group: ConsumerGroup | None = None
    closed: list[int] = []
    old = signal.signal(
        signal.SIGALRM, lambda *_: closed.append(group.close(timeout=PATIENCE)) if group else None
    )
    try:
        for number in range(5):
            group = consumer_group(name)
            with no_longer_than(PATIENCE):
                signal.setitimer(signal.ITIMER_REAL, 0.002)
                while not closed[number:]:
                    group.stop()
                    _ = group._handlers.workers, group._error_log.thread
                assert group.close(timeout=PATIENCE) == 0
                assert group.channels.closed.is_set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert closed == [0] * 5


@pytest.mark.parametrize(
    "lock",
    [
        "_control._condition",
        "_control.deadline._condition",
        "_control.initialisation._condition",
        "_handlers._lock",
        "_error_log._lock",
        "channels.upstream.mutex",
        "channels.errors.mutex",
        "channels.consume.mutex",
    ],
)
def test_a_signal_handler_may_close_on_top_of_whatever_holds_a_lock(
    topic: TopicFactory, consumer_group: GroupFactory, lock: str
) -> None:
    """The call below it has to go on first, so it does not wait for the close that it asks for."""
    group = consumer_group(topic())
    with operator.attrgetter(lock)(group):
        assert group.close() == 0
    assert group.channels.closed.wait(PATIENCE)


@pytest.mark.parametrize("call", ["get", "mark", "release"])
def test_a_signal_handler_may_close_on_top_of_what_uses_a_partition(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    call: str,
) -> None:
    """Whoever takes messages in the main thread is in such a call half of the time, and holds its lock."""
    name = topic()
    group = consuming(consumer_group(name, librdkafka=INCREMENTAL))
    send(name, "a")
    upstream = group.channels.upstream
    signalled: list[int] = []

    class Signalling:
        """The lock of a lane, on which the signal comes while it is held."""

        def __init__(self, lock: Any) -> None:
            self._lock = lock

        def __enter__(self) -> None:
            self._lock.acquire()
            if threading.current_thread() is threading.main_thread() and armed and not signalled:
                signal.raise_signal(signal.SIGALRM)

        def __exit__(self, *_: object) -> None:
            self._lock.release()

    armed = call == "get"
    eventually(lambda: len(group._poller.session.lanes) if group._poller.session else 0, 1)
    session = group._poller.session
    assert session is not None
    lane = session.lanes[0]
    lane._lock = Signalling(lane._lock)  # type: ignore[assignment]
    old = signal.signal(signal.SIGALRM, lambda *_: signalled.append(group.close()))
    try:
        if armed:
            with contextlib.suppress(ChannelClosed):
                upstream.get(timeout=PATIENCE).commit_and_release()
        else:
            message = upstream.get(timeout=PATIENCE)
            armed = True
            getattr(message, call)()
            message.release()
    finally:
        signal.signal(signal.SIGALRM, old)
    assert signalled == [0]
    assert group.channels.closed.wait(PATIENCE)


@pytest.mark.parametrize("when", ["before the thread starts", "behind it"])
def test_a_close_that_ctrl_c_ended_as_it_began_may_be_begun_again(
    topic: TopicFactory, consumer_group: GroupFactory, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    group = consumer_group(topic())
    start = group._closer.start

    def interrupted() -> None:
        monkeypatch.undo()
        if when == "behind it":
            start()
        raise KeyboardInterrupt

    monkeypatch.setattr(group._closer, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        group.close()
    assert group.close(timeout=PATIENCE) == 0
    assert group.channels.closed.is_set()


def test_a_signal_handler_may_close_on_top_of_a_close_that_has_just_begun(
    topic: TopicFactory, consumer_group: GroupFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = consumer_group(topic())
    start, inner = group._closer.start, []

    def interrupted() -> None:
        inner.append(group.close())
        start()

    monkeypatch.setattr(group._closer, "start", interrupted)
    assert group.close(timeout=PATIENCE) == 0
    assert inner == [0]
    assert group.channels.closed.is_set()


def test_a_start_that_comes_after_the_close_has_begun_is_refused(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    """At once, whether or not the closing thread runs already."""
    group = consumer_group(topic())
    group.channels.closer.set()
    assert group.state is State.CLOSING
    with pytest.raises(ClosedError):
        group.start()
    assert group.channels.closed.wait(PATIENCE)


# -- hooks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), ValueError("hook")], ids=lambda e: type(e).__name__
)
def test_whatever_a_hook_raises_the_group_closes_and_the_next_hook_runs(
    error: BaseException, topic: TopicFactory, consumer_group: GroupFactory, logged: Logged
) -> None:
    group = consuming(consumer_group(topic()))
    ran: list[str] = []

    def fails() -> None:
        raise error

    assert group.close(fails, lambda: ran.append("second"), timeout=PATIENCE) == 0
    assert group.channels.closed.is_set()
    assert ran == ["second"]
    assert list(group.channels.errors) == [error]
    assert logged.of("a hook of close() failed")


def test_a_hook_may_call_anything(topic: TopicFactory, consumer_group: GroupFactory) -> None:
    """It runs outside every lock: whatever it calls answers, from its own thread and from another one."""
    group = consuming(consumer_group(topic()))
    answers: list[object] = []

    def hook() -> None:
        answers.append(group.close())
        answers.append(group.stop_and_wait(PATIENCE))
        answers.append(in_thread(lambda: group.stop_and_wait(PATIENCE)).result(PATIENCE))
        group.stop()
        group.checker(CheckState())
        group.log_errors()
        answers.append(group.state)
        with pytest.raises(ClosedError):
            group.start()

    assert group.close(hook, timeout=PATIENCE) == 0
    assert answers == [0, True, True, State.CLOSING]


def test_a_hook_that_commits_where_the_broker_refuses_is_told_so(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, plain_send: Callable[..., None]
) -> None:
    """Nobody gave a timeout: the close waits for the answer to a durable commit, but not for ever."""
    own_cluster.create_topic("t")
    group = consuming(
        consumer_group(
            "t", broker_addrs=own_cluster.broker_addrs, commit_interval=0, message_consume_timeout=3.1
        )
    )
    plain_send(own_cluster, "t", b"a")
    message = group.channels.upstream.get(timeout=PATIENCE)
    own_cluster.inject_errors("OffsetCommit", *["COORDINATOR_LOAD_IN_PROGRESS"] * 2_000)
    answers: list[bool] = []

    def hook() -> None:
        answers.append(message.commit())
        own_cluster.clear_errors("OffsetCommit")

    in_thread(lambda: group.close(hook)).result(2 * PATIENCE)
    assert answers == [False]


def test_a_durable_commit_late_in_a_stop_is_waited_for(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """However long the handler took: it is the broker that has `message_consume_timeout` to answer."""
    name, entered, late = topic(), threading.Event(), threading.Event()
    answers: list[bool] = []

    def handler(_worker: int, message: Message) -> None:
        entered.set()
        assert late.wait(PATIENCE)
        answers.append(message.commit())

    group = consumer_group(name, commit_interval=0, message_consume_timeout=3.1, librdkafka=INCREMENTAL)
    group.register_handler(handler)
    consuming(group)
    send(name, "a")
    assert entered.wait(PATIENCE)
    stopping = in_thread(group.stop_and_wait)
    assert group.state_wait(State.STOPPING, PATIENCE)
    assert not group.state_wait(State.STOPPED, 3.5)  # longer than a broker has for its answer
    late.set()
    assert stopping.result(PATIENCE)
    assert answers == [True]


def test_hooks_of_a_further_close_are_not_run_and_it_says_so(
    topic: TopicFactory, consumer_group: GroupFactory, logged: Logged
) -> None:
    group = consumer_group(topic())
    ran: list[str] = []
    assert group.close(lambda: ran.append("first"), timeout=PATIENCE) == 0
    assert group.close(lambda: ran.append("second"), timeout=PATIENCE) == 0
    assert ran == ["first"]
    record = logged.wait("hooks of a further close() are not run")
    assert fields(record)["hooks"] == 1


# -- what is left -----------------------------------------------------------------------------------------


def test_close_says_what_it_left_however_quickly_the_poll_thread_goes(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, busy: Busy
) -> None:
    """The poll thread ends before the closing thread gets to count: the count is the same."""
    name = topic()
    group = in_hand(consumer_group(name), busy, lambda: send(name, "a"))

    class LateToHear(threading.Event):
        """Lets the closing thread hear only when the poll thread is gone."""

        def wait(self, timeout: float | None = None) -> bool:
            heard = super().wait(timeout)
            if heard and threading.current_thread() is group._closer:
                group._poller.join(PATIENCE)
            return heard

    group._control.drained = LateToHear()
    assert group.close(timeout=0.2) == 1


def test_a_later_close_brings_the_deadline_forward(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, busy: Busy, logged: Logged
) -> None:
    """Somebody waits for a handler without a limit; somebody else has one."""
    name = topic()
    group = in_hand(consumer_group(name), busy, lambda: send(name, "a"))
    patient = in_thread(group.close)
    assert group.state_wait(State.CLOSING, PATIENCE)
    with no_longer_than(PATIENCE / 3):
        assert group.close(timeout=0.3) == 1
        assert patient.result(PATIENCE) == 1
    record = logged.wait("closed with work left")
    assert fields(record)["in_hand"] == 1
    assert f"dp-kafka:worker-1:{name}" in fields(record)["threads"]
    assert "finish.wait" in logged.text


@pytest.mark.parametrize("commit_interval", [0.05, 0.0], ids=["group-commit", "durable"])
@pytest.mark.parametrize("hand", ["stuck", "finished", "empty"])
def test_close_with_all_brokers_dead_keeps_its_timeout_and_says_what_it_left(
    own_cluster: EmbeddedCluster,
    consumer_group: GroupFactory,
    plain_send: Callable[..., None],
    busy: Busy,
    logged: Logged,
    hand: str,
    commit_interval: float,
) -> None:
    own_cluster.create_topic("t")
    group = consumer_group(
        "t",
        broker_addrs=own_cluster.broker_addrs,
        librdkafka={**CLASSIC, **RECONNECT},
        message_consume_timeout=3.1,
        commit_interval=commit_interval,
    )
    if hand == "empty":
        consuming(group)
    else:
        in_hand(group, busy, lambda: plain_send(own_cluster, "t", b"a"))
    own_cluster.broker_down(1)
    if hand == "finished":
        busy.finish.set()
    with no_longer_than(BOUND):
        left = group.close(timeout=2)
    # With a durable commit the handler's message is in hand until the broker has answered.
    in_its_hand = hand == "stuck" or (hand == "finished" and commit_interval == 0)
    assert left == (1 if in_its_hand else 0)
    assert group.channels.closed.wait(PATIENCE)
    if in_its_hand:
        assert fields(logged.wait("closed with work left"))["in_hand"] == 1
    elif hand == "finished":
        assert fields(logged.wait("stopped without the broker's answer to a commit"))["partitions"] == [0]
    # librdkafka keeps a client with an unanswered commit until it is answered, or the session is over.
    own_cluster.broker_up(1)
    group._poller.join(PATIENCE)
    assert not group._poller.is_alive()


def test_stop_and_wait_with_all_brokers_dead_keeps_its_timeout_and_ends_once_one_is_back(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, plain_send: Callable[..., None], busy: Busy
) -> None:
    own_cluster.create_topic("t")
    group = consumer_group(
        "t", broker_addrs=own_cluster.broker_addrs, librdkafka={**INCREMENTAL, **RECONNECT}
    )
    in_hand(group, busy, lambda: plain_send(own_cluster, "t", b"a"))
    own_cluster.broker_down(1)
    busy.finish.set()
    with no_longer_than(BOUND):
        assert not group.stop_and_wait(timeout=1)
    assert group.state is State.STOPPING
    own_cluster.broker_up(1)
    assert group.stop_and_wait(PATIENCE)
    assert committed_offset(own_cluster, group.group_name, "t") == 1


def test_a_user_who_keeps_messages_is_waited_for_no_longer_than_message_consume_timeout(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    group = consuming(consumer_group(name, message_consume_timeout=3.1))
    send(name, "kept")
    kept: Message = group.channels.upstream.get(timeout=PATIENCE)
    with no_longer_than(3.1 + BOUND):
        assert group.close() == 1
    assert kept.commit() is False


# -- when something of our own goes wrong -----------------------------------------------------------------


def test_the_hooks_of_a_close_that_is_begun_again_behind_a_ctrl_c_run_once(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic()
    group = consumer_group(name)
    send(name, "a")
    held = Held.by(group)
    start, ran = threading.Thread.start, list[str]()

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread is group._closer:
            raise KeyboardInterrupt

    def first() -> None:
        ran.append("first")

    def second() -> None:
        ran.append("second")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            group.close(first)
    closing = in_thread(lambda: group.close(first, second, timeout=PATIENCE))
    eventually(lambda: len(group._closer._hooks), 2)
    held.finish.set()
    assert closing.result(PATIENCE) == 0
    assert ran == ["first", "second"]


def test_closed_is_set_though_closing_itself_fails(
    topic: TopicFactory, consumer_group: GroupFactory, logged: Logged
) -> None:
    group = consuming(consumer_group(topic()))
    mishap = RuntimeError("a mistake of ours")

    def fails(*_: object) -> None:
        raise mishap

    group._closer._join = fails  # type: ignore[method-assign]
    group.close(timeout=PATIENCE)
    assert group.channels.closed.is_set()
    assert list(group.channels.errors) == [mishap]
    assert logged.of("closing the consumer failed")
    group._poller.join(PATIENCE)
    assert not group._poller.is_alive()


def test_a_client_that_does_not_go_holds_up_no_close(
    topic: TopicFactory, consumer_group: GroupFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a forked process, where glibc may never resolve a name: the group has been left before."""
    monkeypatch.setattr(closing, "LET_GO_SECONDS", 0.2)
    may_go = threading.Event()

    class GoesLate(WatchedConsumer):
        def close(self) -> None:
            self._client.close()
            may_go.wait(PATIENCE)

    group = consuming(
        consumer_group(topic(), client_factory=lambda properties: GoesLate(properties, lambda _: None))
    )
    try:
        assert in_thread(group.close).result(PATIENCE / 2) == 0
        assert group._poller.is_alive()
    finally:
        may_go.set()
    group._poller.join(PATIENCE)


def test_where_no_thread_can_be_started_the_caller_closes(
    topic: TopicFactory, consumer_group: GroupFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Python 3.12 on that is so while the interpreter shuts down."""
    group = consuming(consumer_group(topic()))

    def refuses() -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(group._closer, "start", refuses)
    assert group.close(lambda: group.close(), timeout=PATIENCE) == 0
    assert group.channels.closed.is_set()


def test_a_logging_filter_that_raises_does_not_hide_a_poll_thread_that_died(
    topic: TopicFactory, consumer_group: GroupFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = consuming(consumer_group(topic()))

    def raises(record: logging.LogRecord) -> bool:
        if record.getMessage().startswith("poll thread died"):
            raise RuntimeError("a filter of the user's")
        return True

    logger = logging.getLogger("dp_kafka.consumer")
    logger.addFilter(raises)
    try:
        monkeypatch.setattr(group._poller.membership, "_turn", _dies)
        assert group.channels.closed.wait(PATIENCE)
    finally:
        logger.removeFilter(raises)
    assert group.state is State.CLOSING


def _dies(*_: object) -> None:
    raise KeyboardInterrupt


def test_counting_what_is_in_hand_while_partitions_go_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The closing thread counts while the poll thread takes lanes out of its dict."""
    session = new_session()
    for partition in range(3):
        open_lane(session, partition).add(raws(1, partition=partition))
    for _ in range(3):
        session.upstream.get(block=False)
    real: Any = Lane.in_hand

    def goes_away(lane: Lane) -> int:
        session.lanes.pop(2, None)
        return int(real.fget(lane))

    monkeypatch.setattr(Lane, "in_hand", property(goes_away))
    assert session.in_hand() == 3
    eventually(lambda: len(session.lanes), 2)
