"""The pauses between attempts: doubling, capped, jittered."""

from __future__ import annotations

import math
import random as _random
from collections.abc import Callable

from dp_kafka.errors import ConfigError

__all__ = ["get_retry_time", "max_attempts"]

# The share of a pause by which it is lengthened or shortened at random, so that clients that lost the same
# broker do not come back all at once.
JITTER = 0.25


def max_attempts(min_period: float, max_period: float) -> int:
    """How often `min_period` can be doubled before it exceeds `max_period`: (1, 32) gives 5, (1, 31) gives 4.

    Seconds. Raises `ConfigError` (a ValueError) unless 0 < min_period <= max_period, both finite.
    """
    _check(min_period, max_period)
    # Exact, whatever the magnitudes: both numbers are mantissa * 2 ** exponent, with mantissas of one octave.
    min_mantissa, min_exponent = math.frexp(min_period)
    max_mantissa, max_exponent = math.frexp(max_period)
    return max_exponent - min_exponent - (max_mantissa < min_mantissa)


def get_retry_time(
    attempt: int, min_period: float, max_period: float, *, random: Callable[[], float] = _random.random
) -> float:
    """Seconds to wait after the failure of `attempt` (1 for the first; anything lower counts as 1).

    The pause doubles from `min_period` with every attempt until it reaches `max_period`, and stays there.
    The result is drawn evenly from 75% of the pause up to 125% of it or `max_period`, whichever is less; so
    it is never above `max_period`, and may be below `min_period`, but not below 75% of it. `random` gives
    numbers from 0 up to 1.

    Three differences from the original. It started again at the minimum after the longest pause, so clients
    of a cluster that was long away hammered it in waves. Its jitter was a quarter of `min_period` however
    long the pause, so late attempts kept in step. And what jitter carried above the maximum was cut off to
    exactly the maximum, where half of all clients would meet; here they are spread below it.

    Raises `ConfigError` (a ValueError) unless 0 < min_period <= max_period, both finite. Any thread, no
    waiting.
    """
    doublings = max(attempt, 1) - 1
    pause = (
        max_period if doublings > max_attempts(min_period, max_period) else math.ldexp(min_period, doublings)
    )
    shortest = pause * (1 - JITTER)
    longest = min(pause * (1 + JITTER), max_period)
    return min(shortest + random() * (longest - shortest), max_period)


def _check(min_period: float, max_period: float) -> None:
    for name, period in (("min_period", min_period), ("max_period", max_period)):
        if not (math.isfinite(period) and period > 0):
            raise ConfigError(
                f"{name} must be a finite number of seconds above zero, found {period!r}", field=name
            )
    if min_period > max_period:
        raise ConfigError(
            f"min_period must be smaller or equal to max_period, found {min_period!r} and {max_period!r}",
            field="min_period",
        )
