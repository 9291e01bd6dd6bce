"""A Schema Registry of a few lines on a loopback port: gives out ids, keeps schemas, can be made to fail."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class RegistryStub:
    """A context manager; `url` is what a client connects to.

    `requests` holds what was asked, in order; `fail_with` is the status that every request gets while it is
    set.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.fail_with: int | None = None
        self._schemas: list[str] = []
        self._subjects: dict[str, list[int]] = {}
        # Guards the four above: each connection has a thread of the server.
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="registry-stub")
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> RegistryStub:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def add(self, schema: str) -> int:
        """Register a schema as another program would; its id."""
        with self._lock:
            return self._id_of(schema)

    def subjects(self) -> dict[str, list[int]]:
        """Subject to the ids of its versions."""
        with self._lock:
            return {subject: list(ids) for subject, ids in self._subjects.items()}

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and body of the answer to one request."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            if self.fail_with is not None:
                return self.fail_with, {"error_code": 50001, "message": "out of order"}
            match [unquote(part) for part in urlsplit(path).path.strip("/").split("/")], method:
                case ["schemas", "ids", number], "GET":
                    index = int(number) - 1
                    if not 0 <= index < len(self._schemas):
                        return 404, {"error_code": 40403, "message": "Schema not found"}
                    return 200, {"schema": self._schemas[index]}
                case ["subjects", subject, "versions"], "POST":
                    known = self._id_of(body["schema"])
                    self._subjects.setdefault(subject, []).append(known)
                    return 200, {"id": known, "subject": subject, "version": 1, "schema": body["schema"]}
                case ["subjects", subject], "POST":
                    if body["schema"] not in self._schemas or subject not in self._subjects:
                        return 404, {"error_code": 40401, "message": "Subject not found"}
                    known = self._id_of(body["schema"])
                    return 200, {"id": known, "subject": subject, "version": 1, "schema": body["schema"]}
            return 404, {"error_code": 404, "message": "no such thing here"}

    def _id_of(self, schema: str) -> int:
        if schema not in self._schemas:
            self._schemas.append(schema)
        return self._schemas.index(schema) + 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, body: Any) -> None:
                status, answer = stub.answer(self.command, self.path, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing on the terminal."""

        return Handler
