"""The metadata of a commit: what was finished beyond the committed offset survives a restart."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dp_kafka.consumer.metadata import MAX_LENGTH, decode, encode
from dp_kafka.consumer.offsets import OffsetTracker

offsets_beyond = st.sets(st.integers(1, 50_000), max_size=400).map(sorted)


@given(st.integers(0, 2**62), offsets_beyond)
def test_decode_is_the_inverse_of_encode(committed: int, beyond: list[int]) -> None:
    finished = [committed + gap for gap in beyond]
    assert decode(committed, encode(committed, finished)) == finished


@given(st.integers(0, 2**40), st.sets(st.integers(1, 200_000), max_size=6_000).map(sorted))
@settings(max_examples=40)
def test_it_fits_into_the_brokers_default_and_what_does_not_is_left_out_from_the_end(
    committed: int, beyond: list[int]
) -> None:
    finished = [committed + gap for gap in beyond]
    text = encode(committed, finished)
    assert len(text) <= MAX_LENGTH
    kept = decode(committed, text)
    assert kept == finished[: len(kept)]


def test_ten_thousand_in_a_row_take_few_characters() -> None:
    assert len(encode(5, range(6, 10_006))) < 20


def test_every_other_one_of_two_thousand_fits_whole() -> None:
    finished = list(range(1, 4_001, 2))[:1_500]
    assert decode(0, encode(0, finished)) == finished


@given(
    st.text(max_size=60)
    | st.binary(max_size=60).map(lambda raw: "dpk1:" + base64.urlsafe_b64encode(raw).decode())
)
def test_metadata_of_another_program_says_nothing_harmful(text: str) -> None:
    found = decode(7, text)
    assert found == sorted(set(found))
    assert all(offset >= 7 for offset in found)


@pytest.mark.parametrize("text", [None, "", "metadata", "dpk2:AAAA", "dpk1:!", "dpk1:gA", "dpk1:AQ"])
def test_what_is_not_ours_is_ignored(text: str | None) -> None:
    assert decode(3, text) == []


class RestartedPartition(RuleBasedStateMachine):
    """A partition is consumed, finished in any order, committed now and then, and given up at any moment.

    What is committed is what a broker would have: a position and its metadata. After each restart the
    messages from that position on come again, without those that the metadata names.
    """

    END = 60

    @initialize(gaps=st.sets(st.integers(0, END - 1), max_size=15))
    def begin(self, gaps: set[int]) -> None:
        self.log = [offset for offset in range(self.END) if offset not in gaps]
        self.finished: set[int] = set()
        self.committed: tuple[int, str] | None = None
        self.told_to_broker: set[int] = set()
        self.assign()

    def assign(self) -> None:
        self.tracker = OffsetTracker()
        position, metadata = self.committed or (0, "")
        skip = set(decode(position, metadata))
        delivered = [offset for offset in self.log if offset >= position]
        self.tracker.add(delivered)
        self.in_hand = [offset for offset in delivered if offset not in skip]
        for offset in sorted(skip):
            self.tracker.finish(offset)
        # What was finished in the assignment that committed last does not come again.
        assert not self.told_to_broker.intersection(self.in_hand)
        self.finished_here = set(skip)

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(self.in_hand))
        self.in_hand.remove(offset)
        self.finished.add(offset)
        self.finished_here.add(offset)
        assert self.tracker.finish(offset)
        assert not self.tracker.finish(offset), "finished twice"

    @rule()
    def commit(self) -> None:
        tracker = self.tracker
        if tracker.finished and tracker.blocking is not None:
            self.committed = tracker.blocking, encode(tracker.blocking, tracker.beyond())
        elif tracker.position is not None:
            self.committed = tracker.position, ""
        else:
            return
        self.told_to_broker = set(self.finished_here)

    @rule()
    def restart(self) -> None:
        self.assign()

    @invariant()
    def nothing_unfinished_is_passed(self) -> None:
        position, metadata = self.committed or (0, "")
        passed = {offset for offset in self.log if offset < position} | set(decode(position, metadata))
        assert passed <= self.finished


TestRestartedPartition = RestartedPartition.TestCase
TestRestartedPartition.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
