"""A consumer group in a forked child: its parts are switched off, so that nothing of it hangs there.

No lock is taken, as the thread that held it may not exist in the child: what has a lock gets a new one.
"""

from __future__ import annotations

import threading
from typing import cast

from dp_kafka import forks
from dp_kafka.channels import ErrorsChannel, Signal
from dp_kafka.consumer.channels import ConsumeChannel, ConsumerGroupChannels
from dp_kafka.consumer.control import Control
from dp_kafka.consumer.lane import LanePhase
from dp_kafka.consumer.poller import Poller
from dp_kafka.consumer.upstream import UpstreamChannel

__all__ = ["KIND", "switch_off"]

#: What the error calls it.
KIND = "ConsumerGroup"


def switch_off(control: Control, poller: Poller, channels: ConsumerGroupChannels) -> None:
    """Keep the Kafka client, refuse every wish, close the channels, and give up the messages in hand."""
    forks.keep(poller.client)
    forks.refuse(control, KIND)
    # Whoever waits for a state would wait for ever.
    forks.refuse(control.machine, KIND)
    # These have no lock: a wait of this thread, on top of which a signal handler forked, ends in the child.
    channels.initialised.clear()
    control.drained.clear()
    control.settled.clear()
    channels.closed.set()
    cast(Signal, channels.closer)._forget()
    UpstreamChannel.__init__(channels.upstream)
    ErrorsChannel.__init__(channels.errors)
    refuse = forks.refuser(KIND)
    ConsumeChannel.__init__(channels.consume, refuse, refuse, _nothing)
    channels.upstream.close()
    channels.errors.close()
    session = poller.session
    if session is None:
        return
    # The parent's lanes go on in the parent. Here a message that a handler forked with can be released, and
    # committing it does nothing, and says so.
    session._idle = threading.Condition()
    for lane in session.lanes.values():
        lane._lock = threading.Lock()
        lane.phase = LanePhase.DROPPED


def _nothing() -> None:
    """The parent's group is not closed from here."""
