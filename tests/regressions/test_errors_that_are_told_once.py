"""librdkafka tells of a right that is missing once; some of these errors got lost, and others were forgotten.

- A consumer group asks for its coordinator from the moment it is made. The refusal could come while the poll
  thread still waited for a broker's first answer: it polled, and dropped what it got.
- The health check forgot an error after a minute, since others are told again: the group was refused, and
  healthy.
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, KafkaException

from dp_kafka import KafkaClientError, State
from dp_kafka.consumer.client import confluent_consumer
from dp_kafka.health import CheckState, Status
from dp_kafka.pulse import TROUBLE_SECONDS, Trouble
from tests.conftest import INCREMENTAL, GroupFactory, TopicFactory
from tests.waiting import PATIENCE

REFUSED = "GROUP_AUTHORIZATION_FAILED"


class _Event:
    """What poll() returns for an error."""

    def error(self) -> KafkaError:
        return KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)


class _RefusedBeforeTheFirstAnswer:
    """A real client whose first lookup times out, and whose next poll brings a refusal, once."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self._client = confluent_consumer(properties)
        self._answers = False
        self._told = False

    def list_topics(self, *arguments: Any, **options: Any) -> Any:
        if not self._answers:
            self._answers = True
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return self._client.list_topics(*arguments, **options)

    def poll(self, timeout: float) -> Any:
        if not self._told:
            self._told = True
            return _Event()
        return self._client.poll(timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_a_refusal_before_the_first_answer_is_told_and_stands_until_partitions_are_assigned(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    group = consumer_group(topic(), client_factory=_RefusedBeforeTheFirstAnswer, librdkafka=INCREMENTAL)
    error = group.channels.errors.get(timeout=PATIENCE)
    assert isinstance(error, KafkaClientError)
    assert error.name == REFUSED
    assert group.channels.initialised.wait(PATIENCE)
    state = CheckState()
    group.checker(state)
    assert state.status is Status.CRITICAL
    assert REFUSED in state.message
    group.register_handler(lambda worker_id, message: None)
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    group.checker(state)
    assert state.status is Status.OK


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _noted(name: str, *, lasting: bool) -> tuple[Trouble, _Clock]:
    clock = _Clock()
    trouble = Trouble(clock)
    trouble.note(KafkaClientError(f"{name}: refused", code=30, name=name), lasting=lasting)
    return trouble, clock


def test_what_is_told_once_is_not_forgotten_and_what_is_told_again_is() -> None:
    for lasting in (True, False):
        trouble, clock = _noted(REFUSED, lasting=lasting)
        clock.now = TROUBLE_SECONDS + 1
        assert bool(trouble.text(of_connections=False)) is lasting


def test_a_broker_that_answers_ends_what_does_not_last() -> None:
    for lasting in (True, False):
        trouble, _ = _noted(REFUSED, lasting=lasting)
        trouble.connected()
        assert bool(trouble.text(of_connections=False)) is lasting


def test_messages_end_a_refusal_of_the_topic_and_not_one_of_the_group() -> None:
    for name, stands in (("TOPIC_AUTHORIZATION_FAILED", False), (REFUSED, True)):
        trouble, _ = _noted(name, lasting=True)
        trouble.consumed()
        assert bool(trouble.text(of_connections=False)) is stands
