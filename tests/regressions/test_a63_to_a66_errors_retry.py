"""Mistakes A63 to A66 of the original: log data, stack traces and retry pauses."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from dp_kafka.errors import ConfigError, DpKafkaError, stack_trace, unwrap_log_data
from dp_kafka.retry import get_retry_time, max_attempts


class Joined(Exception):
    """What errors.Join is in Go, and an exception group in Python."""

    def __init__(self, *members: BaseException) -> None:
        super().__init__("joined")
        self.exceptions = members


def chained(*links: BaseException) -> BaseException:
    for outer, inner in itertools.pairwise(links):
        outer.__cause__ = inner
    return links[0]


def test_a63_the_log_data_of_a_leaf_counts() -> None:
    assert unwrap_log_data(DpKafkaError(log_data={"a": 1})) == {"a": 1}
    assert unwrap_log_data(chained(ValueError(), DpKafkaError(log_data={"a": 1}))) == {"a": 1}


def test_a63_joined_errors_count() -> None:
    joined = Joined(DpKafkaError(log_data={"a": 1}), chained(ValueError(), DpKafkaError(log_data={"b": 2})))
    assert unwrap_log_data(chained(DpKafkaError("x"), joined)) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("values", "merged"),
    [
        ([1, 2, 1, 2, 3], [1, 2, 3]),
        ([[1, 2], 3], [[1, 2], 3]),
        ([3, [1, 2]], [3, [1, 2]]),
        ([[1], [2], [1]], [[1], [2]]),
        ([[1, 2], [1, 2]], [1, 2]),
        ([[], 1], [[], 1]),
    ],
)
def test_a64_lists_are_values_and_duplicates_go(values: list[Any], merged: Any) -> None:
    error = chained(*(DpKafkaError(log_data={"k": value}) for value in values))
    assert unwrap_log_data(error) == {"k": merged}


def test_a64_a_list_value_is_not_appended_to() -> None:
    mine = [1]
    unwrap_log_data(chained(DpKafkaError(log_data={"k": mine}), DpKafkaError(log_data={"k": 2})))
    assert mine == [1]


def test_a65_the_trace_of_a_leaf_is_found() -> None:
    with pytest.raises(KeyError) as caught:
        {"present": 1}["missing"]
    frames = stack_trace(caught.value)
    assert [frame["function"] for frame in frames] == ["test_a65_the_trace_of_a_leaf_is_found"]
    assert stack_trace(chained(DpKafkaError("outer"), caught.value)) == frames


BAD_PERIODS: list[tuple[float, float]] = [
    (0, 1),
    (-1, 1),
    (2, 1),
    (1, 0),
    (0, 0),
    (float("nan"), 1),
    (1, float("nan")),
    (1, float("inf")),
]


@pytest.mark.parametrize(("shortest", "longest"), BAD_PERIODS)
def test_a66_periods_that_make_no_sense_are_refused(shortest: float, longest: float) -> None:
    """The original divided by zero, or returned garbage."""
    with pytest.raises(ConfigError) as caught:
        get_retry_time(1, shortest, longest)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(ConfigError):
        max_attempts(shortest, longest)


def test_a66_growth_is_capped_and_no_saw_tooth() -> None:
    pauses = [get_retry_time(attempt, 0.2, 32, random=lambda: 1.0) for attempt in range(1, 100)]
    assert pauses == sorted(pauses)
    assert set(pauses[9:]) == {32}


def test_a66_jitter_follows_the_pause_and_not_the_minimum() -> None:
    spread = [
        get_retry_time(attempt, 0.001, 1000, random=lambda: 1.0)
        - get_retry_time(attempt, 0.001, 1000, random=lambda: 0.0)
        for attempt in (1, 11)
    ]
    assert spread[0] == pytest.approx(0.0005)
    assert spread[1] == pytest.approx(0.512)


def test_a66_jitter_is_even() -> None:
    draws = [get_retry_time(3, 1, 100, random=lambda n=n: n / 1000) for n in range(1000)]  # type: ignore[misc]
    steps = {round(after - before, 9) for before, after in itertools.pairwise(draws)}
    assert steps == {0.002}


@pytest.mark.parametrize("attempt", [3_000, 10**6, 10**100])
def test_a66_huge_attempts_do_not_overflow(attempt: int) -> None:
    assert 24 <= get_retry_time(attempt, 0.2, 32) <= 32
    assert get_retry_time(attempt, 5e-324, 1e308, random=lambda: 1.0) == 1e308
