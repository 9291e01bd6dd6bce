"""`dp-kafka` as a process: pipes, signals, exit codes, and what a terminal shows."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
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


def test_short_output_that_nobody_reads_ends_it_without_a_stack(cluster: EmbeddedCluster) -> None:
    """As in `dp-kafka topics list | true`: all of it is still in the buffer when the command ends."""
    with started(cluster.bootstrap_servers, "topics", "list", "--json") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(LIMIT) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_the_log_is_shown_if_asked_for(cluster: EmbeddedCluster, topic: TopicFactory) -> None:
    name = topic()
    with started(cluster.bootstrap_servers, "--verbose", "drain", "--group", "g", name) as process:
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert name in out
    assert f"INFO topic drained topic='{name}' group='g' count=0" in err


# -- on a terminal --------------------------------------------------------------------------------------


class Terminal:
    """A terminal of 80 by 24 characters, and the command that runs on it."""

    def __init__(self, leader: int, process: subprocess.Popen[bytes]) -> None:
        self._leader = leader
        self.process = process
        self.text = ""

    def shows(self, text: str) -> None:
        """Wait until the command has written `text` behind what was waited for before."""
        deadline = time.monotonic() + LIMIT
        while text not in self.text:
            assert self._read(deadline), f"{text!r} did not come: {self.text!r}"
        self.text = self.text.partition(text)[2]

    def ends(self) -> int:
        """Wait until the command has ended: its exit code; `text` is what it wrote in the meantime."""
        deadline = time.monotonic() + LIMIT
        while self._read(deadline):
            pass
        return self.process.wait(LIMIT)

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._leader, text.encode())

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._leader], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing came any more, after {self.text!r}"
        try:
            data = os.read(self._leader, 65_536)
        except OSError:  # what Linux says when the last one has closed it
            data = b""
        self.text += data.decode()
        return bool(data)


@contextlib.contextmanager
def on_terminal(servers: str, *arguments: str) -> Iterator[Terminal]:
    """The command on a terminal, killed if it has not ended at the end of the block."""
    leader, follower = pty.openpty()
    try:
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        with subprocess.Popen(
            [sys.executable, "-c", _MAIN, *arguments],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env={**os.environ, "KAFKA_ADDR": servers, "TERM": "xterm"},
        ) as process:
            os.close(follower)
            try:
                yield Terminal(leader, process)
            finally:
                process.kill()
    finally:
        os.close(leader)


@pytest.mark.parametrize(("answer", "code", "offset"), [("y", 0, 3), ("n", 1, None)])
def test_a_drain_on_a_terminal_asks_first(
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    send: SendFunction,
    committed: CommittedFunction,
    answer: str,
    code: int,
    offset: int | None,
) -> None:
    name = topic()
    send(name, *"abc")
    with on_terminal(cluster.bootstrap_servers, "drain", "--group", f"g-{name}", name) as terminal:
        terminal.shows(f"Commit everything in {name} as consumed by group g-{name}? [y/N]: ")
        terminal.type(f"{answer}\n")
        assert terminal.ends() == code
        assert ("aborted" in terminal.text) == (answer == "n")
    assert committed(f"g-{name}", name) == offset


def test_the_lag_on_a_terminal_is_a_live_view(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction
) -> None:
    """It takes the whole screen, goes along with the topic, and leaves the last look behind."""
    name = topic()
    arguments = ("lag", f"g-{name}", name, "--watch", "--interval", "0.1")
    with on_terminal(cluster.bootstrap_servers, *arguments) as terminal:
        terminal.shows("\x1b[?1049h")
        terminal.shows(f"g-{name}")
        send(name, *"abc" * 411)
        terminal.shows("1,233")
        terminal.process.send_signal(signal.SIGINT)
        terminal.shows("\x1b[?1049l")
        assert terminal.ends() == 0
        assert name in terminal.text
        assert "1,233" in terminal.text
