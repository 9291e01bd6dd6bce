"""examples/flask_service under real gunicorn processes, with HTTP requests from several threads."""

from __future__ import annotations

import http.client
import os
import re
import signal
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import SendFunction, TopicFactory, committed_offset
from tests.sending import on_broker, received

from .running import PATIENCE, Running
from .serving import FLASK_SERVICE, PYTHON, Gunicorn, ask

#: A service that starts, answers and ends several times over, on a busy machine.
pytestmark = pytest.mark.timeout(180)

PARTITIONS = 4
#: Messages of each partition that take a service half a minute, as SNOOZE makes each take half a second.
EACH = 60
#: Threads that send requests.
CLIENTS = 8
#: Seconds that gunicorn and its workers may take to end: requests, then clients, then the master.
ENDS_WITHIN = 25.0

every_worker = pytest.mark.parametrize("worker", ["sync", "gthread"])
preloaded_or_not = pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])


@pytest.fixture
def variables(cluster: EmbeddedCluster, topic: TopicFactory, tmp_path: Path) -> dict[str, str]:
    """The environment of a service: a topic and a group of its own on the session's broker."""
    return service_variables(cluster, topic(partitions=PARTITIONS), tmp_path)


def service_variables(cluster: EmbeddedCluster, topic: str, home: Path, **more: str) -> dict[str, str]:
    return {
        "KAFKA_ADDR": cluster.bootstrap_servers,
        "KAFKA_PRODUCED_TOPIC": topic,
        "KAFKA_CONSUMED_TOPIC": topic,
        "KAFKA_CONSUMED_GROUP": f"group-{uuid.uuid4().hex[:12]}",
        # The embedded broker lets members of the older protocol wait for a rebalance.
        "GROUP_PROTOCOL": "consumer",
        "GRACEFUL_SHUTDOWN_TIMEOUT": "15s",
        "SNOOZE": "false",
        "HOME": str(home),
        **more,
    }


def handled(service: Running) -> Counter[tuple[int, int]]:
    """How often the processes of the service say that they handled a partition's offset."""
    found = (re.search(r"handled partition (\d+), offset (\d+)", line) for line in service.log)
    return Counter((int(match[1]), int(match[2])) for match in found if match)


def check_committed(service: Running, cluster: EmbeddedCluster, variables: dict[str, str]) -> None:
    """After its end: what was handled is committed, and nothing else is."""
    seen = handled(service)
    group, topic = variables["KAFKA_CONSUMED_GROUP"], variables["KAFKA_CONSUMED_TOPIC"]
    for partition in range(PARTITIONS):
        offsets = sorted(offset for number, offset in seen if number == partition)
        assert offsets == list(range(len(offsets)))
        assert (committed_offset(cluster, group, topic, partition) or 0) == len(offsets), service.log


def values(cluster: EmbeddedCluster, topic: str) -> list[str]:
    """What the topic has."""
    count = on_broker(cluster, topic, PARTITIONS)
    messages = received(cluster, topic, count, PARTITIONS)
    return [(message.value() or b"").decode() for message in messages]


def post(service: Gunicorn, number: int) -> None:
    """One event, of which every second one is waited for; fails unless it is accepted."""
    until = "delivered" if number % 2 else "queued"
    answer = service.request("POST", f"/events?until={until}&key=k{number}", number)
    assert answer.status == 202, answer
    assert answer.body["status"] == until


@every_worker
@preloaded_or_not
def test_every_event_under_load_is_delivered_handled_and_committed(
    worker: str, preload: list[str], cluster: EmbeddedCluster, variables: dict[str, str]
) -> None:
    count = 200
    with Gunicorn("--worker-class", worker, *preload, **variables) as service:
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(lambda number: post(service, number), range(count)))
        for _ in range(count):
            service.expect_log("handled partition")
        document = service.wait_answers("/health", 200).body
        assert document["status"] == "OK"
        messages = {check["name"]: check["message"] for check in document["checks"]}
        assert messages == {
            "Kafka producer": "kafka producer is healthy",
            "Kafka consumer": "kafka consumer group is healthy",
        }
        assert service.request("GET", "/health/liveness") == (200, {"status": "OK", "problems": []})
        assert service.end(within=ENDS_WITHIN) == 0
    topic = variables["KAFKA_PRODUCED_TOPIC"]
    assert sorted(values(cluster, topic), key=int) == [str(number) for number in range(count)]
    assert len(handled(service)) == count
    check_committed(service, cluster, variables)
    check_way_down(service, workers=2)


def check_way_down(service: Running, workers: int) -> None:
    """Each worker ends its requests, then its clients, and leaves nothing."""
    log = service.log
    downs = [number for number, line in enumerate(log) if "shut down, everything was finished" in line]
    exits = [number for number, line in enumerate(log) if "Worker exiting" in line]
    assert len(downs) == len(exits) == workers, log
    assert all(exit < down for exit, down in zip(exits, downs, strict=True))
    assert not [line for line in log if "ERROR" in line or "Traceback" in line]


