"""The verdict of the chaos suite: it passes a recorded run, and fails it for whatever is put wrong there.

`recorded/` holds the journals of a real run of 90 seconds on three brokers, in the partitions' order.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dp_kafka.consumer.metadata import encode
from tests.chaos.journal import Event, Journal, read, read_all
from tests.chaos.settings import from_environment
from tests.chaos.table import HEADER, add_row, row
from tests.chaos.verdict import Verdict, judge

_RECORDED = Path(__file__).parent / "recorded"

LOST = "every acknowledged message is handled"
REPEATED = "each repetition belongs to a kill or a lost session"
ORDER = "messages are handled in order"
HANG = "no process hangs or ends by itself"
COMMIT = "no commit passes an unhandled message"
END = "in the end everything is committed"


@functools.cache
def _recorded() -> dict[str, list[Event]]:
    return read_all(_RECORDED)


def _copy(event: Event) -> Event:
    """A copy down to the mappings within: what a test changes must not show in the next one."""
    return {name: dict(value) if isinstance(value, dict) else value for name, value in event.items()}


class Recording:
    """The recorded run's journals, to be changed and judged."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.journals = {name: [*map(_copy, events)] for name, events in _recorded().items()}

    @property
    def conductor(self) -> list[Event]:
        return self.journals["conductor"]

    def set_ordering(self, ordering: str) -> None:
        self.conductor[0]["ordering"] = ordering

    def of(self, name: str, what: str) -> list[Event]:
        return [event for event in self.journals[name] if event["what"] == what]

    def remove(self, name: str, unwanted: Callable[[Event], bool]) -> None:
        before = self.journals[name]
        self.journals[name] = [event for event in before if not unwanted(event)]
        assert len(self.journals[name]) < len(before), "nothing was removed"

    def remove_place(self, name: str, place: tuple[int, int]) -> None:
        self.remove(name, lambda event: (event.get("p"), event.get("o")) == place)

    def last_member(self) -> str:
        """The member that was started last: it ended cleanly, and lost nothing."""
        return max(name for name in self.journals if name.startswith("member"))

    def handled_once(self) -> list[tuple[int, Event, Event]]:
        """What the last member handled without failure: the line of `begin`, it and `done`."""
        events = self.journals[self.last_member()]
        times = Counter(
            (event["p"], event["o"])
            for name in self.journals
            for event in self.journals[name]
            if name.startswith("member") and event["what"] == "begin"
        )
        ends = {(event["p"], event["o"]): event for event in events if event["what"] == "done"}
        return [
            (number, event, ends[event["p"], event["o"]])
            for number, event in enumerate(events)
            if event["what"] == "begin" and times[event["p"], event["o"]] == 1
        ]

    def judge(self) -> Verdict:
        for name, events in self.journals.items():
            lines = "".join(json.dumps(event) + "\n" for event in events)
            (self._directory / f"{name}.jsonl").write_text(lines)
        return judge(self._directory)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


def test_the_recorded_run_passes_with_repetitions_that_are_explained() -> None:
    verdict = judge(_RECORDED)
    assert verdict.passed, str(verdict)
    assert verdict.acknowledged == verdict.handled > 300
    assert verdict.after_kill > 0
    assert verdict.after_loss > 0
    assert verdict.failures > 0
    assert verdict.samples > 10
    assert verdict.faults["kill broker"] > 0
    assert "PASSED" in str(verdict)


def test_a_message_that_no_handler_got_is_lost(recording: Recording) -> None:
    _, begin, _ = recording.handled_once()[3]
    place = (begin["p"], begin["o"])
    recording.remove_place(recording.last_member(), place)
    verdict = recording.judge()
    assert verdict.violations[LOST] == [f"{begin['id']}, acknowledged as {place[0]}@{place[1]}"]
    assert COMMIT in verdict.violations
    assert "FAILED" in str(verdict)


def test_a_message_whose_handler_did_not_come_to_its_end_is_lost(recording: Recording) -> None:
    _, begin, done = recording.handled_once()[0]
    recording.remove(recording.last_member(), lambda event: event is done)
    assert begin["id"] in recording.judge().violations[LOST][0]


