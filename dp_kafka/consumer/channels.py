"""The channels of a consumer group, for those who steer and read it by channels instead of by calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from dp_kafka.channels import Channel, ErrorsChannel
from dp_kafka.consumer.upstream import UpstreamChannel
from dp_kafka.state import StateMachine

__all__ = ["ConsumeChannel", "ConsumerGroupChannels"]


class ConsumeChannel(Channel[bool]):
    """Start and stop by value: `put(True)` is `start()`, `put(False)` is `stop()`; closing it closes the
    group.

    Nothing is ever kept inside, so `put` never waits.
    """

    def __init__(
        self, start: Callable[[], None], stop: Callable[[], None], close: Callable[[], None]
    ) -> None:
        super().__init__()
        self._start = start
        self._stop = stop
        self._on_close = close

    def put(self, item: bool, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002
        """Start (True) or stop (False) the group.

        Raises:
            ChannelClosed: the consumer is closed.
            TypeError: neither True nor False.
        """
        if not isinstance(item, bool):
            raise TypeError(f"the consume channel takes True or False, but got {type(item).__name__}")
        with self.mutex:
            self._check_open()
        if item:
            self._start()
        else:
            self._stop()

    def close(self) -> bool:
        """Close the channel, and with it the group, without waiting for it."""
        closed = super().close()
        if closed:
            self._on_close()
        return closed


@dataclass(frozen=True)
class ConsumerGroupChannels:
    """What a consumer group is read and steered by; any thread may use any of it.

    - `upstream`: a `Channel` that gives each `Message` to those who register no handler, and must release it.
    - `errors`: a `Channel` of exceptions: what went wrong; the last 20 are kept, older ones are counted in
      its `dropped`.
    - `initialised`: set once a broker has answered.
    - `consume`: `put(True)` starts, `put(False)` stops, `close()` closes the consumer group.
    - `closer`: setting it closes the consumer group, without waiting for that.
    - `closed`: set when the close has finished.
    - `state`: `state.current` is the present one, `state.wait(State.CONSUMING, timeout)` waits for one.
    """

    upstream: UpstreamChannel
    errors: ErrorsChannel
    initialised: threading.Event
    consume: ConsumeChannel
    closer: threading.Event
    closed: threading.Event
    state: StateMachine
