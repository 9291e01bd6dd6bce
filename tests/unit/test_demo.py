"""The demo and the command line: what `make run` and `dp-kafka` promise to a newcomer."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

import dp_kafka.cli
from dp_kafka import __version__
from dp_kafka.cli import demo
from dp_kafka.errors import DeliveryError

GOOD = demo.Report(
    messages=30,
    sent=(10, 20),
    handled=(10, 20),
    committed=(10, 20),
    out_of_turn=0,
    failed=0,
    workers=4,
    seconds=0.5,
)


def table(printed: str) -> dict[str, list[int]]:
    """The rows of the table: by partition, and "total"."""
    rows = re.findall(r"^ +(\d+|total)((?: +[\d,]+){3})$", printed, flags=re.MULTILINE)
    return {name: [int(number.replace(",", "")) for number in numbers.split()] for name, numbers in rows}


def test_the_counts_agree_and_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--messages", "5000", "--partitions", "6", "--workers", "4"]) == 0
    printed = capsys.readouterr().out
    rows = table(printed)
    assert list(rows) == [*"012345", "total"]
    assert rows["total"] == [5000, 5000, 5000]
    for column in range(3):
        assert sum(rows[partition][column] for partition in "012345") == 5000
    assert "5,000 messages" in printed
    assert re.search(r"[\d,]+ a second, with 4 workers", printed)


def test_it_reads_well_in_80_columns_also_with_a_million(capsys: pytest.CaptureFixture[str]) -> None:
    demo.main(["--messages", "100"])
    many = (10**6,) * 100
    million = replace(GOOD, messages=10**8, sent=many, handled=many, committed=many, workers=100)
    worse = replace(million, failed=10**6, out_of_turn=10**6)
    for text in (capsys.readouterr().out, str(million), str(worse)):
        assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sent": (10, 19)}, "29 of 30 were sent"),
        ({"failed": 1, "sent": (10, 19)}, "1 could not be delivered"),
        ({"handled": (11, 20)}, "sent and handled differ"),
        ({"handled": (20, 10)}, "sent and handled differ"),
        ({"committed": (10, 0)}, "handled and committed differ"),
        ({"out_of_turn": 2}, "2 were handled out of turn"),
    ],
)
def test_counts_that_disagree_are_told(changed: dict[str, object], said: str) -> None:
    report = replace(GOOD, **changed)  # type: ignore[arg-type]
    assert GOOD.agrees
    assert not report.agrees
    assert f"- {said}" in str(report)


def test_the_exit_code_is_1_when_the_counts_disagree(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A group that has committed elsewhere: the broker's answer is what counts, not what was handled."""
    committed = demo._committed
    monkeypatch.setattr(
        demo, "_committed", lambda servers, partitions: [0, *committed(servers, partitions)[1:]]
    )
    assert demo.main(["--messages", "100", "--partitions", "2"]) == 1
    assert "The counts disagree" in capsys.readouterr().out


def test_the_demo_ends_where_nothing_moves_any_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is never handled is told, not waited for without end."""
    monkeypatch.setattr(demo, "PATIENCE", 6.0)
    monkeypatch.setattr(demo, "AHEAD", 10)
    monkeypatch.setattr(demo.Counts, "handle", lambda self, worker_id, message: None)
    assert demo.main(["--messages", "100", "--partitions", "2"]) == 1
    printed = capsys.readouterr().out
    assert "of 100 were sent" in printed
    assert "sent and handled differ" in printed


def test_a_message_that_the_broker_refuses_is_not_counted_as_sent() -> None:
    counts = demo.Counts(2, 1)
    counts.on_delivery(DeliveryError("refused", topic="t"), None)
    report = counts.report([0], 1, 0.1)
    assert (report.sent, report.failed) == ((0,), 1)
    assert not report.agrees


def test_progress_is_plain_lines_when_there_is_no_terminal() -> None:
    stream = io.StringIO()
    demo.run(3000, 3, 2, stream)
    lines = re.findall(r"^sent +[\d,]+   handled +[\d,]+$", stream.getvalue(), flags=re.MULTILINE)
    assert len(lines) >= 2
    assert lines[-1].split() == ["sent", "3,000", "handled", "3,000"]
    assert "\r" not in stream.getvalue()


def test_progress_is_one_line_that_changes_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "dp_kafka", "demo", "--messages", "2000"]
    with subprocess.Popen(command, stdout=theirs, stdin=subprocess.DEVNULL) as process:
        os.close(theirs)
        printed = _read_all(ours)
        assert process.wait(timeout=30) == 0
    bars = re.findall(r"\r\[(#*)(\.*)\]  sent +[\d,]+   handled +[\d,]+", printed)
    assert len(bars) >= 2
    assert bars[-1][1] == ""
    assert "\n[" not in printed


def _read_all(descriptor: int) -> str:
    chunks = []
    with open(descriptor, "rb", buffering=0) as terminal:
        while True:
            try:
                chunk = terminal.read(4096)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            chunks.append(chunk)
    return b"".join(chunks).decode()


#: Python takes SIGINT for Ctrl-C unless it was started with SIGINT ignored, as a test in the background is.
_DEMO_WITH_CTRL_C = """
import signal, sys, dp_kafka.cli
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(dp_kafka.cli.main(["demo", "--messages", "10000000"]))
"""


def test_ctrl_c_ends_it_without_a_stack() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _DEMO_WITH_CTRL_C], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any(line.startswith("sent") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read() == "\ninterrupted\n"
        assert process.wait(timeout=30) == 130


def test_output_that_nobody_reads_ends_it_without_a_stack() -> None:
    """As in `python -m dp_kafka demo | head -1`."""
    command = [sys.executable, "-m", "dp_kafka", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=30) == 1


def test_a_consumer_that_falls_behind_holds_up_the_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded broker forgets what is too much for it, so the demo never runs far ahead."""
    monkeypatch.setattr(demo, "AHEAD", 10)
    report = demo.run(500, 2, 2, io.StringIO())
    assert report.agrees


@pytest.mark.parametrize(
    "arguments", [["--messages", "0"], ["--workers", "-1"], ["--partitions", "six"], ["--workers", "101"]]
)
def test_options_that_make_no_sense_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.main(arguments)
    assert ended.value.code == 2
    assert f"{arguments[1]!r} is not a whole number from 1 to" in capsys.readouterr().err


def test_python_m_dp_kafka_is_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dp_kafka", "--version"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == f"dp-kafka {__version__}\n"


def test_without_click_the_demo_runs_and_other_commands_name_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert dp_kafka.cli.main(["demo", "--messages", "10"]) == 0
    with pytest.raises(SystemExit) as ended:
        dp_kafka.cli.main(["drain"])
    assert ended.value.code == 2
    assert "pip install 'dp-kafka[cli]'" in capsys.readouterr().err


def test_without_click_the_help_shows_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    assert dp_kafka.cli.main([]) == 0
    assert "demo" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        dp_kafka.cli.main(["--help"])
    assert ended.value.code == 0
    assert "demo" in capsys.readouterr().out
