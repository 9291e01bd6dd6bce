"""Where a new assignment starts: what is asked of the coordinator, how often, and what the answer does."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from dp_kafka.consumer import starts
from dp_kafka.consumer.metadata import encode
from dp_kafka.consumer.starts import Start, read_starts
from dp_kafka.errors import KafkaClientError

ASSIGNED = [TopicPartition("t", 0), TopicPartition("t", 1)]


class Answer(NamedTuple):
    """A partition of an answer; the error of a real one can't be set."""

    topic: str
    partition: int
    offset: int
    metadata: str | None = None
    error: KafkaError | None = None
    leader_epoch: int | None = None


class Coordinator:
    """Gives one answer after another, as the client's `committed` would; the last one again and again."""

    def __init__(self, *answers: list[Answer] | KafkaError) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.waited: list[float] = []

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[Answer]:
        assert partitions == ASSIGNED
        assert timeout > 0
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if isinstance(answer, KafkaError):
            raise KafkaException(answer)
        return answer

    def wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        return True

    def starts(self, **more: Any) -> list[Start] | None:
        return read_starts(self, ASSIGNED, **{"initial": -2, "wait": self.wait, "fields": {}, **more})


def test_it_starts_at_the_committed_offset_without_what_is_finished_beyond() -> None:
    coordinator = Coordinator(
        [Answer("t", 0, 7, encode(7, [9, 10]), leader_epoch=3), Answer("t", 1, 5, "another program's")]
    )
    first, second = coordinator.starts() or []
    assert (first.partition.offset, first.partition.leader_epoch, first.finished) == (7, 3, [9, 10])
    assert (second.partition.partition, second.partition.offset, second.finished) == (1, 5, [])


def test_a_partition_without_a_committed_offset_starts_where_the_configuration_says() -> None:
    coordinator = Coordinator([Answer("t", 0, -1001), Answer("t", 1, -1001)])
    found = coordinator.starts(initial=-2) or []
    assert [(start.partition.offset, start.finished) for start in found] == [(-2, [])] * 2


@pytest.mark.parametrize(
    "name", ["NOT_COORDINATOR", "_TIMED_OUT", "_TRANSPORT", "COORDINATOR_LOAD_IN_PROGRESS"]
)
@pytest.mark.parametrize("of_a_partition", [True, False])
def test_it_asks_until_there_is_an_answer_for_every_partition(name: str, of_a_partition: bool) -> None:
    error = KafkaError(getattr(KafkaError, name))
    bad = [Answer("t", 0, 3), Answer("t", 1, -1001, error=error)] if of_a_partition else error
    coordinator = Coordinator(bad, bad, [Answer("t", 0, 3), Answer("t", 1, 4)])
    found = coordinator.starts() or []
    assert [start.partition.offset for start in found] == [3, 4]
    assert coordinator.asked == 3
    assert len(coordinator.waited) == 2


def test_it_stops_asking_when_the_session_ends() -> None:
    coordinator = Coordinator(KafkaError(KafkaError.NOT_COORDINATOR))
    assert coordinator.starts(wait=lambda _seconds: False) is None
    assert coordinator.asked == 1


def test_what_no_further_try_changes_is_raised_at_once() -> None:
    coordinator = Coordinator(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    with pytest.raises(KafkaClientError) as raised:
        coordinator.starts()
    assert raised.value.permanent
    assert coordinator.waited == []


def test_it_gives_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "PATIENCE_SECONDS", 0.0)
    coordinator = Coordinator(KafkaError(KafkaError.NOT_COORDINATOR))
    with pytest.raises(KafkaClientError, match="NOT_COORDINATOR"):
        coordinator.starts()


def test_an_empty_assignment_asks_nothing() -> None:
    coordinator = Coordinator(KafkaError(KafkaError.NOT_COORDINATOR))
    assert read_starts(coordinator, [], initial=-2, wait=coordinator.wait, fields={}) == []
    assert coordinator.asked == 0
