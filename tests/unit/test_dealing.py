"""The order in which processes of pytest-xdist get the tests: nothing is lost, and what takes long begins."""

from __future__ import annotations

import pytest

from tests.dealing import dealt


def early(number: int) -> bool:
    return number % 10 == 7


@pytest.mark.parametrize("shares", [1, 2, 8, 50, 300])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 100, 203])
def test_every_item_comes_once(count: int, shares: int) -> None:
    assert sorted(dealt(range(count), early, shares)) == list(range(count))


def test_each_share_begins_with_its_part_of_what_is_early() -> None:
    order = dealt(range(100), early, 4)
    shares = [order[start : start + 25] for start in range(0, 100, 25)]
    assert [[number for number in share if early(number)] for share in shares] == [
        [7, 47, 87],
        [17, 57, 97],
        [27, 67],
        [37, 77],
    ]
    assert all(early(number) for share in shares for number in share[:2])


def test_all_others_keep_their_order() -> None:
    others = [number for number in dealt(range(100), early, 8) if not early(number)]
    assert others == [number for number in range(100) if not early(number)]


def test_where_all_are_early_they_are_shared_evenly() -> None:
    assert dealt("abcdef", lambda _: True, 3) == ["a", "d", "b", "e", "c", "f"]
