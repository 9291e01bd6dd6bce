"""gunicorn as its own process, and HTTP requests to it."""

from __future__ import annotations

import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from .running import EXAMPLES, PATIENCE, Running

FLASK_SERVICE = EXAMPLES / "flask_service"


class Answer(NamedTuple):
    """What came of a request; `body` is what JSON says, or the text."""

    status: int
    body: Any


class Gunicorn(Running):
    """gunicorn with an app, on a free port, from when it listens."""

    def __init__(
        self, *arguments: str, app: str = "app:app", folder: Path = FLASK_SERVICE, **variables: str
    ) -> None:
        super().__init__(
            "-m", "gunicorn", "--bind", "127.0.0.1:0", *arguments, app, folder=folder, **variables
        )
        self.port = int(self.expect_log(r"Listening at: http://127\.0\.0\.1:(\d+)")[1])

    def request(self, method: str, path: str, body: object = None) -> Answer:
        """One request on a connection of its own; OSError or HTTPException when nobody answers it."""
        return ask(self.port, method, path, body)

    def wait_answers(self, path: str, status: int) -> Answer:
        """Ask until the answer has this status, as it will when its time has come."""
        until = time.monotonic() + PATIENCE
        while (answer := self.request("GET", path)).status != status:
            assert time.monotonic() < until, f"{path} never answered {status}: {answer}, {self.log}"
        return answer


def ask(port: int, method: str, path: str, body: object = None) -> Answer:
    """One request to a port of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        response = connection.getresponse()
        text = response.read().decode()
        is_json = "json" in (response.getheader("Content-Type") or "")
        return Answer(response.status, json.loads(text) if is_json and text else text)
    finally:
        connection.close()


PYTHON = sys.executable