def test_another_message_in_its_place_does_not_make_up_for_one(recording: Recording) -> None:
    _, begin, _ = recording.handled_once()[0]
    begin["id"] = "producer-1-999999"
    assert LOST in recording.judge().violations


def test_a_repetition_in_one_assignment_is_not_explained(recording: Recording) -> None:
    recording.set_ordering("none")
    _, begin, done = recording.handled_once()[0]
    recording.journals[recording.last_member()] += [begin, done]
    verdict = recording.judge()
    assert list(verdict.violations) == [REPEATED]
    assert begin["id"] in verdict.violations[REPEATED][0]


def test_a_repetition_after_a_clean_stop_is_not_explained(recording: Recording) -> None:
    """A member that was ended by SIGTERM has committed what it handled."""
    recording.set_ordering("none")
    last = recording.last_member()
    names = [name for name in recording.journals if name.startswith("member") and name < last]
    asked = {event["name"] for event in recording.of("conductor", "asked")}
    others = [
        (begin, done)
        for name in names
        if name in asked and not recording.of(name, "lost") and not recording.of(name, "revoked")
        for begin in recording.of(name, "begin")
        for done in recording.of(name, "done")
        if (begin["p"], begin["o"]) == (done["p"], done["o"])
    ]
    sessions = {event["p"]: event["session"] for event in recording.of(last, "begin")}
    begin, done = next(pair for pair in others if pair[0]["p"] in sessions)
    at, session = recording.journals[last][-1]["at"], sessions[begin["p"]]
    recording.journals[last] += [{**each, "at": at, "session": session} for each in (begin, done)]
    verdict = recording.judge()
    assert list(verdict.violations) == [REPEATED]
    assert begin["id"] in verdict.violations[REPEATED][0]


def test_a_repetition_after_a_kill_needs_the_kill(recording: Recording) -> None:
    killed = {event["name"] for event in recording.of("conductor", "killed")}
    recording.remove("conductor", lambda event: event["what"] == "killed")
    verdict = recording.judge()
    assert REPEATED in verdict.violations
    assert verdict.after_kill == 0
    assert any(name in text for name in killed for text in verdict.violations[HANG])


def test_a_stop_that_gave_up_its_commit_counts_as_a_lost_session(recording: Recording) -> None:
    """The coordinator was silent for a session timeout, and the library has said so."""
    for events in recording.journals.values():
        for event in events:
            if event["what"] == "lost":
                event["what"] = "gave up"
    assert recording.judge().after_loss == judge(_RECORDED).after_loss


@pytest.mark.parametrize(("name", "lost"), [("UNKNOWN_MEMBER_ID", True), ("NOT_COORDINATOR", False)])
def test_a_revoke_of_a_member_that_the_group_does_not_know_is_a_loss(
    recording: Recording, name: str, lost: bool
) -> None:
    """So a stalled member may hear of it: by a revoke, and by the refusal of the commit in it."""
    for process, events in recording.journals.items():
        changed: list[Event] = []
        for event in events:
            if event["what"] == "lost":
                changed.append({**event, "what": "commit failed", "name": name})
                event["what"] = "revoked"
            changed.append(event)
        recording.journals[process] = changed
    verdict = recording.judge()
    assert verdict.after_loss == (judge(_RECORDED).after_loss if lost else 0)
    assert (REPEATED in verdict.violations) is not lost


def test_a_repetition_after_a_lost_session_needs_the_loss(recording: Recording) -> None:
    for events in recording.journals.values():
        for event in events:
            if event["what"] == "lost":
                event["what"] = "revoked"
    verdict = recording.judge()
    assert REPEATED in verdict.violations
    assert verdict.after_loss == 0


