"""`dp-kafka` as a process: pipes, signals, exit codes, and what a terminal shows."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import pytest

from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import CommittedFunction, SendFunction, TopicFactory
from tests.sending import nobody, received
from tests.waiting import PATIENCE

#: Seconds for a process to begin, or to end, on a busy machine too.
LIMIT = PATIENCE * 6
pytestmark = pytest.mark.timeout(300)


@contextlib.contextmanager
def started(
    servers: str, *arguments: str, stdin: int | IO[str] = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[str]]:
    """The command, in a process that is killed if it has not ended at the end of the block."""
    with subprocess.Popen(
        # SIGINT may be ignored where the tests run in the background, and children inherit that.
        [sys.executable, "-c", _MAIN, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KAFKA_ADDR": servers},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


_MAIN = (
    "import signal, sys, dp_kafka.cli; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "sys.exit(dp_kafka.cli.main(sys.argv[1:]))"
)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_pipe_of_produce_and_consume(cluster: EmbeddedCluster, topic: TopicFactory) -> None:
    name = topic()
    with started(cluster.bootstrap_servers, "produce", name, stdin=subprocess.PIPE) as process:
        out, err = process.communicate('{"id": 1}\ntwo\n', timeout=LIMIT)
    assert (process.returncode, out, err) == (0, "", f"2 messages delivered to {name}\n")
    with started(cluster.bootstrap_servers, "consume", name) as process:
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, err) == (0, "")
    assert [json.loads(line)["value"] for line in out.splitlines()] == [{"id": 1}, "two"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_produce_that_waits_for_a_line_ends_at_a_signal_and_delivers_what_it_has(
    cluster: EmbeddedCluster, topic: TopicFactory, number: signal.Signals, code: int
) -> None:
    name = topic()
    with started(cluster.bootstrap_servers, "produce", name, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write("one\n")
        process.stdin.flush()
        received(cluster, name, 1)
        process.send_signal(number)
        assert process.wait(LIMIT) == code
        assert process.stderr is not None
        assert process.stderr.read() == f"1 message delivered to {name}\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_following_ends_at_a_signal(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction, number: signal.Signals, code: int
) -> None:
    name = topic()
    with started(cluster.bootstrap_servers, "consume", name, "--follow") as process:
        send(name, "first")
        assert json.loads(line_of(process))["value"] == "first"
        send(name, "second")
        assert json.loads(line_of(process))["value"] == "second"
        process.send_signal(number)
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out, err) == (code, "", "")


def test_a_group_keeps_what_was_written_before_a_signal(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    name = topic()
    send(name, *"abc")
    with started(cluster.bootstrap_servers, "consume", name, "--group", f"g-{name}", "--follow") as process:
        assert [json.loads(line_of(process))["value"] for _ in range(3)] == ["a", "b", "c"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT)
    assert process.returncode == 143
    assert committed(f"g-{name}", name) == 3


def test_watching_the_lag_writes_a_line_each_time_and_ends_with_ctrl_c(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction
) -> None:
    name = topic()
    with started(
        cluster.bootstrap_servers, "lag", "g", name, "--watch", "--interval", "0.1", "--json"
    ) as process:
        assert json.loads(line_of(process))["lag"] == 0
        send(name, *"abc")
        while json.loads(line_of(process))["lag"] != 3:
            pass
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT)
    assert process.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_drain_of_a_cluster_that_is_silent_ends_at_a_signal(number: signal.Signals, code: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(LIMIT)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with started(address, "drain", "--group", "g", "t", "--timeout", "600") as process:
            connection, _ = silent.accept()
            process.send_signal(number)
            _, err = process.communicate(timeout=LIMIT)
            connection.close()
    assert process.returncode == code
    assert err.strip() == f"dp-kafka: {'interrupted' if code == 130 else 'terminated'}"


def test_output_that_nobody_reads_ends_it_without_a_stack(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction
) -> None:
    """As in `dp-kafka consume t | head -1`."""
    name = topic()
    send(name, *(str(number) * 100 for number in range(5_000)))
    with started(cluster.bootstrap_servers, "consume", name) as process:
        line_of(process)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(LIMIT) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_the_log_stays_quiet_unless_asked_for(cluster: EmbeddedCluster) -> None:
    with started(f"{cluster.bootstrap_servers},{nobody()}", "topics", "list") as process:
        _, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, err) == (0, "")
