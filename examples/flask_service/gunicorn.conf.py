"""gunicorn's settings, which it reads by itself where it is started: clients live in the worker processes.

What gunicorn calls in its workers starts and stops the Kafka clients, with --preload and without.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import Any

workers = 2
worker_class = "gthread"
threads = 8

# On the way down a worker first finishes its requests, then stops its clients. All of that has to fit into
# this, or gunicorn kills it: requests wait 6 s at most here, and clients GRACEFUL_SHUTDOWN_TIMEOUT (5 s).
graceful_timeout = 30
# A worker that restarts alone (max_requests, reload) has to do the same within this.
timeout = 30


def post_worker_init(worker: Any) -> None:
    """In a worker, after the fork and after the app was loaded: now threads may be started."""
    del worker
    from app import service

    service.start()


def worker_int(worker: Any) -> None:
    """In a worker, at Ctrl-C: it comes from the terminal, then from gunicorn, and must not end the end."""
    del worker
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda _number, _frame: None)


def worker_exit(server: Any, worker: Any) -> None:
    """In a worker that has finished its requests: stop consuming, commit, deliver, close."""
    del server, worker
    app = sys.modules.get("app")
    # Without it the worker ends because the app could not be loaded.
    if app is not None and (left := app.service.stop()):
        logging.getLogger("example").error("GRACEFUL_SHUTDOWN_TIMEOUT has passed, and left: %s", left)
