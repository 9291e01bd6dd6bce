"""Invariant 2: what of a partition may be out at the same time, and that everything comes once."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_kafka import Ordering
from dp_kafka.consumer.message import RawMessage
from dp_kafka.consumer.ordering import KeyOrder, NoOrder, Order, PartitionOrder, new_order
from tests.lanes import Raw, raws

KEYS = [None, b"", b"a", b"b", b"c"]
keys = st.sampled_from(KEYS)
seeds = st.integers(0, 2**32)


def drive(order: Order, seed: int, may_be_out: Callable[[list[RawMessage]], bool]) -> list[RawMessage]:
    """Add, take and let go in any order until all has been out; checks what is out, and the count."""
    chance = random.Random(seed)
    todo = [Raw(offset, chance.choice(KEYS)) for offset in range(chance.randrange(30))]
    total = len(todo)
    out: list[RawMessage] = []
    given_out: list[RawMessage] = []
    while len(given_out) < total or out:
        step = chance.choice(["add", "take", "done"])
        if step == "add":
            count = chance.randint(0, len(todo))
            order.add(todo[:count])
            del todo[:count]
        elif step == "done" and out:
            order.done(out.pop(chance.randrange(len(out))))
        # With nothing out nothing may be held back: a lane that is not asked again would be stuck for good.
        if step == "take" or not out:
            raw = order.take()
            if raw is not None:
                out.append(raw)
                given_out.append(raw)
                assert may_be_out(out)
            else:
                assert out or not len(order)
        assert len(order) == total - len(todo) - len(given_out)
        assert out or todo or len(order) or len(given_out) == total
    return given_out


def offsets_of(messages: list[RawMessage]) -> list[int]:
    return [raw.offset() for raw in messages]


@given(seeds)
def test_one_message_of_the_partition_at_a_time_in_order(seed: int) -> None:
    given_out = drive(PartitionOrder(), seed, lambda out: len(out) == 1)
    assert offsets_of(given_out) == list(range(len(given_out)))


@given(seeds)
def test_one_message_of_each_key_at_a_time_in_the_order_of_the_key(seed: int) -> None:
    def one_of_each_key(out: list[RawMessage]) -> bool:
        out_keys = [raw.key() for raw in out if raw.key() is not None]
        return len(out_keys) == len(set(out_keys))

    given_out = drive(KeyOrder(), seed, one_of_each_key)
    assert sorted(offsets_of(given_out)) == list(range(len(given_out)))
    for key in {raw.key() for raw in given_out} - {None}:
        of_key = [raw.offset() for raw in given_out if raw.key() == key]
        assert of_key == sorted(of_key)


@given(seeds)
def test_without_an_order_everything_may_be_out_and_comes_as_it_was_delivered(seed: int) -> None:
    given_out = drive(NoOrder(), seed, lambda _out: True)
    assert offsets_of(given_out) == list(range(len(given_out)))


def test_without_an_order_nothing_is_held_back() -> None:
    order = NoOrder()
    order.add(raws(1, 2, 3))
    assert [order.take() for _ in range(4)] == [*raws(1, 2, 3), None]


def test_messages_without_a_key_are_held_back_by_nothing() -> None:
    order = KeyOrder()
    order.add(raws(1, 2, key=None))
    assert [order.take(), order.take()] == raws(1, 2)


def test_an_empty_key_is_a_key() -> None:
    order = KeyOrder()
    order.add(raws(1, 2, key=b""))
    assert order.take() is not None
    assert order.take() is None


def test_a_key_is_forgotten_when_its_last_message_is_let_go() -> None:
    """A partition with millions of keys must not keep a table of them."""
    order = KeyOrder()
    for offset in range(100):
        order.add([Raw(offset, str(offset).encode())])
        raw = order.take()
        assert raw is not None
        order.done(raw)
    assert not order._waiting


@pytest.mark.parametrize("ordering", Ordering)
@given(data=st.data())
def test_clear_gives_what_was_buffered_in_the_order_of_the_partition(
    ordering: Ordering, data: st.DataObject
) -> None:
    order = new_order(ordering)
    todo = [Raw(offset, key) for offset, key in enumerate(data.draw(st.lists(keys, max_size=20)))]
    order.add(todo)
    taken = [raw for raw in (order.take() for _ in range(data.draw(st.integers(0, 5)))) if raw is not None]
    left = order.clear()
    assert offsets_of(left) == [raw.offset() for raw in todo if raw not in taken]
    assert len(order) == 0
    assert order.take() is None
    # What is out may still be let go.
    for raw in taken:
        order.done(raw)


@pytest.mark.parametrize("ordering", [Ordering.PARTITION, Ordering.KEY])
def test_what_is_out_stays_out_after_a_clear(ordering: Ordering) -> None:
    order = new_order(ordering)
    order.add(raws(1, 2, key=b"k"))
    first = order.take()
    assert first is not None
    order.clear()
    order.add(raws(3, key=b"k"))
    assert order.take() is None
    order.done(first)
    assert order.take() == raws(3, key=b"k")[0]


@pytest.mark.parametrize("ordering", Ordering)
def test_what_was_cleared_holds_nothing_back(ordering: Ordering) -> None:
    """It was never out, so nobody will say that it is done."""
    order = new_order(ordering)
    order.add(raws(1, 2, key=b"k"))
    order.clear()
    order.add(raws(3, key=b"k"))
    assert order.take() == raws(3, key=b"k")[0]


def test_each_choice_has_its_order() -> None:
    assert [type(new_order(each)) for each in Ordering] == [PartitionOrder, KeyOrder, NoOrder]
