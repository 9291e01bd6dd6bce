"""Runs mutmut, and tells apart what no test notices: changes that change nothing, explained here, and gaps.

    $ make mutants

mutmut changes one place of a function at a time (`[mutmut]` in setup.cfg says in which modules) and runs the
tests that call it. A test that fails or hangs has noticed. What survives must stand in `EXPLAINED` with the
reason why nobody can notice it: anything else ends this with 1. What is explained and was noticed all the
same is named: on a busy machine a test may have taken too long.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What of mutmut's verdicts is a change that was noticed.
NOTICED = ("killed", "timeout", "segfault", "caught by type check")

#: Why a change is none: the function, and the line as it is with the change.
EXPLAINED: dict[str, tuple[tuple[str, str], ...]] = {
    "None is as false as False, and these are only ever asked whether they are true": (
        ("consumer.commits.GroupCommit.__init__", "self._over = None"),
        ("consumer.commits.GroupCommit.__init__", "self.wanted = None"),
        ("consumer.commits.GroupCommit.__init__", "self._in_flight = None"),
        ("consumer.commits.GroupCommit.begin", "self.wanted = None"),
        ("consumer.commits.GroupCommit.succeed", "self._in_flight = None"),
        ("consumer.commits.GroupCommit.retry", "self._in_flight = None"),
        ("consumer.commits.GroupCommit.fail", "self._in_flight = None"),
        ("consumer.session.Session.__init__", "self._batched = None"),
        ("consumer.lane.Lane.__init__", "self._skip: set[int] = None"),
        ("consumer.lane.Lane.__init__", "self.paused = None"),
        ("consumer.lane.Lane.advance", "refused = None"),
        ("consumer.backlog.Backlog.__init__", "self.batched = None"),
        ("consumer.backlog.Backlog.__init__", "self._holds = None"),
        ("consumer.backlog.Backlog.set_batched", "self.in_partition_order = None"),
        ("consumer.ordering.PartitionOrder.__init__", "self._out = None"),
        ("consumer.ordering.PartitionOrder.done", "self._out = None"),
    ),
    "it is set before anybody reads it: by the session that is made with it, or by begin()": (
        ("consumer.commits.GroupCommit.__init__", "self.release: Callable[[list[Message]], None] = None"),
        (
            "consumer.commits.GroupCommit.__init__",
            "self.release: Callable[[list[Message]], None] = lambda _messages: 0",
        ),
        ("consumer.commits.GroupCommit.__init__", "self._begun_at = None"),
        ("consumer.commits.GroupCommit.__init__", "self._begun_at = 1.0"),
    ),
    "a ticket, a tie-breaker or a count of changes has to grow, by whatever and from wherever": (
        ("consumer.commits.GroupCommit.park", "self._asked += 2"),
        ("consumer.offsets.OffsetTracker.finish", "self.changes += 2"),
        ("consumer.offsets.OffsetTracker.start", "self.changes += 2"),
        ("consumer.offsets.OffsetTracker.start", "self.changes = 1"),
        ("consumer.session.Session.__init__", "self._retry_count = 1"),
        ("consumer.session.Session.defer", "self._retry_count += 2"),
    ),
    "no offset is below 0": (("consumer.lane.Lane.__init__", "self._last = -2"),),
    "at least one is finished, so the loop sets it": (
        ("consumer.offsets.OffsetTracker.finish_first", "offset = None"),
        ("consumer.offsets.OffsetTracker.finish_first", "offset = +1"),
        ("consumer.offsets.OffsetTracker.finish_first", "offset = -2"),
    ),
    "it is the slower of two ways to the same": (
        (
            "consumer.lane.Lane.add",
            "if last_offset + first_offset + 1 != len(raws):  # gaps: a compacted log, or transactions",
        ),
        (
            "consumer.lane.Lane.add",
            "if last_offset - first_offset + 2 != len(raws):  # gaps: a compacted log, or transactions",
        ),
        (
            "consumer.lane.Lane.commit_point",
            "beyond = offsets.finished | self._skip if (self._skip) or True else offsets.finished",
        ),
        ("consumer.backlog.Backlog.size", "while chunks and gone > chunks[0][0]:"),
        ("consumer.ordering._Buffer.claim", "if count > len(buffer):"),
    ),
    "who is told for nothing looks, and waits on": (
        (
            "consumer.lane.Lane._is_idle_locked",
            "return self._in_hand == 0 or self.phase is not LanePhase.OPEN",
        ),
        (
            "consumer.lane.Lane._tell",
            "def _tell(self, following: Message | None, *, idle: bool = True) -> None:",
        ),
    ),
    "what may go beside the messages in hand was offered before, or is when they are let go": (
        (
            "consumer.lane.Lane.mark",
            "following = self._offer_locked() if (held) or True else None",
        ),
    ),
    "the line before leaves it no other value": (
        ("consumer.lane.Lane._offer_locked", "self._queued = 1"),
        (
            "consumer.lane.Lane.commit_point",
            "further = sorted(each for each in beyond if each >= offset)",
        ),
    ),
    "it is looked at after the first of a run is known, which is no offset below 1": (
        ("consumer.metadata.encode", "first = last = -2"),
        ("consumer.metadata.encode", "if offset == last + 1 and first > 0:"),
        ("consumer.metadata.encode", "if offset == last + 1 and first >= 1:"),
        ("consumer.metadata.encode", "if first > 0:"),
        ("consumer.metadata.encode", "if first >= 1:"),
    ),
    "both halves of an even number of numbers are equally long": (
        ("consumer.metadata.decode", "for gap, length in zip(numbers[::2], numbers[1::2], strict=None):"),
        ("consumer.metadata.decode", "for gap, length in zip(numbers[::2], numbers[1::2], ):"),
        ("consumer.metadata.decode", "for gap, length in zip(numbers[::2], numbers[1::2], strict=False):"),
    ),
    "the line before has sent the first one another way": (
        (
            "consumer.offsets.OffsetTracker.finish",
            "if not pending[0] <= offset <= pending[-1] or offset in self.finished:",
        ),
    ),
    "the next step is taken at LOG_BEYOND, whatever below that it was": (
        ("consumer.session.Session.log_held", "lane.log_beyond = 1"),
        ("consumer.lane.Lane.__init__", "self.log_beyond = 1"),
    ),
}


@dataclass(frozen=True)
class Survivor:
    """A change that no test noticed: its name, the function, the line as it is with the change."""

    name: str
    function: str
    line: str
    diff: str


def mutmut(*arguments: str) -> str:
    """What a command of mutmut prints."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def verdicts() -> dict[str, str]:
    """What became of each change, by its name."""
    lines = mutmut("results", "--all", "true").splitlines()
    found = (line.strip().rpartition(": ") for line in lines if "__mutmut_" in line)
    return {name: verdict for name, _, verdict in found}


