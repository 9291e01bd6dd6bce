"""What the result of a handler means for its message. Pure: no thread, no client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dp_kafka.errors import commit_wanted, unwrap_log_data

__all__ = ["Outcome", "outcome_of"]


@dataclass(frozen=True)
class Outcome:
    """Whether to commit a failed message, and what to log with the failure."""

    commit: bool
    log_data: dict[str, Any]


def outcome_of(error: BaseException) -> Outcome:
    """What a handler's exception means: commit, unless it or one of its causes says `commit = False`."""
    return Outcome(commit=commit_wanted(error), log_data=unwrap_log_data(error))