def test_a_message_that_a_new_owner_leaves_out_as_finished_is_counted(recording: Recording) -> None:
    """As if the metadata of a commit had named it: it was done before, and is not handled again."""
    assert recording.judge().passed_over == 0
    done: dict[tuple[int, int], str] = {}
    for name in sorted(name for name in recording.journals if name.startswith("member")):
        for event in recording.of(name, "done"):
            place = (event["p"], event["o"])
            earlier = [other for other in recording.of(name, "begin") if other["session"] == event["session"]]
            if done.setdefault(place, name) != name and earlier[0]["o"] < event["o"]:
                recording.remove_place(name, place)
                verdict = recording.judge()
                assert (verdict.passed_over, verdict.passed) == (1, True), str(verdict)
                return
    pytest.fail("no repetition is recorded that could be left out")


def _swap(recording: Recording, *, same_key: bool) -> None:
    """Swap two messages that one member handled of one partition."""
    events = recording.journals[recording.last_member()]
    found = recording.handled_once()
    first, second = next(
        (a, b)
        for a in found
        for b in found
        if a[1]["p"] == b[1]["p"] and a[0] < b[0] and (a[1]["key"] == b[1]["key"]) is same_key
    )
    a, b = (first[0], events.index(first[2])), (second[0], events.index(second[2]))
    for one, other in zip(a, b, strict=True):
        at = events[one]["at"], events[other]["at"]
        events[one], events[other] = events[other], events[one]
        events[one]["at"], events[other]["at"] = at


@pytest.mark.parametrize(
    ("ordering", "same_key", "fails"),
    [
        ("partition", True, True),
        ("partition", False, True),
        ("key", True, True),
        ("key", False, False),
        ("none", True, False),
    ],
)
def test_messages_that_change_places_break_the_order_that_was_promised(
    recording: Recording, ordering: str, same_key: bool, fails: bool
) -> None:
    recording.set_ordering(ordering)
    _swap(recording, same_key=same_key)
    assert (ORDER in recording.judge().violations) is fails


def test_a_message_that_begins_before_the_one_before_it_is_done_breaks_the_order(
    recording: Recording,
) -> None:
    events = recording.journals[recording.last_member()]
    (_, _, done), (_, second, _) = next(
        (a, b) for a in recording.handled_once() for b in recording.handled_once()
        if (a[1]["p"], a[1]["o"] + 1) == (b[1]["p"], b[1]["o"])
    )  # fmt: skip
    events.remove(second)
    events.insert(events.index(done), second)
    assert "was begun while" in recording.judge().violations[ORDER][0]


def test_a_failed_message_that_is_overtaken_breaks_the_order(recording: Recording) -> None:
    """It waits for its next attempt, and so does its partition."""
    name, failed = next(
        (name, failed)
        for name in sorted(recording.journals)
        if name.startswith("member")
        for failed in recording.of(name, "failed")
        for later in recording.of(name, "begin")
        if later["session"] == failed["session"] and later["o"] > failed["o"]
    )
    again = recording.journals[name].index(failed) + 1
    place = (failed["p"], failed["o"])
    # Its later attempts come to nothing.
    recording.journals[name] = [
        event
        for number, event in enumerate(recording.journals[name])
        if number < again or (event.get("p"), event.get("o")) != place
    ]
    assert any(f"while {place[1]} was not done" in text for text in recording.judge().violations[ORDER])


def test_a_process_that_did_not_end_is_seen(recording: Recording) -> None:
    last = recording.last_member()
    recording.remove("conductor", lambda event: event["what"] == "ended" and event["name"] == last)
    verdict = recording.judge()
    assert verdict.violations == {HANG: [f"{last} did not end"]}


@pytest.mark.parametrize("code", [1, 2, -6, -9])
def test_a_process_that_ended_badly_is_seen(recording: Recording, code: int) -> None:
    last = recording.last_member()
    (ended,) = (event for event in recording.of("conductor", "ended") if event["name"] == last)
    ended["code"] = code
    assert recording.judge().violations == {HANG: [f"{last} ended with {code}"]}


def _say_uncommitted(recording: Recording, member: str, left: int = 0) -> float:
    """Let a member end with 1, as its stop was False; when it was told to end."""
    (stopped,) = recording.of(member, "stopped")
    stopped.update(stopped=False, left=left)
    (ended,) = (event for event in recording.of("conductor", "ended") if event["name"] == member)
    ended["code"] = 1
    (asked,) = (event for event in recording.of("conductor", "asked") if event["name"] == member)
    return float(asked["at"])


