"""What users rely on when they read and write a channel."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import deque
from queue import Empty, Full

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from dp_kafka import Channel, ChannelClosed
from dp_kafka.channels import ErrorsChannel, Signal
from tests.waiting import PATIENCE, in_thread


def test_what_was_put_before_the_close_can_still_be_taken() -> None:
    channel: Channel[int] = Channel()
    channel.put(1)
    channel.put(2)
    channel.close()
    assert channel.closed
    assert (channel.get(), channel.get()) == (1, 2)
    with pytest.raises(ChannelClosed):
        channel.get()


def test_put_on_a_closed_channel_is_refused() -> None:
    channel: Channel[int] = Channel()
    channel.close()
    with pytest.raises(ChannelClosed):
        channel.put(1)
    with pytest.raises(ChannelClosed):
        channel.put_nowait(1)
    assert channel.qsize() == 0


def test_only_the_first_close_says_that_it_closed() -> None:
    channel: Channel[int] = Channel()
    barrier = threading.Barrier(8)

    def close() -> bool:
        barrier.wait(PATIENCE)
        return channel.close()

    answers = [in_thread(close) for _ in range(8)]
    assert sorted(answer.result(PATIENCE) for answer in answers) == [False] * 7 + [True]


def test_close_wakes_a_thread_that_waits_for_an_item() -> None:
    channel: Channel[int] = Channel()
    waiting = in_thread(channel.get)
    channel.close()
    with pytest.raises(ChannelClosed):
        waiting.result(PATIENCE)


def test_a_take_makes_room_for_whoever_waits() -> None:
    channel: Channel[int] = Channel(maxsize=1)
    channel.put(1)
    waiting = in_thread(lambda: channel.put(2))
    assert channel.get() == 1
    waiting.result(PATIENCE)
    assert channel.get() == 2


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_timeouts_are_kept(timeout: float) -> None:
    channel: Channel[int] = Channel(maxsize=1)
    begun = time.monotonic()
    with pytest.raises(Empty):
        channel.get(timeout=timeout)
    channel.put(1)
    with pytest.raises(Full):
        channel.put(2, timeout=timeout)
    assert time.monotonic() - begun >= 2 * timeout


def test_without_blocking_nothing_is_waited_for() -> None:
    channel: Channel[int] = Channel(maxsize=1)
    with pytest.raises(Empty):
        channel.get_nowait()
    channel.put_nowait(1)
    with pytest.raises(Full):
        channel.put_nowait(2)


def test_a_negative_timeout_is_refused() -> None:
    channel: Channel[int] = Channel(maxsize=1)
    with pytest.raises(ValueError, match="-1"):
        channel.get(timeout=-1)
    with pytest.raises(ValueError, match="-1"):
        channel.put(1, timeout=-1)


def test_iteration_ends_when_closed_and_empty() -> None:
    channel: Channel[int] = Channel()
    taken = in_thread(lambda: list(channel))
    for number in range(100):
        channel.put(number)
    channel.close()
    assert taken.result(PATIENCE) == list(range(100))


def test_everything_arrives_once_with_many_writers_and_readers() -> None:
    channel: Channel[int] = Channel(maxsize=3)

    def write(first: int) -> None:
        for number in range(first, first + 200):
            channel.put(number)

    writers = [in_thread(functools.partial(write, first)) for first in range(0, 800, 200)]
    readers = [in_thread(lambda: list(channel)) for _ in range(4)]
    for writer in writers:
        writer.result(PATIENCE)
    channel.close()
    assert sorted(item for reader in readers for item in reader.result(PATIENCE)) == list(range(800))


def test_the_repr_tells_the_state_and_shows_no_item() -> None:
    channel: Channel[str] = Channel(maxsize=2)
    channel.put("secret")
    assert repr(channel) == "<Channel open, 1 waiting, maxsize 2>"
    channel.close()
    assert repr(channel) == "<Channel closed, 1 waiting, maxsize 2>"


class ChannelAsQueue(RuleBasedStateMachine):
    """A channel does what a deque with a bound and a flag does."""

    @initialize(maxsize=st.integers(0, 3))
    def make(self, maxsize: int) -> None:
        self.channel: Channel[int] = Channel(maxsize)
        self.model: deque[int] = deque()
        self.maxsize = maxsize
        self.closed = False

    @rule(item=st.integers())
    def put(self, item: int) -> None:
        if self.closed:
            with pytest.raises(ChannelClosed):
                self.channel.put(item, block=False)
        elif 0 < self.maxsize <= len(self.model):
            with pytest.raises(Full):
                self.channel.put(item, block=False)
        else:
            self.channel.put(item, block=False)
            self.model.append(item)

    @rule()
    def get(self) -> None:
        if self.model:
            assert self.channel.get(block=False) == self.model.popleft()
        else:
            with pytest.raises(ChannelClosed if self.closed else Empty):
                self.channel.get(block=False)

    @precondition(lambda self: not self.closed)
    @rule()
    def close(self) -> None:
        assert self.channel.close()
        assert not self.channel.close()
        self.closed = True


test_a_channel_is_a_bounded_queue_with_a_flag = ChannelAsQueue.TestCase
test_a_channel_is_a_bounded_queue_with_a_flag.settings = settings(max_examples=25, stateful_step_count=20)


# -- errors ---------------------------------------------------------------------------------------


def test_nobody_reading_errors_costs_the_oldest_and_stops_nobody() -> None:
    """Invariant 8."""
    errors = ErrorsChannel(maxsize=3)
    given = [ValueError(number) for number in range(5)]
    for error in given:
        errors.put(error)
    assert errors.dropped == 2
    errors.close()
    assert list(errors) == given[2:]


def test_an_error_after_the_close_is_not_kept_and_raises_nothing() -> None:
    errors = ErrorsChannel()
    errors.close()
    errors.put(ValueError())
    assert errors.qsize() == 0
    assert errors.dropped == 0


def test_a_new_error_wakes_whoever_waits_for_one() -> None:
    errors = ErrorsChannel()
    waiting = in_thread(errors.get)
    error = ValueError()
    errors.put(error)
    assert waiting.result(PATIENCE) is error


# -- signals --------------------------------------------------------------------------------------


def test_the_first_set_calls_back_in_its_own_thread() -> None:
    threads: list[threading.Thread] = []
    signal = Signal(lambda: threads.append(threading.current_thread()))
    signal.set()
    signal.set()
    assert threads == [threading.current_thread()]
    assert signal.is_set()


def test_the_event_is_set_before_the_callback_runs() -> None:
    seen: list[bool] = []
    signal = Signal(lambda: seen.append(signal.is_set()))
    signal.set()
    assert seen == [True]


def test_a_signal_without_a_callback_is_an_event() -> None:
    signal = Signal()
    assert not signal.wait(0)
    signal.set()
    assert signal.wait(0)


def test_threads_that_set_a_signal_at_the_same_time_call_back_once() -> None:
    """Even if both look before either sets it."""
    calls: list[str] = []
    both_looked = threading.Barrier(2)

    class LookedAtByBoth(Signal):
        def is_set(self) -> bool:
            found = super().is_set()
            with contextlib.suppress(threading.BrokenBarrierError):
                both_looked.wait(0.2)
            return found

    signal = LookedAtByBoth(lambda: calls.append(threading.current_thread().name))
    setters = [in_thread(signal.set) for _ in range(2)]
    for setter in setters:
        setter.result(PATIENCE)
    assert len(calls) == 1