@every_worker
@preloaded_or_not
def test_sigterm_under_load_loses_no_event_that_was_answered_with_202(
    worker: str, preload: list[str], cluster: EmbeddedCluster, variables: dict[str, str]
) -> None:
    """Also those that were only queued, and the ones whose requests were under way."""
    accepted: list[str] = []
    enough, ended = threading.Event(), threading.Event()

    def go_on_posting(client: int) -> None:
        number = 0
        while not ended.is_set():
            event = f"{client}-{number}"
            until = "delivered" if number % 2 else "queued"
            try:
                answer = ask(service.port, "POST", f"/events?until={until}", event)
            except (OSError, http.client.HTTPException):
                return  # nobody listens any more, or the request was not taken
            assert answer.status == 202, answer
            accepted.append(f'"{event}"')
            number += 1
            if len(accepted) > 10 * CLIENTS:
                enough.set()

    with (
        Gunicorn("--worker-class", worker, *preload, **variables) as service,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        posting = [clients.submit(go_on_posting, number) for number in range(CLIENTS)]
        try:
            assert enough.wait(PATIENCE), service.log
            code = service.end(within=ENDS_WITHIN)
        finally:
            ended.set()
        for one in posting:
            one.result(PATIENCE)
    assert code == 0
    found = Counter(values(cluster, variables["KAFKA_PRODUCED_TOPIC"]))
    assert set(accepted) <= set(found)
    assert max(found.values()) == 1
    check_committed(service, cluster, variables)
    check_way_down(service, workers=2)


@every_worker
def test_handlers_that_are_at_work_at_sigterm_finish_and_are_committed(
    worker: str, cluster: EmbeddedCluster, variables: dict[str, str], send: SendFunction
) -> None:
    variables["SNOOZE"] = "true"
    # Ahead of the service, and more than it handles before the signal, however busy the machine is.
    for partition in range(PARTITIONS):
        send(variables["KAFKA_CONSUMED_TOPIC"], *map(str, range(EACH)), partition=partition)
    with Gunicorn("--worker-class", worker, "--workers", "1", **variables) as service:
        service.expect_log("handled partition")
        assert service.end(within=ENDS_WITHIN) == 0
    assert 0 < len(handled(service)) < PARTITIONS * EACH
    check_committed(service, cluster, variables)
    check_way_down(service, workers=1)


@every_worker
def test_ctrl_c_reaches_workers_twice_and_they_end_their_clients_all_the_same(
    worker: str, cluster: EmbeddedCluster, variables: dict[str, str]
) -> None:
    """Once from the terminal, which signals all processes, and once from gunicorn's master.

    The second one comes when the worker has begun to end: on top of gunicorn's own handler of the first one
    it can wait for a lock that this holds, whatever the service does.
    """
    variables["SNOOZE"] = "true"
    with Gunicorn("--worker-class", worker, "--workers", "1", **variables) as service:
        process = int(service.expect_log(r"Booting worker with pid: (\d+)")[1])
        for number in range(PARTITIONS):
            post(service, number)
        service.expect_log("handled partition")
        os.kill(process, signal.SIGINT)
        service.expect_log(rf"Worker exiting \(pid: {process}\)")
        assert service.end(signal.SIGINT, within=ENDS_WITHIN) == 0
    check_committed(service, cluster, variables)
    check_way_down(service, workers=1)


def test_a_worker_that_gunicorn_replaces_leaves_nothing_behind(
    cluster: EmbeddedCluster, variables: dict[str, str]
) -> None:
    count = 60
    with Gunicorn("--workers", "1", "--max-requests", "25", **variables) as service:
        for number in range(count):
            while True:  # while one worker ends and the next one starts, a request may find nobody
                try:
                    post(service, number)
                    break
                except (OSError, http.client.HTTPException):
                    continue
        assert service.end(within=ENDS_WITHIN) == 0
    assert {str(number) for number in range(count)} <= set(values(cluster, variables["KAFKA_PRODUCED_TOPIC"]))
    check_committed(service, cluster, variables)
    check_way_down(service, workers=3)


@every_worker
def test_without_a_broker_it_starts_answers_503_and_recovers(
    worker: str, own_cluster: EmbeddedCluster, tmp_path: Path
) -> None:
    own_cluster.create_topic("late", PARTITIONS)
    own_cluster.broker_down(1)
    variables = service_variables(own_cluster, "late", tmp_path)
    with Gunicorn("--workers", "1", "--worker-class", worker, **variables) as service:
        document = service.wait_answers("/health", 429).body
        assert document["status"] == "WARNING", "warming up, and then in its grace"
        answer = service.request("POST", "/events", "early")
        assert answer.status == 503
        assert "not initialised" in answer.body["error"]
        assert service.request("GET", "/health/liveness").status == 200, "a restart would not help"
        own_cluster.broker_up(1)
        service.wait_answers("/health", 200)
        assert service.request("POST", "/events", "now").status == 202
        service.expect_log("handled partition")
        assert service.end(within=ENDS_WITHIN) == 0
    assert values(own_cluster, "late") == ['"now"']


def test_with_the_broker_gone_at_the_end_it_ends_in_time_and_says_what_it_left(
    own_cluster: EmbeddedCluster, tmp_path: Path
) -> None:
    own_cluster.create_topic("gone", PARTITIONS)
    more = {"GRACEFUL_SHUTDOWN_TIMEOUT": "2s"}
    with Gunicorn("--workers", "1", **service_variables(own_cluster, "gone", tmp_path, **more)) as service:
        service.wait_answers("/health", 200)
        own_cluster.broker_down(1)
        assert service.request("POST", "/events?until=queued", "lost").status == 202
        assert service.end(within=ENDS_WITHIN) == 0
    assert any("GRACEFUL_SHUTDOWN_TIMEOUT has passed" in line for line in service.log)
    assert any("1 messages undelivered" in line for line in service.log)


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/events?until=soon", {}, 400, "'delivered' or 'queued'"),
        ("/events", "x" * 20_000, 413, "limit of 10000 bytes"),
    ],
)
def test_what_can_not_be_sent_is_answered_with_the_reason(
    path: str, body: object, status: int, says: str, variables: dict[str, str]
) -> None:
    with Gunicorn("--workers", "1", KAFKA_MAX_BYTES="10000", **variables) as service:
        answer = service.request("POST", path, body)
        assert answer.status == status
        assert says in answer.body["error"]
        assert service.end(within=ENDS_WITHIN) == 0


