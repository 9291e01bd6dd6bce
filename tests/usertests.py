"""Tests as users write them, run by a pytest within this process."""

from __future__ import annotations

import pytest

__all__ = ["run"]


def run(pytester: pytest.Pytester, **outcomes: int) -> pytest.RunResult:
    """Run what is in pytester's directory; the outcomes must be these."""
    # No cache, no other plugin's doing: what is tried comes by its entry point. And what `tests` has loaded
    # already is of no concern here; pytest warns of it unless it is run by `-m pytest`.
    warnings = ("-W", "error", "-W", "ignore::pytest.PytestAssertRewriteWarning")
    result = pytester.runpytest_inprocess("-q", "--strict-markers", *warnings, "-p", "no:cacheprovider")
    result.assert_outcomes(**outcomes)
    return result
