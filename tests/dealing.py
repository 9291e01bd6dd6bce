"""The order of tests for pytest-xdist: what takes long is dealt out to the beginnings of processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

__all__ = ["dealt"]


def dealt(items: Sequence[T], early: Callable[[T], object], shares: int) -> list[T]:
    """The same items, those that are `early` dealt to the beginnings of shares, all others in their order.

    With `--dist worksteal` a process begins with one of `shares` equal parts of the list, and whoever is done
    takes from the ends of the others' parts: what takes long and stood there would be left for the end.
    """
    first = [item for item in items if early(item)]
    others = iter([item for item in items if not early(item)])
    order: list[T] = []
    for share in range(shares):
        size = (len(items) - len(order)) // (shares - share)
        mine = first[share::shares]
        order += [*mine, *islice(others, max(0, size - len(mine)))]
    return order
