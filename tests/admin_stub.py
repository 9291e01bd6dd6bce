"""A Kafka broker of a few lines on a loopback port, for what the embedded one has not: ACLs, new topics."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["AdminStub", "StoredAcl"]

#: The requests that it answers, with their versions: those before tagged fields.
_VERSIONS = {18: (0, 0), 2: (2, 2), 3: (0, 8), 19: (2, 4), 29: (1, 1), 30: (1, 1), 32: (1, 1)}
UNSUPPORTED_VERSION, TOPIC_ALREADY_EXISTS, CLUSTER_AUTHORIZATION_FAILED = 35, 36, 31
_DESCRIBE, _NO_OPERATIONS = 8, -(2**31)


class StoredAcl(NamedTuple):
    """An ACL as the protocol has it."""

    kind: int
    name: str
    pattern: int
    principal: str
    host: str
    operation: int
    permission: int


class AdminStub:
    """A context manager; `address` is what an admin client connects to.

    - `acls`, `topics`: what it has: partitions and settings by name.
    - `may_describe`: whether the client may see ACLs.
    - `refusals`: an error for the next ACLs of an operation, one each, with its message.
    - `requests`: the kinds of requests that came, by their numbers in the protocol.
    """

    def __init__(self) -> None:
        self.acls: list[StoredAcl] = []
        self.topics: dict[str, tuple[int, dict[str, str]]] = {}
        self.may_describe = True
        self.refusals: dict[int, list[tuple[int, str | None]]] = {}
        self.requests: list[int] = []
        # Guards all of these, and the connections: each has a thread of the server.
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="admin-stub")
        self._host, self._port = self._server.server_address[:2]
        self.address = f"{self._host!s}:{self._port}"

    def __enter__(self) -> AdminStub:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        with self._lock:
            for each in self._connections:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._server.server_close()  # waits for the threads of the connections
        self._thread.join(10)

    def _handler(self) -> type[socketserver.BaseRequestHandler]:
        stub = self

        class Handler(socketserver.StreamRequestHandler):
            def setup(self) -> None:
                super().setup()
                with stub._lock:
                    stub._connections.add(self.request)

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    while len(size := self.rfile.read(4)) == 4:
                        request = _Reader(self.rfile.read(*struct.unpack(">i", size)))
                        key, version, correlation = request.take("h"), request.take("h"), request.take("i")
                        request.text()  # the name of the client
                        with stub._lock:
                            stub.requests.append(key)
                            body = _i(correlation) + stub._answer(key, version, request)
                        self.wfile.write(_i(len(body)) + body)

            def finish(self) -> None:
                with stub._lock:
                    stub._connections.discard(self.request)
                super().finish()

        return Handler

    # -- answers, under the lock -----------------------------------------------------------------------------

    def _answer(self, key: int, version: int, request: _Reader) -> bytes:
        match key:
            case 18:
                entries = [struct.pack(">hhh", kind, *range_) for kind, range_ in _VERSIONS.items()]
                return _h(0 if version == 0 else UNSUPPORTED_VERSION) + _array(entries)
            case 2:
                request.take("i"), request.take("b")  # who asks, and the isolation level
                return _i(0) + _array(request.array(lambda: self._list_offsets(request)))
            case 3:
                return self._metadata()
            case 19:
                return _i(0) + _array(self._create_topics(request))
            case 29:
                return _i(0) + self._describe_acls(request)
            case 30:
                return _i(0) + _array(request.array(lambda: self._create_acl(request.acl())))
        return _i(0) + _array(request.array(lambda: self._describe_topic(request)))

    def _metadata(self) -> bytes:
        broker = _i(1) + _text(str(self._host)) + _i(self._port) + _text(None)
        one = _array([_i(1)])
        topics = [
            _h(0)
            + _text(name)
            + b"\0"
            + _array([_h(0) + _i(number) + _i(1) + _i(0) + one + one + _array([]) for number in range(count)])
            + _i(_NO_OPERATIONS)
            for name, (count, _) in self.topics.items()
        ]
        operations = 1 << _DESCRIBE if self.may_describe else 0
        return _i(0) + _array([broker]) + _text("stub") + _i(1) + _array(topics) + _i(operations)

    def _list_offsets(self, request: _Reader) -> bytes:
        """All partitions are empty."""
        name = request.text()
        numbers = request.array(lambda: (request.take("i"), request.take("q"))[0])
        return _text(name) + _array([_i(each) + _h(0) + struct.pack(">qq", -1, 0) for each in numbers])

    def _create_topics(self, request: _Reader) -> list[bytes]:
        def read() -> tuple[str, int, dict[str, str]]:
            name, partitions = request.text(), request.take("i")
            request.take("h")  # the replication factor
            assert not request.array(lambda: None), "assignments are not for this stub"
            return str(name), partitions, dict(request.array(lambda: (request.text(), request.text())))

        wanted = request.array(read)
        request.take("i")  # the timeout
        validate_only = request.take("?")
        answers = []
        for name, partitions, settings in wanted:
            there = name in self.topics
            if not there and not validate_only:
                self.topics[name] = (partitions, settings)
            answers.append(_text(name) + _h(TOPIC_ALREADY_EXISTS if there else 0) + _text(None))
        return answers

    def _describe_topic(self, request: _Reader) -> bytes:
        kind, name = request.take("b"), str(request.text())
        request.array(request.text)
        _, settings = self.topics[name]
        own = [(name, value, 1) for name, value in settings.items()]  # 1: set for the topic; 5: by default
        entries = [
            _text(each) + _text(value) + b"\0" + struct.pack(">b", source) + b"\0" + _array([])
            for each, value, source in [*own, ("cleanup.policy", "delete", 5)]
        ]
        return _h(0) + _text(None) + struct.pack(">b", kind) + _text(name) + _array(entries)

    def _describe_acls(self, request: _Reader) -> bytes:
        kind, name, pattern = request.take("b"), request.text(), request.take("b")
        if not self.may_describe:
            return _h(CLUSTER_AUTHORIZATION_FAILED) + _text("not allowed") + _array([])
        found = [each for each in self.acls if (each.kind, each.name, each.pattern) == (kind, name, pattern)]
        bindings = [
            _text(each.principal) + _text(each.host) + struct.pack(">bb", each.operation, each.permission)
            for each in found
        ]
        resource = struct.pack(">b", kind) + _text(name) + struct.pack(">b", pattern) + _array(bindings)
        return _h(0) + _text(None) + _array([resource] if found else [])

    def _create_acl(self, acl: StoredAcl) -> bytes:
        if refusals := self.refusals.get(acl.operation):
            code, message = refusals.pop(0)
            return _h(code) + _text(message)
        if acl not in self.acls:
            self.acls.append(acl)
        return _h(0) + _text(None)


class _Reader:
    """Takes the fields of a request, in their order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from(">" + form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value

    def text(self) -> str | None:
        size = self.take("h")
        return None if size < 0 else str(self.take(f"{size}s"), "utf-8")

    def array(self, read: Callable[[], Any]) -> list[Any]:
        return [read() for _ in range(max(0, self.take("i")))]

    def acl(self) -> StoredAcl:
        kind, name, pattern = self.take("b"), self.text(), self.take("b")
        principal, host = self.text(), self.text()
        return StoredAcl(kind, str(name), pattern, str(principal), str(host), self.take("b"), self.take("b"))


def _i(value: int) -> bytes:
    return struct.pack(">i", value)


def _h(value: int) -> bytes:
    return struct.pack(">h", value)


def _text(value: str | None) -> bytes:
    data = (value or "").encode()
    return _h(-1) if value is None else _h(len(data)) + data


def _array(items: list[bytes]) -> bytes:
    return _i(len(items)) + b"".join(items)
