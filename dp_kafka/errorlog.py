"""ERRORS THREAD of a client: logs what comes on its errors channel, if its user has asked for that."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dp_kafka.channels import ErrorsChannel
from dp_kafka.threads import OnDemandThread

__all__ = ["ErrorLog"]


class ErrorLog(OnDemandThread[threading.Thread]):
    """The thread `dp-kafka:errors:<topic>`, from the first `start` until the channel is closed."""

    def __init__(self, errors: ErrorsChannel, topic: str, log: Callable[[BaseException], None]) -> None:
        def log_all() -> None:
            for error in errors:
                log(error)

        super().__init__(
            lambda: threading.Thread(target=log_all, name=f"dp-kafka:errors:{topic}", daemon=True),
            wanted=lambda: not errors.closed,
        )
