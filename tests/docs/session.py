"""Runs the code of a page as a reader would, and compares what it prints with what the page shows."""

from __future__ import annotations

import contextlib
import io
import re
import threading
from collections.abc import Sequence
from typing import Any

from dp_kafka.kafkatest import EmbeddedCluster

from .pages import Block

#: Seconds for code, and the threads that it has started, to print what the page shows.
PATIENCE = 30.0
_NOT_RUN = "not run:"


class Recorder(io.StringIO):
    """What is printed by all threads; one can wait for it."""

    def __init__(self) -> None:
        super().__init__()
        #: Guards the text.
        self._changed = threading.Condition(threading.RLock())
        #: A print() writes its line and the line's end apart: each thread's line is kept until it is whole.
        self._begun = threading.local()

    def write(self, text: str) -> int:
        line = getattr(self._begun, "line", "") + text
        whole, end, self._begun.line = line.rpartition("\n")
        with self._changed:
            super().write(whole + end)
            self._changed.notify_all()
        return len(text)

    def wait_for(self, shown: Shown) -> bool:
        """Wait until all that has been printed is what the page shows; then forget it."""
        with self._changed:
            matched = self._changed.wait_for(lambda: shown.matches(self.getvalue()), PATIENCE)
            if matched:
                self.seek(0)
                self.truncate()
            return matched


class Shown:
    """Output as a page shows it: `…` stands for anything within a line."""

    def __init__(self, block: Block) -> None:
        self.text = block.text
        self._any_order = block.marks.endswith("in any order")
        pieces = [re.escape(line).replace("…", ".*") for line in block.text.splitlines()]
        self._lines = [re.compile(piece) for piece in pieces]

    def matches(self, printed: str) -> bool:
        """Whether this was printed, and nothing else."""
        lines = printed.splitlines()
        if len(lines) != len(self._lines) or not printed.endswith("\n"):
            return False
        if not self._any_order:
            return all(want.fullmatch(line) for want, line in zip(self._lines, lines, strict=True))
        for want in self._lines:
            line = next((line for line in lines if want.fullmatch(line)), None)
            if line is None:
                return False
            lines.remove(line)
        return True


def run(blocks: Sequence[Block], name: str, cluster: EmbeddedCluster) -> None:
    """Run the blocks of one page in their order; AssertionError where the page shows something else."""
    recorder = Recorder()
    namespace: dict[str, Any] = {
        "__name__": "__page__",
        "cluster": cluster,
        "broker_addrs": cluster.broker_addrs,
    }
    # Tests of a page run once, and only those that its code has defined.
    known = set(namespace)
    with contextlib.redirect_stdout(recorder):
        for number, block in enumerate(blocks):
            if block.language in ("python", "setup"):
                code = compile("\n" * (block.line - 1) + block.text, name, "exec", dont_inherit=True)
                if block.marks.startswith(_NOT_RUN):
                    continue
                following = next((later for later in blocks[number + 1 :] if _is_output(later)), None)
                namespace["input"] = _enter_after(recorder, following, name)
                exec(code, namespace)
                for defined in sorted(namespace.keys() - known):
                    if defined.startswith("test_") and callable(namespace[defined]):
                        namespace[defined]()
                known |= namespace.keys()
            elif _is_output(block):
                _expect(recorder, block, name)


def _is_output(block: Block) -> bool:
    return block.language == "text" and block.marks.startswith("output")


def _enter_after(recorder: Recorder, following: Block | None, name: str) -> Any:
    """An `input()` for code that a reader would end with Enter, after having seen the output."""

    def enter(prompt: str = "") -> str:
        assert following is not None, f"{name}: input({prompt!r}) has no output to wait for"
        _expect(recorder, following, name)
        recorder.write(following.text.replace("…", ""))  # for the block itself, whose turn is still to come
        return ""

    return enter


def _expect(recorder: Recorder, block: Block, name: str) -> None:
    if not recorder.wait_for(Shown(block)):
        raise AssertionError(
            f"{name}:{block.line}: the page shows\n{block.text}but what was printed is\n{recorder.getvalue()}"
        )
