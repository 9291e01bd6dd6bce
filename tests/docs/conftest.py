"""What the pages change in the process, and what is undone behind each of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """docs/logging.md sets levels of the library's loggers, and later tests read what is logged."""

    def loggers() -> list[logging.Logger]:
        known = logging.Logger.manager.loggerDict
        return [logging.getLogger(name) for name in known if name.partition(".")[0] == "dp_kafka"]

    before = {logger: logger.level for logger in loggers()}
    yield
    for logger in loggers():
        logger.setLevel(before.get(logger, logging.NOTSET))
