"""Some of the random sequences of tests/sequences.py; the module says how to run thousands of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.sequences import Embedded, InMemory, run_all


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What fails on purpose need not be logged."""
    logger = logging.getLogger("dp_kafka")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def test_a_hundred_sequences_end_in_time_and_leave_nothing() -> None:
    problems, calls = run_all(100, 0, InMemory)
    assert problems == []
    assert len(calls) == 14, "each kind of call was made"


def test_some_sequences_on_a_broker_end_in_time_and_leave_nothing() -> None:
    problems, _calls = run_all(8, 0, Embedded, side_by_side=8)
    if Embedded.cluster is not None:
        Embedded.cluster.close()
        Embedded.cluster = None
    assert problems == []