def test_a_wrong_setting_ends_gunicorn_and_is_named(variables: dict[str, str]) -> None:
    variables["KAFKA_PARALLEL_MESSAGES"] = "0"
    with Gunicorn("--workers", "1", **variables) as service:
        assert service.wait(ENDS_WITHIN) == 3
    assert any("KAFKA_PARALLEL_MESSAGES must be" in line for line in service.log)
    assert not any("worker_exit" in line for line in service.log)


@preloaded_or_not
def test_without_the_hooks_the_error_names_the_fix(preload: list[str], variables: dict[str, str]) -> None:
    with Gunicorn("--config", "/dev/null", *preload, **variables) as service:
        assert service.request("POST", "/events", "x").status == 500
        service.expect_log("call service.start.. in each worker, after the fork")
        assert service.end(within=ENDS_WITHIN) == 0


def test_it_runs_alone_with_a_broker_of_its_own(tmp_path: Path) -> None:
    """The one command of its README; SIGTERM to it ends the service, and then the broker."""
    command = [PYTHON, "-m", "gunicorn", "--bind", "127.0.0.1:0", "app:app"]
    with Running(
        "with_broker.py", *command, folder=FLASK_SERVICE, SNOOZE="false", HOME=str(tmp_path)
    ) as both:
        port = int(both.expect_log(r"Listening at: http://127\.0\.0\.1:(\d+)")[1])
        answer = ask(port, "POST", "/events", {"order": 1})
        assert answer.status == 202
        assert answer.body["offset"] == 0
        both.expect_log("handled partition")
        assert both.end(within=ENDS_WITHIN) == 0
    check_way_down(both, workers=2)


# -- clients that were made before the fork --------------------------------------------------------------


def eager(worker: str, *arguments: str, **variables: str) -> Gunicorn:
    """gunicorn with an app that makes its clients when it is imported."""
    return Gunicorn(
        "--config",
        "/dev/null",
        "--worker-class",
        worker,
        *arguments,
        app="tests.examples.eager_app:app",
        folder=Path(__file__).parents[2],
        **variables,
    )


@every_worker
def test_clients_of_before_the_fork_raise_what_names_the_fix_and_nothing_hangs(
    worker: str, cluster: EmbeddedCluster, variables: dict[str, str]
) -> None:
    with eager(worker, "--preload", **variables) as service:
        for path in ("/send", "/stop"):
            status, text = service.request("GET", path)
            assert status == 500
            assert text.startswith("ForkedError: ")
            assert "gunicorn: in the post_fork hook, or without --preload" in text
        for path in ("/health", "/liveness"):
            status, document = service.request("GET", path)
            assert (status, document["status"]) == (500, "CRITICAL"), document
            assert "fork" in str(document)
        assert service.request("GET", "/fresh") == (200, "fresh")
        assert service.request("GET", "/shutdown") == (200, "left nothing")
        assert service.end(within=ENDS_WITHIN) == 0
    assert sorted(values(cluster, variables["KAFKA_PRODUCED_TOPIC"])) == ["fresh", "imported"]


@every_worker
def test_clients_that_are_made_at_import_work_without_preload(
    worker: str, cluster: EmbeddedCluster, variables: dict[str, str]
) -> None:
    with eager(worker, **variables) as service:
        assert service.request("GET", "/send") == (200, "sent")
        assert service.request("GET", "/health").status in (200, 429)
        assert service.request("GET", "/liveness").status == 200
        assert service.request("GET", "/stop") == (200, "stopped True")
        assert service.request("GET", "/shutdown") == (200, "left nothing")
        assert service.end(within=ENDS_WITHIN) == 0
    assert sorted(values(cluster, variables["KAFKA_PRODUCED_TOPIC"])) == ["imported", "sent"]