def survivor(name: str) -> Survivor:
    """Look at a change: `pkg.module.xǁClassǁmethod__mutmut_1` or `pkg.module.x_function__mutmut_1`."""
    module, _, mangled = name.rpartition(".")
    function = re.sub(r"__mutmut_\d+$", "", mangled)
    function = function[2:].replace("ǁ", ".") if "ǁ" in function else function[2:]
    diff = mutmut("show", name)
    added = [line[1:].strip() for line in diff.splitlines() if line.startswith("+") and line[:3] != "+++"]
    return Survivor(name, f"{module.partition('.')[2]}.{function}", " ".join(added), diff)


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--at-once", type=int, default=2, help="changes that are tried at a time (2)")
    parser.add_argument("--verdict", action="store_true", help="do not run mutmut: judge its last run")
    asked = parser.parse_args()
    if not asked.verdict:
        subprocess.run(
            [sys.executable, "-m", "mutmut", "run", "--max-children", str(asked.at_once)],
            cwd=ROOT,
            check=True,
        )
    found = verdicts()
    survivors = [survivor(name) for name, verdict in found.items() if verdict not in NOTICED]
    explained = {each for changes in EXPLAINED.values() for each in changes}
    gaps = [each for each in survivors if (each.function, each.line) not in explained]
    for each in gaps:
        print(f"\nno test notices {each.name} ({found[each.name]}):\n{each.diff}")
    unneeded = explained - {(each.function, each.line) for each in survivors}
    for function, line in sorted(unneeded):
        print(f"\nexplained, but noticed or not there any more: {function}: {line}")
    modules = Counter(name.rpartition(".")[0] for name in found)
    missed = Counter(each.name.rpartition(".")[0] for each in survivors)
    print("\nmodule                      changes  noticed  explained")
    for module, count in sorted(modules.items()):
        unexplained = sum(each.name.startswith(f"{module}.") for each in gaps)
        print(f"{module:26}  {count:7}  {count - missed[module]:7}  {missed[module] - unexplained:9}")
    print(f"{len(gaps)} that no test notices and nobody has explained")
    return 1 if gaps or not found else 0


if __name__ == "__main__":
    sys.exit(main())
