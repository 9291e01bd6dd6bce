"""The health document over HTTP: by a real server, by the WSGI validator, and mounted as frameworks mount."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
import wsgiref.simple_server
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from dp_kafka.health import CheckState, HealthCheck, Status
from tests.waiting import PATIENCE


class Check:
    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.status = Status.OK
        self.done = threading.Event()

    def __call__(self, state: CheckState) -> None:
        self.go_on.wait(PATIENCE)
        state.update(self.status, "über alles geprüft")
        self.done.set()

    def end(self, status: Status) -> None:
        self.status = status
        self.go_on.set()
        assert self.done.wait(PATIENCE)


class Clients:
    """What liveness looks at."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def stuck_or_dead(self, stuck_after: float = 0) -> list[str]:
        return self.problems


class Service:
    def __init__(self) -> None:
        self.check = Check()
        self.clients = Clients()
        self.health = HealthCheck("1.0", interval=3600, critical_timeout=0)
        self.health.add_check("kafka", self.check)
        self.health.add_liveness(self.clients)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    with made.health:
        yield made
        made.check.go_on.set()


def request(
    app: Callable[..., Any], method: str = "GET", path: str = "/health"
) -> tuple[int, Any, dict[str, str]]:
    """One request through the validator of the standard library: status, JSON body, headers."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path}
    setup_testing_defaults(environ)
    environ["QUERY_STRING"] = ""
    answers: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        answers.append((status, headers))
        return lambda data: None

    result = validator(app)(environ, start_response)
    try:
        body = b"".join(result)
    finally:
        result.close()
    ((status, headers),) = answers
    return int(status.split()[0]), json.loads(body) if body else None, dict(headers)


def test_200_429_and_500(service: Service) -> None:
    assert request(service.health)[0] == 429, "warming up"
    service.check.end(Status.OK)
    code, document, headers = request(service.health)
    assert (code, document["status"]) == (200, "OK")
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("status", "code"), [(Status.WARNING, 429), (Status.CRITICAL, 500)])
def test_what_is_not_ok_is_not_200(service: Service, status: Status, code: int) -> None:
    service.check.end(status)
    found, document, _ = request(service.health)
    assert (found, document["status"]) == (code, status.value)


def test_head_has_the_status_and_no_body(service: Service) -> None:
    service.check.end(Status.OK)
    code, body, headers = request(service.health, "HEAD")
    assert (code, body) == (200, None)
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_can_only_be_read(service: Service, method: str) -> None:
    code, body, headers = request(service.health, method)
    assert code == 405
    assert headers["Allow"] == "GET, HEAD"
    assert method in body["error"]


def test_the_app_has_a_name_too(service: Service) -> None:
    service.check.end(Status.OK)
    assert request(service.health.wsgi)[0] == 200


@pytest.mark.parametrize("path", ["", "/", "/health", "/api/v1/health"])
def test_wherever_it_is_mounted_it_answers(service: Service, path: str) -> None:
    """DispatcherMiddleware moves the prefix to SCRIPT_NAME, so that PATH_INFO is empty or "/"."""
    service.check.end(Status.OK)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "SCRIPT_NAME": "/health"}
    statuses: list[str] = []
    body = b"".join(service.health(environ, lambda status, headers: statuses.append(status)))
    assert statuses == ["200 OK"]
    assert json.loads(body)["checks"][0]["message"] == "über alles geprüft"


def test_liveness_is_of_threads_and_not_of_brokers(service: Service) -> None:
    service.check.end(Status.CRITICAL)
    assert request(service.health)[0] == 500
    for app, path in (
        (service.health, "/liveness"),
        (service.health, "/health/liveness/"),
        (service.health.liveness, "/"),
    ):
        assert request(app, path=path)[:2] == (200, {"status": "OK", "problems": []})
    assert service.health.is_alive
    service.clients.problems = ["poll thread died of RuntimeError"]
    code, document, _ = request(service.health.liveness)
    assert code == 500
    assert document == {"status": "CRITICAL", "problems": ["poll thread died of RuntimeError"]}
    assert not service.health.is_alive


def test_a_real_request_over_http(service: Service) -> None:
    class Quiet(wsgiref.simple_server.WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Not on the test's output."""

    server = wsgiref.simple_server.make_server("127.0.0.1", 0, validator(service.health), handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/health"
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url, timeout=PATIENCE)
        with caught.value as answer:
            assert answer.code == 429
            assert json.loads(answer.read())["status"] == "WARNING"
        service.check.end(Status.OK)
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
            document = json.loads(answer.read().decode())
        assert document["status"] == "OK"
        assert document["checks"][0]["message"] == "über alles geprüft"
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()
