"""PROBE THREADS: ask broker addresses, all at once, whether a Kafka broker answers there.

Guarantees:
- a probe ends by the deadline that it is given, but for the resolution of a host name, which nothing can
  interrupt: the caller does not wait for it, and the address is not asked again before it has ended;
- a probe opens one connection, sends one request (ApiVersions, which a broker answers before any login),
  reads the answer, and closes the connection. It changes nothing on the broker.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dp_kafka import forks
from dp_kafka.config.properties import lookup
from dp_kafka.health.tls import context_of, is_tls

__all__ = ["Answer", "BrokerProbe", "Probe", "Prober"]

_API_VERSIONS = 18
_CORRELATION = 0x6470
_CLIENT_ID = b"dp-kafka-health"
#: Length, key, version (0, which every broker since 0.10 answers), correlation, client id.
_REQUEST = struct.pack(">hhih", _API_VERSIONS, 0, _CORRELATION, len(_CLIENT_ID)) + _CLIENT_ID
_REQUEST = struct.pack(">i", len(_REQUEST)) + _REQUEST
#: The longest answer that a broker would give; what claims to be longer is no Kafka.
_MOST_BYTES = 1 << 20

_HUNG_UP = "hung up after the TLS handshake: does the broker want a client certificate, or another one?"

_ALERT = ": the broker refuses the client's certificate, or that it has none"

#: Seconds after its deadline when a probe that still runs must hang in the resolution of its name.
_GRACE = 1.0

_FAMILIES = {"v4": socket.AF_INET, "v6": socket.AF_INET6}


class Answer(NamedTuple):
    """What came of one probe: `problem` is empty when a broker answered.

    `to_put_right`: the problem is one of certificates, which waiting doesn't solve.
    """

    problem: str = ""
    to_put_right: bool = False

    @property
    def reachable(self) -> bool:
        """Whether a broker answered."""
        return not self.problem


#: Asks one address, until the given instant of `time.monotonic()`.
Probe = Callable[[str, float], Answer]


class BrokerProbe:
    """Asks a broker as a client with the given librdkafka properties would: in the clear, or with TLS."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._properties = properties
        self._tls = is_tls(properties)
        self._family = _FAMILIES.get(str(lookup(properties, "broker.address.family")), socket.AF_UNSPEC)
        #: Made by the first probe and kept. Two first ones may each make one, which does no harm.
        self._context: ssl.SSLContext | None = None

    def __call__(self, address: str, until: float) -> Answer:
        """Connect, shake hands where TLS is set, and have one request answered."""
        try:
            return self._meet(address, until)
        except ssl.SSLCertVerificationError as error:
            return Answer(f"{address}: certificate verify failed: {error.verify_message}", to_put_right=True)
        except (OSError, ValueError) as error:
            # A handshake that is cut off is a broker that goes down; any other TLS error stays as it is.
            if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
                reason = error.reason or "unknown"
                whose = _ALERT if "ALERT" in reason and "CERTIFICATE" in reason else ""
                return Answer(f"{address}: TLS failed: {reason}{whose}", to_put_right=True)
            return Answer(_reason(error))

    def _meet(self, address: str, until: float) -> Answer:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(_connect(host, int(port), self._family, until))
            if not self._tls:
                _ask(connection, until)
                return Answer()
            context = self._context = self._context or context_of(self._properties)
            if context is None:
                return Answer()
            connection.settimeout(_left(until))
            secured = stack.enter_context(context.wrap_socket(connection, server_hostname=host))
            try:
                _ask(secured, until)
            except (ConnectionError, ssl.SSLEOFError):
                # TLS 1.3 has a client shake hands before the broker has judged its certificate, and what the
                # broker then says about it may get lost when it hangs up.
                return Answer(f"{address}: {_HUNG_UP}", to_put_right=True)
            return Answer()


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _connect(host: str, port: int, family: int, until: float) -> socket.socket:
    """A connection to the first address of the host that takes one."""
    resolved = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    failure: OSError = OSError("the name resolves to nothing")
    for index, (kind, _, protocol, _, where) in enumerate(resolved):
        connection = socket.socket(kind, socket.SOCK_STREAM, protocol)
        try:
            # One that swallows packets must leave some of the time to the next.
            connection.settimeout(_left(until) / (len(resolved) - index))
            connection.connect(where)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _ask(connection: socket.socket, until: float) -> None:
    """Send the request and read its answer; OSError or ValueError if there is none."""
    connection.settimeout(_left(until))
    connection.sendall(_REQUEST)
    length, correlation = struct.unpack(">ii", _read(connection, 8, until))
    if correlation != _CORRELATION or not 4 <= length <= _MOST_BYTES:
        raise ValueError("what answers is no Kafka broker")
    _read(connection, length - 4, until)


def _read(connection: socket.socket, count: int, until: float) -> bytes:
    received = bytearray()
    while len(received) < count:
        connection.settimeout(_left(until))
        chunk = connection.recv(count - len(received))
        if not chunk:
            raise ConnectionError("the connection was closed without an answer")
        received += chunk
    return bytes(received)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class Prober:
    """Asks several addresses in parallel, each on a thread of its own. Any number of callers at a time."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        #: Guards `_running`.
        self._lock = threading.Lock()
        #: The probes that have not ended, with address and deadline.
        self._running: dict[threading.Thread, tuple[str, float]] = {}
        forks.track(self, Prober._after_fork)

    def _after_fork(self) -> None:
        """Begin afresh, in a forked child: the probes that run are the parent's."""
        self._lock = threading.Lock()
        self._running = {}

    def ask(self, addresses: Sequence[str], until: float) -> Iterator[tuple[str, Answer]]:
        """Each address with its answer, as they come; ends by `until`, an instant of `time.monotonic()`.

        An address without an answer by then is not among them.
        """
        answers: queue.SimpleQueue[tuple[str, Answer]] = queue.SimpleQueue()
        for address in addresses:
            self._start(address, until, answers)
        for _ in addresses:
            try:
                yield answers.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return

    def _start(self, address: str, until: float, answers: queue.SimpleQueue[tuple[str, Answer]]) -> None:
        thread = threading.Thread(
            target=self._run, args=(address, until, answers), name=f"dp-kafka:probe:{address}", daemon=True
        )
        now = time.monotonic()
        with self._lock:
            hangs = any(earlier == address and end + _GRACE < now for earlier, end in self._running.values())
            if not hangs:
                self._running[thread] = (address, until)
        if hangs:
            answers.put((address, Answer("the resolution of the name has not ended since an earlier check")))
        else:
            try:
                thread.start()
            except BaseException:
                # No thread can be started, say. The next check asks this address again.
                with self._lock:
                    self._running.pop(thread, None)
                raise

    def _run(self, address: str, until: float, answers: queue.SimpleQueue[tuple[str, Answer]]) -> None:
        try:
            answer = self._probe(address, until)
        except Exception as error:  # noqa: BLE001  # an address that can't be asked is not reachable
            answer = Answer(f"the probe failed with {type(error).__name__}: {error}")
        with self._lock:
            self._running.pop(threading.current_thread(), None)
        answers.put((address, answer))
