"""Looking again and again, for what nothing tells the coming of: one place where tests do so, bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tests.waiting import PATIENCE

__all__ = ["eventually"]

_LOOK_SECONDS = 0.005


def eventually(look: Callable[[], object], wanted: object = True) -> None:
    """Wait until `look()` gives `wanted`; fails, with what it gave last, when it does not come to that."""
    until = time.monotonic() + PATIENCE
    while (found := look()) != wanted:
        assert time.monotonic() < until, f"{found!r} did not become {wanted!r}"
        threading.Event().wait(_LOOK_SECONDS)
