"""One broker process: formatted, started, killed, paused, and told apart from its log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import ApacheKafkaError
from .properties import Node

#: A small heap and a quick start rather than peak throughput.
JVM_OPTIONS = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.logFile=System.out",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.showShortLogName=true",
)


class BrokerProcess:
    """A broker on this machine. Its methods are called from one thread at a time."""

    def __init__(self, node: Node, java: Sequence[str], properties: Path, log: Path) -> None:
        self.node = node
        self.properties = properties
        self.log = log
        self.paused = False
        self._java = list(java)
        self._process: subprocess.Popen[bytes] | None = None

    def format(self, cluster_id: str, users: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Begins to make the data directory; the caller waits for the process.

        ``users`` are --add-scram values.
        """
        arguments = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self.properties)]
        for user in users:
            arguments += ["--add-scram", user]
        return self._run(arguments)

    def start(self) -> None:
        """Starts the process, without waiting until it answers."""
        if self.alive:
            raise ApacheKafkaError(f"broker {self.node.id} already runs, with process id {self.pid}")
        self._process = self._run(["kafka.Kafka", str(self.properties)])
        self.paused = False

    def _run(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches only the tests, which end the brokers.
            return subprocess.Popen(
                [*self._java, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether the process runs, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id; raises ApacheKafkaError when the broker does not run."""
        if self._process is None or self._process.poll() is not None:
            raise ApacheKafkaError(f"broker {self.node.id} does not run")
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, and waits for the end of the process."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait(10.0)

    def pause(self) -> None:
        """SIGSTOP: its connections stay, and it answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
        self.paused = False

    def terminate(self) -> None:
        """SIGTERM, also to a paused broker; nothing when it does not run."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)

    def end(self) -> None:
        """SIGKILL unless it has ended, and waits for the end of the process."""
        self._signal(signal.SIGKILL)
        self.wait(10.0)

    def _signal(self, number: signal.Signals) -> None:
        """Sends a signal to a process that may end at any time; Popen looks first whether it has."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, timeout: float) -> bool:
        """Waits for the end of the process; False when it still runs after ``timeout`` seconds."""
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                return False
        return True

    def listens(self, listener: str) -> bool:
        """Whether something accepts connections on the listener's port."""
        host, port = self.node.address(listener).split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
        except OSError:
            return False
        return True

    def log_tail(self, lines: int = 40) -> str:
        """The last lines that the broker logged, after the errors before them: it says much as it ends."""
        if not self.log.exists():
            return ""
        logged = self.log.read_text(errors="replace").splitlines()
        errors = [line for line in logged[:-lines] if " ERROR " in line or "Exception" in line]
        return "\n".join([*errors[:lines], *logged[-lines:]])

    def explain(self) -> str:
        """Its state and the end of its log, for an error message."""
        code = self._process.poll() if self._process else None
        state = "runs" if self.alive else f"has ended, exit code {code}"
        return f"broker {self.node.id} ({self.node.ports}) {state}; the end of {self.log}:\n{self.log_tail()}"
