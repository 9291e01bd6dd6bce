"""What the broker forbids: permanent, on `errors` and in the log at ERROR, not tried again in silence."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

import pytest

from dp_kafka import DeliveryError, DpKafkaError, KafkaClientError, State
from dp_kafka.errors import CommitError
from dp_kafka.kafkatest import EmbeddedCluster
from tests.faults.service import CLASSIC, KIP_848, Service, until
from tests.waiting import PATIENCE

#: Seconds within which somebody who watches `errors`, or the log, has to know.
SHOUTED_WITHIN = 10.0
#: Enough for the whole test: the broker goes on forbidding.
FOR_EVER = 2_000

TOPIC, GROUP = "TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED"
#: All that needs a right on the group. A broker that forbids one of them forbids every one.
GROUP_REQUESTS = (
    "FindCoordinator",
    "JoinGroup",
    "SyncGroup",
    "Heartbeat",
    "ConsumerGroupHeartbeat",
    "OffsetCommit",
    "OffsetFetch",
)

membership = pytest.mark.parametrize("librdkafka", [CLASSIC, KIP_848], ids=["classic", "KIP-848"])
moment = pytest.mark.parametrize("in_the_middle", [False, True], ids=["at the start", "in the middle"])


def _forbid(cluster: EmbeddedCluster, name: str, *requests: str) -> None:
    for request in requests:
        cluster.inject_errors(request, *[name] * FOR_EVER)


def _allow(cluster: EmbeddedCluster, *requests: str) -> None:
    for request in requests:
        cluster.clear_errors(request)


def _is_permanent(error: BaseException) -> bool:
    if isinstance(error, KafkaClientError):
        return error.permanent
    return isinstance(error, (CommitError, DeliveryError))


def _says(text: str, name: str) -> bool:
    """By its name, or, where librdkafka wraps it as a fatal error of the client, by its words."""
    words = name.replace("_", " ").lower().removesuffix(" failed")
    return name in text or words in text.lower()


def _shouted(service: Service, caplog: pytest.LogCaptureFixture, name: str) -> Callable[[], bool]:
    """Whether the error is on `errors`, as a permanent one, and in the log at ERROR."""
    seen: list[DpKafkaError] = []

    def look() -> bool:
        for channel in (service.group.channels.errors, service.producer.channels.errors):
            seen.extend(error for error in list(channel.queue) if isinstance(error, DpKafkaError))
        logged = any(
            record.levelno >= logging.ERROR and _says(record.getMessage(), name)
            for record in list(caplog.records)
        )
        return logged and any(_says(str(error), name) and _is_permanent(error) for error in seen)

    return look


@membership
@moment
def test_a_forbidden_group_is_shouted_and_once_allowed_nothing_is_lost(
    own_cluster: EmbeddedCluster,
    caplog: pytest.LogCaptureFixture,
    librdkafka: dict[str, object],
    in_the_middle: bool,
) -> None:
    own_cluster.set_consumer_session_timeout(2)
    if not in_the_middle:
        _forbid(own_cluster, GROUP, *GROUP_REQUESTS)
    with Service(own_cluster, librdkafka=librdkafka) as service:
        service.group.start()
        if in_the_middle:
            service.flow(2)
            _forbid(own_cluster, GROUP, *GROUP_REQUESTS)
        service.send(2)
        assert until(_shouted(service, caplog, GROUP), SHOUTED_WITHIN)
        _allow(own_cluster, *GROUP_REQUESTS)
        # One more: what was handled and could not be committed comes again before it.
        service.flow(1)
        # The session may end between the handling and the commit, and then it has to be handled once more.
        service.wait_committed()
    service.check(once=False)


@moment
def test_a_topic_that_must_not_be_read_is_shouted_and_once_allowed_nothing_is_lost(
    own_cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture, in_the_middle: bool
) -> None:
    requests = ("Fetch", "OffsetCommit")
    if not in_the_middle:
        _forbid(own_cluster, TOPIC, *requests)
    with Service(own_cluster) as service:
        service.group.start()
        if in_the_middle:
            service.flow(2)
            _forbid(own_cluster, TOPIC, *requests)
        service.send(2)
        assert until(_shouted(service, caplog, TOPIC), SHOUTED_WITHIN)
        _allow(own_cluster, *requests)
        service.wait_handled()
    service.check()


@pytest.mark.parametrize("name", [TOPIC, GROUP])
def test_a_forbidden_commit_is_shouted_and_close_does_not_hang_on_it(
    own_cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """What is handled stays uncommitted: nobody who closes has to wait for a refusal that stands.

    Who insisted on the commit would do so for `message_consume_timeout`, and so need all of the close's time.
    """
    with Service(own_cluster, message_consume_timeout=2 * PATIENCE) as service:
        service.group.start()
        service.flow(1)
        _forbid(own_cluster, name, "OffsetCommit")
        service.flow(1)
        assert until(_shouted(service, caplog, name), SHOUTED_WITHIN)
        service.close(timeout=10.0)


def test_metadata_that_is_forbidden_is_shouted(
    own_cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """A topic that must not even be described; once allowed, what is in it is handled."""
    with Service(own_cluster) as service:
        own_cluster.set_topic_error(service.topic, TOPIC)
        service.group.start()
        assert until(_shouted(service, caplog, TOPIC), SHOUTED_WITHIN)
        own_cluster.set_topic_error(service.topic, None)
        assert service.group.state_wait(State.CONSUMING, PATIENCE)
        service.flow(2)
    service.check()


def test_a_message_that_must_not_be_written_is_reported(
    own_cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Each message has its report; none is retried in silence, and once allowed the next ones go."""
    with Service(own_cluster) as service:
        service.group.start()
        service.flow(1)
        _forbid(own_cluster, TOPIC, "Produce")
        refused: list[object] = []
        service.producer.send_bytes(b"-1", on_delivery=lambda error, _message: refused.append(error))
        assert until(_shouted(service, caplog, TOPIC), SHOUTED_WITHIN)
        assert until(lambda: bool(refused))  # it is shouted before it is reported
        (error,) = refused
        assert isinstance(error, DeliveryError)
        assert error.name == TOPIC
        _allow(own_cluster, "Produce")

        def accepted() -> bool:
            # The producer refuses at once until its next look at the topic.
            with contextlib.suppress(DeliveryError):
                service.send(1)
                return True
            return False

        assert until(accepted)
        service.wait_handled()
    service.check()
