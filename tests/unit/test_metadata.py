"""The metadata of a commit: what was finished beyond the committed offset survives a restart."""

from __future__ import annotations

import base64
from collections.abc import Sequence

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


@pytest.mark.parametrize("runs", [1_533, 1_534, 1_535, 1_536, 3_000])
def test_the_space_is_used_to_the_last_byte(runs: int) -> None:
    """Each run takes two bytes here, so 1,534 of them are as long as the broker's default allows."""
    finished = list(range(1, 2 * runs, 2))
    text = encode(0, finished)
    assert decode(0, text) == finished[:1_534]
    assert (len(text) == MAX_LENGTH) == (runs >= 1_534)


@pytest.mark.parametrize(
    ("committed", "finished", "text"),
    [
        (5, [], ""),
        (10, [12], "dpk1:AgA"),
        (10, [12, 13, 16], "dpk1:AgECAA"),
        (0, [127], "dpk1:fwA"),
        (0, [128], "dpk1:gAEA"),
        (0, range(128, 152), "dpk1:gAEX"),
        (7, [7 + 63, 7 + 63 + 62], "dpk1:PwA9AA"),
        (0, [2**63 - 1], "dpk1:__________9_AA"),
    ],
)
def test_version_1_of_the_format_stays_as_it_is(committed: int, finished: Sequence[int], text: str) -> None:
    """Another release, or another program, reads what this one wrote."""
    assert encode(committed, finished) == text
    assert decode(committed, text) == list(finished)


def test_more_than_a_million_offsets_are_not_ours() -> None:
    """A text of a few characters must not fill the memory."""
    assert len(decode(0, encode(0, range(1, 1_000_001)))) == 1_000_000
    assert decode(0, encode(0, range(1, 1_000_002))) == []
    assert decode(0, encode(0, [1, *range(3, 1_000_003)])) == []


def test_without_a_committed_offset_metadata_says_nothing() -> None:
    """A broker answers with a negative offset where a group has committed nothing."""
    assert decode(-1001, encode(0, [5])) == []


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


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "metadata", "dpk1:!"),
        *("dpk2:AAAA", "dpk2:AAA", "dpk1:A!AA="),  # of another version, and with what is no base64
        *("dpk1:gA", "dpk1:AACA"),  # cut off inside of a number, the first and the third
        *("dpk1:AQ", "dpk1:AAAA"),  # a number of a pair
        "dpk1:gICAgICAgICAAQA",  # 2^63, which no offset can be
    ],
)
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
            self.committed = tracker.blocking, encode(tracker.blocking, sorted(tracker.finished))
        elif tracker.commit_point is not None:
            self.committed = tracker.commit_point, ""
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
