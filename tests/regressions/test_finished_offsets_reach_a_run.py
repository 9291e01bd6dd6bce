"""A partition stopped for good when finished offsets came while a worker had a run of messages.

A group had finished messages beyond an unfinished one. Its next session got the unfinished one alone, and a
worker began a run on it; those behind it, which were finished already, came later. A run counts as if nothing
beyond it were finished: they stayed in the books for ever, and at ten thousand the partition handed out no
more. Or else they were counted in the place of later messages, which were then handled and not committed.
"""

from __future__ import annotations

import threading
from typing import Any

from dp_kafka import HandlerError, Message
from dp_kafka.consumer.backlog import WINDOW
from dp_kafka.consumer.client import confluent_consumer
from tests.conftest import INCREMENTAL, CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.lanes import new_session, open_lane, raws
from tests.looking import eventually
from tests.waiting import PATIENCE, Collected


class OneFirst:
    """A real client that gives one message alone, and the rest when it `may_go_on`."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self._client = confluent_consumer(properties)
        self.may_go_on = threading.Event()
        self._given = False

    def consume(self, count: int, timeout: float) -> list[Any]:
        messages: list[Any] = self._client.consume(count, timeout) if self.may_go_on.is_set() else []
        return messages

    def poll(self, timeout: float) -> Any:
        if self._given and not self.may_go_on.is_set():
            self.may_go_on.wait(min(timeout, 0.01))
            return None
        message = self._client.poll(timeout)
        self._given = self._given or message is not None
        return message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_finished_offsets_that_come_while_a_worker_is_at_work_are_passed(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    name = topic()
    send(name, *map(str, range(60)))
    first = consumer_group(name, librdkafka=INCREMENTAL)
    seen: Collected[int] = Collected()

    def leave_the_first(_worker: int, message: Message) -> None:
        seen.add(message.offset)
        if message.offset == 0:
            raise HandlerError("not yet", commit=False)

    first.register_handler(leave_the_first)
    first.start()
    seen.wait(60)
    first.close()

    clients: list[OneFirst] = []

    def factory(properties: dict[str, Any]) -> OneFirst:
        clients.append(OneFirst(properties))
        return clients[-1]

    again = consumer_group(name, group_name=first.group_name, client_factory=factory, librdkafka=INCREMENTAL)
    handled: Collected[int] = Collected()
    may_go = threading.Event()

    def wait_at_the_first(_worker: int, message: Message) -> None:
        handled.add(message.offset)
        if message.offset == 0:
            assert may_go.wait(PATIENCE)

    again.register_handler(wait_at_the_first)
    again.start()
    handled.wait(1)
    clients[-1].may_go_on.set()
    membership = again._poller.membership
    assert membership is not None
    # All of them are delivered: 0, and those that nobody is to handle.
    eventually(lambda: len(membership.session.lanes[0].offsets), 60)
    may_go.set()
    end = 60 + WINDOW
    send(name, *map(str, range(60, end)))
    handled.wait(1 + WINDOW)
    assert again.stop_and_wait(PATIENCE)
    assert handled.items == [0, *range(60, end)]
    assert committed(first.group_name, name) == end


def test_a_run_ends_when_finished_offsets_come() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.start_at(0, [2, 3])
    lane.add(raws(0, 1))
    run = lane.begin_run(session.upstream.get(block=False), 1)
    assert run is not None
    run.done = 1
    lane.add(raws(2, 3, 4))
    assert lane.run is not run
    assert lane.left_at(run) == 1
    run.messages[1].commit_and_release()
    point = lane.commit_point()
    assert point is not None
    assert (point.offset, point.metadata) == (4, "")