def test_a_member_that_lost_its_session_in_the_stop_has_to_say_so(recording: Recording) -> None:
    """Its coordinator was silent for a session timeout, say: no promise can hold, but it has to tell."""
    last = recording.last_member()
    asked = _say_uncommitted(recording, last)
    recording.journals[last].insert(-1, {"at": asked + 1, "what": "gave up", "partitions": [0]})
    verdict = recording.judge()
    assert verdict.passed, str(verdict)
    assert verdict.uncommitted_stops == 1
    (ended,) = (event for event in recording.of("conductor", "ended") if event["name"] == last)
    ended["code"] = 0
    assert recording.judge().violations == {HANG: [f"{last} ended with 0"]}


@pytest.mark.parametrize(("lost", "left"), [(None, 0), (-1, 0), (1, 1)])
def test_a_stop_that_is_false_without_a_reason_is_seen(
    recording: Recording, lost: int | None, left: int
) -> None:
    """No session was lost, or one was before the stop; or messages are left, which that does not excuse."""
    last = recording.last_member()
    asked = _say_uncommitted(recording, last, left)
    if lost is not None:
        recording.journals[last].insert(-1, {"at": asked + lost, "what": "gave up", "partitions": [0]})
    assert recording.judge().violations == {HANG: [f"{last} ended with 1"]}


def test_a_process_that_had_to_be_killed_at_its_deadline_hung(recording: Recording) -> None:
    last = recording.last_member()
    recording.conductor.append({"at": recording.conductor[-1]["at"], "what": "hung", "name": last})
    assert recording.judge().violations == {HANG: [f"{last} did not end"]}


def test_a_process_that_ends_unasked_is_seen(recording: Recording) -> None:
    recording.remove("conductor", lambda event: event["what"] == "asked" and event["name"] == "producer-1")
    assert recording.judge().violations == {HANG: ["producer-1 ended by itself"]}


def test_traffic_that_does_not_drain_is_seen(recording: Recording) -> None:
    recording.remove("conductor", lambda event: event["what"] == "drained")
    assert "not everything was handled" in recording.judge().violations[HANG][0]


def test_a_partition_that_stands_still_is_seen(recording: Recording) -> None:
    recording.conductor[0]["stall_limit"] = judge(_RECORDED).stall / 2
    assert list(recording.judge().violations) == ["no partition stands still"]


def test_a_commit_past_an_unhandled_message_is_seen_at_any_time(recording: Recording) -> None:
    """In the end everything was handled, but not when that was committed."""
    sample = recording.of("conductor", "committed")[3]
    sample["offsets"]["0"] += 40
    later = recording.of("conductor", "committed")[4:]
    for each in later:
        each["offsets"]["0"] = max(each["offsets"]["0"], sample["offsets"]["0"])
    verdict = recording.judge()
    assert set(verdict.violations) == {COMMIT}
    assert verdict.violations[COMMIT][0] == f"partition 0 committed up to {sample['offsets']['0']}"


def test_metadata_that_names_an_unhandled_message_is_seen(recording: Recording) -> None:
    sample = recording.of("conductor", "committed")[3]
    offset = sample["offsets"]["0"] + 40
    sample["metadata"]["0"] = encode(sample["offsets"]["0"], [offset])
    assert recording.judge().violations == {COMMIT: [f"partition 0 committed {offset} by its metadata"]}


def test_metadata_of_handled_messages_is_right(recording: Recording) -> None:
    sample = recording.of("conductor", "committed")[-1]
    sample["offsets"] = {number: offset - 2 for number, offset in sample["offsets"].items()}
    sample["metadata"] = {
        number: encode(offset, [offset + 1]) for number, offset in sample["offsets"].items()
    }
    assert COMMIT not in recording.judge().violations


def test_a_committed_offset_that_goes_back_is_seen(recording: Recording) -> None:
    recording.of("conductor", "committed")[-1]["offsets"]["0"] -= 1
    assert list(recording.judge().violations) == ["no committed offset goes back"]


