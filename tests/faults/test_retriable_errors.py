"""What brokers answer now and then: every retriable error costs time, never a message and never a commit.

The cases are waited for, not computed, so many of them run side by side, each with a broker of its own,
before the first of their tests looks at its outcome.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from dp_kafka import DeliveryError, Producer
from dp_kafka.kafkatest import DISCONNECT, EmbeddedCluster
from tests.faults.service import CLASSIC, KIP_848, Service, producer_config, until
from tests.sending import ready
from tests.waiting import PATIENCE, Collected

#: The protocol's retriable errors that a broker may answer to a Produce, by librdkafka's names (INVALID_MSG
#: is CORRUPT_MESSAGE).
OF_PRODUCE = [
    "INVALID_MSG",
    "UNKNOWN_TOPIC_OR_PART",
    "LEADER_NOT_AVAILABLE",
    "NOT_LEADER_FOR_PARTITION",
    "REQUEST_TIMED_OUT",
    "REPLICA_NOT_AVAILABLE",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "COORDINATOR_NOT_AVAILABLE",
    "NOT_COORDINATOR",
    "NOT_ENOUGH_REPLICAS",
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    "KAFKA_STORAGE_ERROR",
]
#: Those that no broker answers to a Produce, and librdkafka would not send the messages again.
NOT_OF_PRODUCE = [
    "NETWORK_EXCEPTION",
    "NOT_CONTROLLER",
    "LISTENER_NOT_FOUND",
    "FENCED_LEADER_EPOCH",
    "UNKNOWN_LEADER_EPOCH",
    "OFFSET_NOT_AVAILABLE",
    "PREFERRED_LEADER_NOT_AVAILABLE",
    "ELIGIBLE_LEADERS_NOT_AVAILABLE",
    "UNSTABLE_OFFSET_COMMIT",
    "THROTTLING_QUOTA_EXCEEDED",
    "UNKNOWN_TOPIC_ID",
    "INCONSISTENT_TOPIC_ID",
]
#: All of them, and the cut wire.
RETRIABLE = [*OF_PRODUCE, *NOT_OF_PRODUCE, DISCONNECT]
#: What sends a member back to join again.
REJOIN = ["UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS"]
#: After these the partitions are lost, and what was not committed is handled again.
LOST = ["UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "FENCED_MEMBER_EPOCH"]
#: So many cases run side by side.
AT_A_TIME = 24
#: Requests of a group that have their fault in the middle of the work; the others have it at the start.
_IN_THE_MIDDLE = ("Produce", "Fetch", "OffsetCommit", "Metadata", "Heartbeat", "ConsumerGroupHeartbeat")
_CLASSIC = ("JoinGroup", "SyncGroup", "Heartbeat")

CASES = [
    *(("Produce", error) for error in [*OF_PRODUCE, DISCONNECT]),
    *(
        (request, error)
        for request in ("Fetch", "OffsetCommit", "Metadata", "FindCoordinator")
        for error in RETRIABLE
    ),
    *((request, error) for request in _CLASSIC for error in [*RETRIABLE, *REJOIN]),
    *(
        ("ConsumerGroupHeartbeat", error)
        for error in (
            "COORDINATOR_LOAD_IN_PROGRESS",
            "COORDINATOR_NOT_AVAILABLE",
            "NOT_COORDINATOR",
            "UNKNOWN_MEMBER_ID",
            "FENCED_MEMBER_EPOCH",
            DISCONNECT,
        )
    ),
]


def _run(request: str, error: str) -> None:
    """Messages flow, the fault comes, and everything is handled and committed all the same."""
    with EmbeddedCluster() as cluster:

        def met() -> bool:
            return cluster.pending_errors(1, request) == 0

        in_the_middle = request in _IN_THE_MIDDLE
        if not in_the_middle:
            cluster.inject_errors(request, error, broker=1)
        with Service(cluster, librdkafka=CLASSIC if request in _CLASSIC else KIP_848) as service:
            service.group.start()
            service.flow(2)
            if in_the_middle:
                cluster.inject_errors(request, error, broker=1)
            # One message: with two batches under way the embedded broker, which knows no sequence numbers,
            # would take the second though it refused the first.
            service.flow(1)
            assert until(met), "the error was never met"
            service.flow(1)
        service.check(once=error not in LOST)


class Outcomes:
    """The outcomes of cases; who asks for one has its neighbours run beside it, which are asked for next."""

    def __init__(self, selected: list[tuple[str, str]]) -> None:
        self._selected = selected
        self._known: dict[tuple[str, str], Future[None]] = {}

    def of(self, case: tuple[str, str]) -> Future[None]:
        if case not in self._known:
            first = self._selected.index(case) // AT_A_TIME * AT_A_TIME
            with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="test:case") as pool:
                for each in self._selected[first : first + AT_A_TIME]:
                    self._known[each] = pool.submit(_run, *each)
        return self._known[case]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Outcomes:
    """The outcomes of the cases that were selected."""
    return Outcomes(
        [
            (str(item.callspec.params["request_name"]), str(item.callspec.params["error"]))
            for item in request.session.items
            if isinstance(item, pytest.Function)
            and item.originalname == "test_a_retriable_error_loses_nothing"
            and item.module is request.module
        ]
    )


@pytest.mark.parametrize(("request_name", "error"), CASES, ids=[" ".join(case) for case in CASES])
def test_a_retriable_error_loses_nothing(outcomes: Outcomes, request_name: str, error: str) -> None:
    outcomes.of((request_name, error)).result(0)


def test_a_message_that_is_not_sent_again_says_so_and_the_next_ones_go(
    own_cluster: EmbeddedCluster,
) -> None:
    """No broker answers these to a Produce. If one did, no message would vanish without a report."""
    own_cluster.create_topic("reported")
    with ready(Producer(producer_config(own_cluster, "reported"))) as producer:
        for error in NOT_OF_PRODUCE:
            outcomes: Collected[str | None] = Collected()

            def report(error: object, _message: object, to: Collected[str | None] = outcomes) -> None:
                to.add(error.name if isinstance(error, DeliveryError) else None)

            own_cluster.inject_errors("Produce", error, broker=1)
            producer.send_bytes(b"refused", on_delivery=report)
            assert outcomes.wait(1, PATIENCE) == [error]
            producer.send_bytes(b"accepted", on_delivery=report)
            assert outcomes.wait(2, PATIENCE) == [error, None]
