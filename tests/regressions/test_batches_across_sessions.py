"""A session that failed asked nobody to handle the part of a batch that was collected in it.

The part waited for the messages of the next session. The batch of both then asked for a commit where its
first message came from: of a session that had ended. What was handled of the new one was committed when
something else was, or at the stop; with `commit_interval=0` it was let go without any answer of a broker.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from dp_kafka import Message, Ordering
from dp_kafka.consumer.batch import BatchWorker
from dp_kafka.consumer.commits import GroupCommit
from dp_kafka.consumer.session import Session
from dp_kafka.consumer.upstream import UpstreamChannel
from tests.conftest import INCREMENTAL, CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.lanes import open_lane, raws
from tests.looking import eventually
from tests.waiting import PATIENCE, Collected

#: Longer than a test may take.
LONG = 10 * PATIENCE
INTERVALS = pytest.mark.parametrize("commit_interval", [0.05, 0.0], ids=["group-commit", "durable"])


@INTERVALS
def test_a_part_of_a_batch_is_handled_when_its_session_fails(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    commit_interval: float,
) -> None:
    """What was in it comes again, in a batch of the next session, which is committed."""
    name = topic()
    batches: Collected[list[int]] = Collected()
    group = consumer_group(
        name, batch_size=6, batch_wait_time=LONG, commit_interval=commit_interval, librdkafka=INCREMENTAL
    )
    group.register_batch_handler(lambda batch: batches.add([message.offset for message in batch]))
    group.start()
    send(name, *"abc")
    eventually(group._poller.in_hand, 3)
    group._poller._errors.take(KafkaError(KafkaError._FATAL, "of the test", fatal=True))
    assert batches.wait(1) == [[0, 1, 2]]
    send(name, *"def")
    assert batches.wait(2)[1] == [0, 1, 2, 3, 4, 5]
    eventually(lambda: committed(group.group_name, name), 6)


@pytest.fixture
def upstream() -> Iterator[UpstreamChannel]:
    channel = UpstreamChannel()
    yield channel
    channel.close()


@INTERVALS
def test_a_batch_of_two_sessions_asks_for_the_commits_of_both(
    upstream: UpstreamChannel, commit_interval: float
) -> None:
    """The session ended in the moment between the worker's look at that and the message of the next one."""
    old, new = (Session(upstream, GroupCommit(commit_interval), Ordering.PARTITION) for _ in range(2))
    batches: Collected[list[Message]] = Collected()
    worker = BatchWorker(
        "topic",
        batches.add,
        upstream,
        lambda _worker, _error: None,
        batch_size=2,
        batch_wait_time=LONG,
        durable=commit_interval == 0,
    )
    worker.start()
    lanes = [open_lane(session) for session in (old, new)]
    for session in (old, new):
        session.set_batched()
    lanes[0].add(raws(0))
    eventually(lambda: lanes[0].in_hand, 1)
    old.commits.end()
    old.remove([lanes[0]])
    lanes[1].add(raws(0))
    (batch,) = batches.wait(1)
    assert [message._lane for message in batch] == lanes
    eventually(lambda: new.commits.pending)
    assert lanes[1].in_hand == (1 if commit_interval == 0 else 0), "only a durable one waits for the answer"
    new.commits.begin()
    new.commits.succeed()
    eventually(lambda: lanes[1].in_hand, 0)
    upstream.close()
    worker.join(PATIENCE)
    assert worker.crash is None
