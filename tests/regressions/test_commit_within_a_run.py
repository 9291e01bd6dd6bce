"""A message was not committed while the worker was busy with one that it had claimed together with it.

The committer looked whether a lane's books had changed before it let the lane count what the worker of a run
had done. So when a commit was sent between two messages of a run, the second one's had to wait for the end of
the run: for as long as the next handler took, and for ever if that hung.
"""

from __future__ import annotations

import threading

from dp_kafka import Message
from tests.conftest import INCREMENTAL, CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.lanes import new_session, open_lane, raws
from tests.waiting import PATIENCE


def test_a_message_is_committed_while_the_next_of_its_run_is_at_work(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    name = topic()
    send(name, "a", "b", "c")
    group = consumer_group(name, librdkafka=INCREMENTAL)
    answers: dict[int, bool] = {}
    done = threading.Event()

    def becomes(position: int) -> bool:
        pause = threading.Event()
        return any(committed(group.group_name, name) == position or pause.wait(0.05) for _ in range(100))

    def handle(worker_id: int, message: Message) -> None:
        # Each waits for the commit of the one before: so one is sent between any two.
        if message.offset:
            answers[message.offset] = becomes(message.offset)
        if message.offset == 2:
            done.set()

    group.register_handler(handle)
    group.start()
    assert done.wait(3 * PATIENCE)
    assert answers == {1: True, 2: True}


def test_a_commit_point_that_is_known_is_counted_first() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(0, 1, 2))
    run = lane.begin_run(session.upstream.get(block=False), 2)
    assert run is not None
    run.done = 1
    first = lane.commit_point()
    assert first is not None
    assert first.offset == 1
    assert lane.commit_point(first.change) is None
    run.done = 2
    second = lane.commit_point(first.change)
    assert second is not None
    assert second.offset == 2