@pytest.mark.parametrize("change", [-1, 1])
def test_a_group_that_does_not_end_at_the_end_of_the_log_is_seen(recording: Recording, change: int) -> None:
    (end,) = recording.of("conductor", "end")
    end["log"]["5"] += change
    assert END in recording.judge().violations


def test_a_run_that_was_broken_off_does_not_pass(recording: Recording) -> None:
    recording.remove("conductor", lambda event: event["what"] in ("end", "drained"))
    assert {END, HANG} <= set(recording.judge().violations)


def test_an_accepted_message_of_which_nothing_more_is_heard_is_seen(recording: Recording) -> None:
    acked = recording.of("producer-1", "acked")[5]
    recording.remove("producer-1", lambda event: event is acked)
    promise = "every accepted message is acknowledged or reported"
    assert recording.judge().violations == {promise: [acked["id"]]}
    recording.journals["producer-1"].append({**acked, "what": "refused", "error": "timed out"})
    assert recording.judge().passed


def test_a_message_that_was_acknowledged_without_an_offset_is_found_by_its_id(recording: Recording) -> None:
    """So a broker acknowledges what it has already from an earlier attempt."""
    acked = recording.of("producer-1", "acked")[5]
    place = (acked["p"], acked["o"])
    acked["o"] = None
    assert recording.judge().passed
    for name in recording.journals:
        if name.startswith("member") and any(
            (event.get("p"), event.get("o")) == place for event in recording.journals[name]
        ):
            recording.remove_place(name, place)
    assert acked["id"] in recording.judge().violations[LOST][0]


def test_a_message_that_is_in_the_log_twice_is_seen(recording: Recording) -> None:
    acked = recording.of("producer-1", "acked")
    _, begin, _ = recording.handled_once()[0]
    other = next(event for event in acked if event["id"] != begin["id"])
    begin["id"] = other["id"]
    assert "a message is stored once" in recording.judge().violations


def test_a_run_without_traffic_or_faults_does_not_pass(recording: Recording) -> None:
    recording.remove("conductor", lambda event: event["what"] in ("fault", "committed"))
    for name in list(recording.journals):
        if name != "conductor":
            recording.journals[name] = [event for event in recording.journals[name] if event["what"] == "x"]
    assert len(recording.judge().violations["the run tells something"]) == 3


def test_the_last_line_of_a_killed_process_may_be_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "killed.jsonl"
    Journal(path).write("begin", p=1, o=2)
    with path.open("a") as file:
        file.write('{"at": 1, "wh')
    assert [event["what"] for event in read(path)] == ["begin"]
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert [event["what"] for event in read(tmp_path / "packed.jsonl.gz")] == ["begin"]


def test_consecutive_seeds_go_through_all_orderings_and_protocols() -> None:
    runs = [from_environment({"CHAOS_SEED": str(seed)})[0] for seed in range(9)]
    assert len({(run.ordering, run.protocol) for run in runs}) == 9
    assert {run.duration for run in runs} == {180.0}


def test_all_orderings_share_the_minutes() -> None:
    runs = from_environment({"CHAOS_SEED": "7", "CHAOS_ORDERING": "all", "CHAOS_MINUTES": "6"})
    assert [(run.ordering, run.duration) for run in runs] == [
        ("partition", 120.0),
        ("key", 120.0),
        ("none", 120.0),
    ]


@pytest.mark.parametrize("name", ["CHAOS_MINUTES", "CHAOS_ORDERING", "CHAOS_PROTOCOL", "CHAOS_SEED"])
def test_what_is_unknown_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"CHAOS|int\(\)"):
        from_environment({name: "-1" if name == "CHAOS_MINUTES" else "whatever"})


def test_a_row_goes_to_the_end_of_the_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{HEADER}\n|---|\n| first |\n\nMore.\n")
    verdict = judge(_RECORDED)
    text = row(verdict)
    add_row(page, text)
    lines = page.read_text().splitlines()
    assert lines[4:] == ["| first |", text, "", "More."]
    assert text.count("|") == HEADER.count("|")
    assert "passed" in text
    page.write_text("no table")
    with pytest.raises(ValueError, match="no table of runs"):
        add_row(page, text)
