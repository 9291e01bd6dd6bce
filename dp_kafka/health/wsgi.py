"""The health documents as answers to HTTP requests: WSGI, without a framework."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dp_kafka.health.status import Status

__all__ = ["HTTP_STATUS", "StartResponse", "answer"]

#: OK, warming up or shaky, broken: as ONS's services answer.
HTTP_STATUS = {
    Status.OK: "200 OK",
    Status.WARNING: "429 Too Many Requests",
    Status.CRITICAL: "500 Internal Server Error",
}

StartResponse = Callable[..., Any]


def answer(
    environ: Mapping[str, Any], start_response: StartResponse, document: Callable[[], Mapping[str, Any]]
) -> Iterable[bytes]:
    """Answer one request with `document`, whose "status" decides the HTTP status. GET and HEAD only."""
    method = environ.get("REQUEST_METHOD", "GET")
    headers = [("Content-Type", "application/json; charset=utf-8"), ("Cache-Control", "no-store")]
    if method in ("GET", "HEAD"):
        content = document()
        status = HTTP_STATUS[Status(content["status"])]
    else:
        content = {"error": f"{method} is not allowed: a health document can only be read, with GET"}
        status = "405 Method Not Allowed"
        headers.append(("Allow", "GET, HEAD"))
    body = json.dumps(content, ensure_ascii=False).encode()
    start_response(status, [*headers, ("Content-Length", str(len(body)))])
    return [] if method == "HEAD" else [body]
