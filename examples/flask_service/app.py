"""The HTTP side of the service: POST /events, what was handled of them, and /health.

gunicorn app:app        (in this folder, where gunicorn.conf.py is)
"""

from __future__ import annotations

import logging
import sys
from concurrent import futures
from typing import Any

from flask import Flask, Response, jsonify, request
from service import Service
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from dp_kafka import (
    ClosedError,
    DeliveryError,
    DpKafkaError,
    KafkaSettings,
    MessageTooLargeError,
    NotInitialisedError,
    QueueFullError,
)

#: Seconds that a request waits for the broker to have its event; less than a client of ours would wait.
DELIVERED_WITHIN = 5.0
#: Seconds that it waits for a broker to answer at all, and for room when events come faster than they go.
ACCEPTED_WITHIN = 1.0
#: What an error of the producer is in HTTP. After a 503 nothing was queued: it may be sent again.
STATUS = {
    MessageTooLargeError: 413,
    NotInitialisedError: 503,
    QueueFullError: 503,
    ClosedError: 503,
    DeliveryError: 502,
}


def create_app(service: Service) -> Flask:
    """The Flask app of a service, which has to be started in the process that serves requests."""
    app = Flask(__name__)
    # Flask answers everything but /health, /health/liveness, which are the library's own WSGI app.
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/health": service.health})  # type: ignore[method-assign]

    @app.post("/events")
    def post_event() -> tuple[Response, int]:
        """Send the JSON body; 202 once it is delivered or, with ?until=queued, once it is queued."""
        until = request.args.get("until", "delivered")
        if until not in ("delivered", "queued"):
            return _problem(400, f"until must be 'delivered' or 'queued', but is {until!r}")
        event = request.get_json()  # 400 or 415 when it is none
        outcome: futures.Future[tuple[DpKafkaError | None, Any]] = futures.Future()
        service.producer.send_json(
            event,
            key=request.args.get("key"),
            # Called on the producer's own thread, which serves every request: it only hands over.
            on_delivery=lambda error, message: outcome.set_result((error, message)),
            timeout=ACCEPTED_WITHIN,
        )
        if until == "queued":
            return jsonify(status="queued"), 202
        try:
            failure, message = outcome.result(DELIVERED_WITHIN)
        except futures.TimeoutError:
            return _problem(504, f"not delivered within {DELIVERED_WITHIN:g} s; it may be, later")
        if failure is not None:
            raise failure
        return jsonify(status="delivered", partition=message.partition(), offset=message.offset()), 202

    @app.get("/events")
    def handled_events() -> Response:
        """What the process that answers has handled."""
        return jsonify(service.handled.to_dict())

    @app.errorhandler(DpKafkaError)
    def failed(error: DpKafkaError) -> tuple[Response, int]:
        """What can't be sent, or was not delivered: the error says why, and shows nothing of the event."""
        found = (status for kind, status in STATUS.items() if isinstance(error, kind))
        return _problem(next(found, 500), str(error))

    return app


def _problem(status: int, text: str) -> tuple[Response, int]:
    return jsonify(error=text), status


logging.basicConfig(
    stream=sys.stderr, level=logging.INFO, format="%(asctime)s [%(process)d] %(levelname)s %(message)s"
)
#: What gunicorn.conf.py starts and stops in each worker process.
service = Service(KafkaSettings.from_env())
app = create_app(service)
