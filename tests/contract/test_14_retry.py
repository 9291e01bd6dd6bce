"""Contract section 14: the pauses between attempts, with its three changes (see A66)."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_kafka.retry import get_retry_time, max_attempts


def middle() -> float:
    return 0.5


@pytest.mark.parametrize(
    ("shortest", "longest", "doublings"),
    [(1, 32, 5), (1, 31, 4), (1, 1, 0), (1, 1.99, 0), (0.2, 32, 7), (0.1, 0.2, 1), (1e-300, 1e300, 1993)],
)
def test_14_1_max_attempts_is_the_number_of_doublings(
    shortest: float, longest: float, doublings: int
) -> None:
    assert max_attempts(shortest, longest) == doublings


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_14_1_max_attempts_is_exact(one: float, other: float) -> None:
    shortest, longest = sorted((one, other))
    doublings = max_attempts(shortest, longest)
    assert Fraction(shortest) * 2**doublings <= Fraction(longest) < Fraction(shortest) * 2 ** (doublings + 1)


def test_14_2_the_pause_doubles_from_the_shortest() -> None:
    pauses = [get_retry_time(attempt, 1, 1000, random=middle) for attempt in range(1, 8)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("attempt", [0, -1, -(10**30)])
def test_14_2_an_attempt_below_one_counts_as_one(attempt: int) -> None:
    assert get_retry_time(attempt, 1, 32, random=middle) == get_retry_time(1, 1, 32, random=middle)


@given(st.integers(1, 40), st.floats(1e-6, 1e3), st.floats(1, 1e6))
def test_14_3_jitter_is_a_quarter_of_the_pause_either_way(
    attempt: int, shortest: float, factor: float
) -> None:
    """contract 14.3, changed: of the pause and not of the minimum, and drawn evenly from the whole range."""
    longest = shortest * factor
    pause = min(shortest * 2 ** (attempt - 1), longest)
    low = get_retry_time(attempt, shortest, longest, random=lambda: 0.0)
    high = get_retry_time(attempt, shortest, longest, random=lambda: 1.0)
    assert low == pytest.approx(0.75 * pause)
    assert high == pytest.approx(min(1.25 * pause, longest))
    assert get_retry_time(attempt, shortest, longest, random=middle) == pytest.approx((low + high) / 2)


def test_14_3_short_periods_jitter_too() -> None:
    """The original worked in whole milliseconds, so a minimum of 1 ms had none."""
    assert len({get_retry_time(1, 0.001, 1) for _ in range(100)}) > 50


@given(st.integers(), st.floats(1e-9, 1e9), st.floats(1, 1e9))
def test_14_4_never_above_the_longest_nor_below_three_quarters_of_the_shortest(
    attempt: int, shortest: float, factor: float
) -> None:
    longest = shortest * factor
    assert 0.75 * shortest <= get_retry_time(attempt, shortest, longest) <= longest


def test_14_4_growth_stops_at_the_longest() -> None:
    """contract 14.4, changed: no saw-tooth."""
    assert [get_retry_time(attempt, 1, 5, random=lambda: 1.0) for attempt in range(1, 7)] == [
        1.25,
        2.5,
        5,
        5,
        5,
        5,
    ]


def test_14_4_clients_do_not_meet_at_the_longest() -> None:
    """Cut off at the maximum, half of them would."""
    assert len({get_retry_time(99, 1, 32) for _ in range(200)}) > 150
