"""The commands of `dp-kafka` on the embedded broker: what they write, and their exit codes."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import re
import signal
import uuid
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console

from dp_kafka import __version__
from dp_kafka.admin import PartitionLag, commit_offsets, new_admin
from dp_kafka.admin.groups import GroupInfo, GroupMember
from dp_kafka.avro import Schema
from dp_kafka.cli.commands import commands
from dp_kafka.cli.commands.lag import Reading, view
from dp_kafka.cli.commands.manifest import read_manifest
from dp_kafka.errors import ConfigError
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.processing.deadletter import HEADERS, PREFIX
from tests.commandline import Run, caller
from tests.conftest import CommittedFunction, SendFunction, TopicFactory
from tests.sending import nobody, received
from tests.unreachable import dead_address
from tests.waiting import PATIENCE, in_thread


@pytest.fixture
def run(cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command against the session's cluster: its exit code, stdout and stderr."""
    monkeypatch.setenv("KAFKA_ADDR", cluster.bootstrap_servers)
    return caller(capsys)


def all_commands() -> list[list[str]]:
    found = []
    for name, command in commands.commands.items():
        if isinstance(command, click.Group):
            found += [[name, each] for each in command.commands]
        elif name != "demo":
            found.append([name])
    return found


# -- help, version, errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", all_commands(), ids=" ".join)
def test_each_command_has_a_help_with_examples_that_parse(command: list[str], run: Run) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Usage: dp-kafka " + " ".join(command) in out
    assert "Examples:" in out
    assert max(len(line) for line in out.splitlines()) <= 80
    shown = [line for line in out.splitlines() if "dp-kafka" in line and not line.startswith("Usage")]
    assert any(f"dp-kafka {' '.join(command)}" in line for line in shown)
    for line in shown:
        options = re.findall(r" (--[a-z-]+)", line.split("dp-kafka", 1)[1].split("|")[0])
        assert all(option in out.split("Examples:")[0] for option in options), line


def test_the_help_names_all_commands_also_the_demo(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    names = ("acls", "consume", "demo", "drain", "health", "lag", "produce", "redrive", "topics")
    for name in names:
        assert re.search(rf"^  {name} ", out, re.MULTILINE), name
    assert run("--version")[1] == f"dp-kafka {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["drain"], ["lag", "--interval", "0"], ["consume", "t", "--from", "x"], ["lag", "--nope"]],
)
def test_wrong_usage_is_2(arguments: list[str], run: Run, topic: TopicFactory) -> None:
    name = topic()
    code, out, err = run(*(name if each == "t" else each for each in arguments))
    assert code == 2
    assert "Error: " in err
    assert out == ""


def test_a_command_runs_in_any_thread(run: Run) -> None:
    """Only the main one may handle signals: elsewhere they are somebody else's."""
    before = signal.getsignal(signal.SIGTERM)
    assert in_thread(lambda: run("topics", "list")).result(PATIENCE)[0] == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_wrong_settings_are_2_and_name_the_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SEC_PROTO", "SSL")
    code, _, err = run("topics", "list")
    assert code == 2
    assert err.startswith("dp-kafka: KAFKA_SEC_PROTO must be exactly 'TLS'")
    monkeypatch.setenv("KAFKA_SEC_PROTO", "")
    code, _, err = run("topics", "list", "--brokers", "localhost")
    assert code == 2
    assert "--brokers" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["topics", "list", "--timeout", "0.5"],
        ["lag", "g", "t", "--timeout", "0.5"],
        ["consume", "t", "--timeout", "0.5"],
        ["redrive", "t", "--timeout", "0.5"],
    ],
)
def test_a_cluster_that_is_away_is_3_and_one_line(
    arguments: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_ADDR", nobody())
    code, out, err = run(*arguments)
    assert (code, out) == (3, "")
    assert re.fullmatch(r"dp-kafka: _T\w+: .*\n", err)


def test_a_topic_that_is_not_there_is_1(run: Run) -> None:
    for arguments in (["lag", "g", "missing"], ["consume", "missing"], ["redrive", "missing"]):
        code, _, err = run(*arguments)
        assert code == 1
        assert "no topic 'missing'" in err


# -- health ---------------------------------------------------------------------------------------------


def test_health_is_the_verdict_of_the_check(
    run: Run, topic: TopicFactory, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic()
    code, out, _ = run("health", name)
    assert code == 0
    assert out.startswith("OK  kafka consumer group is healthy\n")
    code, out, _ = run("health", name, "--json")
    assert code == 0
    assert json.loads(out) == {
        "status": "OK",
        "message": "kafka consumer group is healthy",
        "topic": name,
        "brokers": cluster.broker_addrs,
    }
    away = nobody()
    monkeypatch.setenv("KAFKA_ADDR", away)
    code, out, _ = run("health", name)
    assert code == 1
    assert out.startswith(f"CRITICAL  broker(s) not reachable at: [{away}]")
    assert run("health", "--timeout", "0.5", "--json", name)[0] == 1


# -- lag ------------------------------------------------------------------------------------------------


def test_lag_is_a_table_or_a_document(
    run: Run, topic: TopicFactory, send: SendFunction, cluster: EmbeddedCluster
) -> None:
    name = topic(2)
    send(name, *"abcde")
    commit_offsets(new_admin(cluster.broker_addrs), f"g-{name}", {(name, 0): 2})
    code, out, _ = run("lag", f"g-{name}", name)
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows == [
        ["TOPIC", "PART", "COMMITTED", "END", "LAG"],
        [name, "0", "2", "5", "3"],
        [name, "1", "none", "0", "0"],
        ["total", "5", "3"],
    ]
    document = json.loads(run("lag", f"g-{name}", "--json")[1])
    assert (document["group"], document["lag"]) == (f"g-{name}", 3)
    assert document["partitions"] == [
        {"topic": name, "partition": 0, "start": 0, "committed": 2, "end": 5, "lag": 3}
    ]


def test_lag_of_a_group_that_has_committed_nothing_says_what_to_do(run: Run) -> None:
    code, out, _ = run("lag", "nobody-knows-me")
    assert code == 0
    assert "has committed nothing" in out


def test_max_lag_decides_the_exit_code(run: Run, topic: TopicFactory, send: SendFunction) -> None:
    name = topic()
    send(name, *"abcde")
    assert run("lag", "g", name, "--max-lag", "5")[0] == 0
    code, _, err = run("lag", "g", name, "--max-lag", "4")
    assert code == 1
    assert "behind by 5, more than 4" in err


def reading(count: int, **more: Any) -> Reading:
    """Of partitions with long names and large numbers, after an earlier look."""
    name = "a-topic-whose-name-is-long-enough-to-need-more-than-its-share-of-a-line"
    then = [PartitionLag(name, number, 0, 10**9, 10**9 - number) for number in range(count)]
    now = [PartitionLag(name, each.partition, 0, 10**9 + 4_000, each.committed) for each in then]
    info = GroupInfo("importer", "stable", (GroupMember("dp-kafka", "127.0.0.1", ()),) * 3)
    return Reading("importer", now, info, 12.0, Reading("importer", then, info, 10.0), **more)


@pytest.mark.parametrize("count", [1, 5, 200])
@pytest.mark.parametrize("problem", ["", "_TIMED_OUT: " + "no answer " * 20])
def test_the_live_view_fits_a_terminal_and_shows_the_furthest_behind(count: int, problem: str) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, force_terminal=True, color_system=None)
    console.print(view(reading(count, problem=problem), console))
    lines = out.getvalue().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("group importer   stable, 3 members   ")
    assert lines[2].split() == ["TOPIC", "PART", "COMMITTED", "END", "LAG", "IN/S", "OUT/S"]
    behind = str(count - 1)
    # Numbers are whole, whatever becomes of the name.
    assert any(line.split()[1:3] == [behind, f"{10**9 - count + 1:,}"] for line in lines if "a-topic" in line)
    assert any(line.split()[-2:] == ["2,000", "0"] for line in lines if "a-topic" in line)
    total = next(line for line in lines if line.startswith("total"))
    assert f"{count * 4_000 + sum(range(count)):,}" in total.split()
    if count == 200:
        assert any("partitions that are less behind" in line for line in lines)
    assert ("not up to date" in out.getvalue()) == bool(problem)


# -- drain ----------------------------------------------------------------------------------------------


def test_drain_commits_and_tells(
    run: Run, topic: TopicFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """Contract 17.4, 17.5: the group of a temporary consumer, up to the end, with a count."""
    one, other = topic(), topic(2)
    send(one, *"abc")
    send(other, *"ab", partition=1)
    code, out, err = run("drain", "--group", f"g-{one}", one, other)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["TOPIC", "GROUP", "DRAINED", "FROM", "TO", "SECONDS"]
    assert rows[1][:5] == [one, f"g-{one}", "3", "0", "3"]
    assert rows[2][:5] == [other, f"g-{one}", "2", "0", "2"]
    assert committed(f"g-{one}", one) == 3
    assert committed(f"g-{one}", other, 1) == 2


def test_drain_as_json_and_one_that_fails_is_1(run: Run, topic: TopicFactory, send: SendFunction) -> None:
    name = topic()
    send(name, *"abc")
    code, out, _ = run("drain", "--group", f"g-{name}", name, "missing", "--json", "--yes")
    assert code == 1
    good, bad = json.loads(out)
    assert (good["topic"], good["ok"], good["count"]) == (name, True, 3)
    assert (good["from"], good["to"], good["error"]) == ({"0": 0}, {"0": 3}, None)
    assert (bad["ok"], bad["count"]) == (False, 0)
    assert "no topic 'missing'" in bad["error"]


def test_a_drain_that_fails_says_why_below_the_table(
    run: Run, topic: TopicFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, *"abc")
    code, out, err = run("drain", "--group", f"g-{name}", name, "missing", "--yes")
    assert code == 1
    rows = [line.split() for line in out.splitlines()]
    assert [row[:3] for row in rows[1:]] == [[name, f"g-{name}", "3"], ["missing", f"g-{name}", "0"]]
    assert err.startswith("missing: there is no topic 'missing' on this cluster")


# -- redrive --------------------------------------------------------------------------------------------


def dead_letter(send: SendFunction, dead: str, value: str, original: str) -> None:
    told: dict[str, str | bytes | None] = {**dict.fromkeys(HEADERS, "0"), PREFIX + "topic": original}
    send(dead, value, headers=list(told.items()))


def test_redrive_sends_back_and_tells(
    run: Run, topic: TopicFactory, send: SendFunction, cluster: EmbeddedCluster
) -> None:
    name, dead = topic(), topic()
    for value in "abc":
        dead_letter(send, dead, value, name)
    code, out, _ = run("redrive", dead)
    assert code == 0
    assert out.splitlines()[1].split() == [name, "3"]
    assert "3 dead letters sent back" in out
    assert [each.value() for each in received(cluster, name, 3)] == [b"a", b"b", b"c"]


def test_redrive_that_cannot_is_1_with_what_was_done(
    run: Run, topic: TopicFactory, send: SendFunction
) -> None:
    name, dead = topic(), topic()
    dead_letter(send, dead, "a", name)
    dead_letter(send, dead, "b", "missing")
    code, out, err = run("redrive", dead, "--json", "--group", f"g-{dead}")
    assert code == 1
    document = json.loads(out)
    assert (document["count"], document["left"], document["by_topic"]) == (1, 1, {name: 1})
    assert "'missing' is not on this cluster" in document["error"]
    assert "'missing' is not on this cluster" in err


def test_redrive_of_a_topic_without_letters_says_so(run: Run, topic: TopicFactory) -> None:
    code, out, err = run("redrive", topic())
    assert (code, err) == (0, "")
    assert re.fullmatch(r"0 dead letters sent back in \d+\.\d s\n", out)


# -- produce and consume --------------------------------------------------------------------------------


def produce(run: Run, tmp_path: Path, text: str, *arguments: str) -> tuple[int, str, str]:
    source = tmp_path / "input"
    source.write_text(text)
    return run("produce", *arguments, "--file", str(source))


def consumed(run: Run, *arguments: str) -> list[dict[str, Any]]:
    code, out, err = run("consume", *arguments)
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_lines_go_out_and_come_back_as_json(run: Run, topic: TopicFactory, tmp_path: Path) -> None:
    name = topic()
    text = '{"id": 1}\nplain text\n\nlast, without an end'
    code, out, err = produce(run, tmp_path, text, name, "--key", "k", "--header", "a=1", "--header", "a=2=3")
    assert (code, out) == (0, "")
    assert err == f"4 messages delivered to {name}\n"
    found = consumed(run, name)
    assert [each["value"] for each in found] == [{"id": 1}, "plain text", "", "last, without an end"]
    first = found[0]
    assert (first["topic"], first["partition"], first["offset"], first["key"]) == (name, 0, 0, "k")
    assert first["headers"][:2] == [["a", "1"], ["a", "2=3"]]
    assert first["timestamp"] > 1_600_000_000_000


def test_keys_come_from_the_lines(run: Run, topic: TopicFactory, tmp_path: Path) -> None:
    name = topic()
    assert produce(run, tmp_path, "k1:v1\nk2:v:2\n", name, "--key-separator", ":")[0] == 0
    assert [(each["key"], each["value"]) for each in consumed(run, name)] == [("k1", "v1"), ("k2", "v:2")]
    code, _, err = produce(run, tmp_path, "k3:v3\nnone\nk4:v4\n", name, "--key-separator", ":")
    assert code == 1
    assert "line 2: there is no ':' after the key" in err
    assert [each["key"] for each in consumed(run, name)] == ["k1", "k2", "k3"], "what stands before is sent"
    assert produce(run, tmp_path, "", name, "--key", "a", "--records")[0] == 2


def test_what_consume_writes_produce_reads(
    run: Run, topic: TopicFactory, tmp_path: Path, send: SendFunction
) -> None:
    one, other = topic(), topic()
    odd: list[tuple[str, str | bytes | None]] = [("request-id", "t"), ("none", None)]
    send(one, b"\xff\x00", "text", '{"a": [1, null]}', None, key=b"\xfe", headers=odd)
    _, out, _ = run("consume", one)
    assert produce(run, tmp_path, out, other, "--records")[0] == 0
    kept = ("headers", "key", "key_base64", "value", "value_base64")
    before, after = (
        [{name: each.get(name) for name in kept} for each in consumed(run, name)] for name in (one, other)
    )
    assert before == after
    assert before[0]["value_base64"] == "/wA="
    broken = tmp_path / "broken"
    broken.write_bytes(b"fine\n\xff\n")
    code, _, err = run("produce", other, "--file", str(broken))
    assert code == 1
    assert "it is not UTF-8" in err
    for line in (
        "not json",
        "[]",
        "{}",
        '{"value": 1, "headers": 3}',
        '{"value_base64": "?"}',
        '{"value": 1, "key": 5}',
    ):
        code, _, err = produce(run, tmp_path, line, other, "--records")
        assert code == 1
        assert "line 1: " in err


SCHEMA = {
    "type": "record",
    "name": "Audit",
    "fields": [{"name": "id", "type": "long"}, {"name": "note", "type": ["null", "string"], "default": None}],
}


def test_avro_goes_out_and_comes_back(
    run: Run, topic: TopicFactory, tmp_path: Path, cluster: EmbeddedCluster
) -> None:
    name = topic()
    path = tmp_path / "audit.avsc"
    path.write_text(json.dumps(SCHEMA))
    lines = '{"id": 1, "note": "x"}\n{"id": 2, "note": null}\n'
    assert produce(run, tmp_path, lines, name, "--schema", str(path))[0] == 0
    assert received(cluster, name, 2)[0].value() == Schema(SCHEMA).marshal({"id": 1, "note": "x"})
    found = consumed(run, name, "--schema", str(path))
    assert [each["value"] for each in found] == [{"id": 1, "note": "x"}, {"id": 2, "note": None}]
    code, _, err = produce(run, tmp_path, '{"id": "one"}', name, "--schema", str(path))
    assert code == 1
    assert "line 1: " in err


def test_avro_values_that_json_has_no_form_for_are_shown_as_texts_and_numbers(
    run: Run, topic: TopicFactory, send: SendFunction, tmp_path: Path
) -> None:
    logical = {
        "day": ("int", "date", dt.date(2024, 2, 29), "2024-02-29"),
        "time": ("int", "time-millis", dt.time(1, 2, 3), "01:02:03"),
        "at": (
            "long",
            "timestamp-millis",
            dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc),
            "2024-01-01T00:00:00+00:00",
        ),
        "id": ("string", "uuid", uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        "price": ("bytes", "decimal", decimal.Decimal("1.50"), "1.50"),
        "raw": ("bytes", "none", b"\xff\x00", "/wA="),
    }
    schema = {
        "type": "record",
        "name": "Everything",
        "fields": [
            {"name": field, "type": {"type": base, "logicalType": kind, "precision": 4, "scale": 2}}
            for field, (base, kind, _, _) in logical.items()
        ],
    }
    path = tmp_path / "everything.avsc"
    path.write_text(json.dumps(schema))
    name = topic()
    send(name, Schema(schema).marshal({field: value for field, (_, _, value, _) in logical.items()}))
    (found,) = consumed(run, name, "--schema", str(path))
    assert found["value"] == {field: shown for field, (_, _, _, shown) in logical.items()}


def test_a_value_that_is_not_as_asked_for_hides_no_other(
    run: Run, topic: TopicFactory, send: SendFunction, tmp_path: Path
) -> None:
    name = topic()
    path = tmp_path / "audit.avsc"
    path.write_text(json.dumps(SCHEMA))
    send(name, b"\x80", Schema(SCHEMA).marshal({"id": 2, "note": None}))
    odd, fine = consumed(run, name, "--schema", str(path))
    assert odd["value_base64"] == "gA=="
    assert odd["error"]
    assert fine["value"] == {"id": 2, "note": None}
    send(name, "text")
    as_json = consumed(run, name, "--value", "json", "--from", "-1")
    assert (as_json[0]["value_base64"], as_json[0]["error"]) == ("dGV4dA==", "it is not JSON")
    assert consumed(run, name, "--value", "text", "--from", "-1")[0]["value"] == "text"
    assert consumed(run, name, "--value", "base64", "--from", "-1")[0]["value_base64"] == "dGV4dA=="


def test_consume_begins_and_ends_where_it_is_told(run: Run, topic: TopicFactory, send: SendFunction) -> None:
    name = topic(2)
    send(name, *"abcde", partition=0)
    send(name, *"xyz", partition=1)

    def values(*arguments: str) -> str:
        return "".join(sorted(str(each["value"]) for each in consumed(run, name, *arguments)))

    assert values() == "abcdexyz"
    assert values("--partition", "1") == "xyz"
    assert values("--from", "2") == "cdez"
    assert values("--from", "-1") == "ez"
    assert values("--from", "newest") == ""
    assert values("--from", "99") == ""
    assert values("--partition", "0", "--max", "2") == "ab"
    code, _, err = run("consume", name, "--partition", "2")
    assert code == 2
    assert f"topic {name} has 2" in err


def test_consume_in_a_group_commits_what_it_wrote(
    run: Run, topic: TopicFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    name = topic()
    send(name, *"abcde")
    found = consumed(run, name, "--group", f"g-{name}", "--max", "3")
    assert [each["value"] for each in found] == ["a", "b", "c"]
    assert committed(f"g-{name}", name) == 3
    assert run("consume", name, "--group", "g", "--from", "oldest")[0] == 2


@pytest.mark.parametrize("header", ["name", "=value"])
def test_a_header_needs_a_name_and_a_value(
    run: Run, topic: TopicFactory, tmp_path: Path, header: str
) -> None:
    code, _, err = produce(run, tmp_path, "a\n", topic(), "--header", header)
    assert code == 2
    assert f"'{header}' is not NAME=VALUE" in err


def test_produce_waits_for_a_broker_no_longer_than_it_is_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_ADDR", nobody())
    code, _, err = produce(run, tmp_path, "a\n", "topic", "--timeout", "0.5")
    assert (code, err) == (3, "dp-kafka: no broker answered within 0.5 s\n")


def test_messages_that_no_broker_takes_are_1(run: Run, topic: TopicFactory, tmp_path: Path) -> None:
    name = topic()
    code, out, err = produce(run, tmp_path, "a\nb\n", name, "--partition", "7", "--json")
    assert code == 1
    document = json.loads(out)
    assert document["delivered"] == 0
    assert document["error"]
    assert "dp-kafka: " in err


@pytest.fixture
def own(own_cluster: EmbeddedCluster, run: Run, monkeypatch: pytest.MonkeyPatch) -> EmbeddedCluster:
    """A cluster of the test's own, with a topic "t", which commands use."""
    own_cluster.create_topic("t")
    monkeypatch.setenv("KAFKA_ADDR", own_cluster.bootstrap_servers)
    return own_cluster


def test_messages_that_the_broker_refuses_are_counted_and_1(
    own: EmbeddedCluster, run: Run, tmp_path: Path
) -> None:
    own.inject_errors("Produce", "TOPIC_AUTHORIZATION_FAILED")
    code, _, err = produce(run, tmp_path, "a\n", "t")
    assert code == 1
    assert err.startswith("0 messages delivered to t\ndp-kafka: 1 not delivered: ")
    assert "TOPIC_AUTHORIZATION_FAILED" in err
    code, _, err = produce(run, tmp_path, "a\n", "t")
    assert (code, err) == (0, "1 message delivered to t\n")


def test_messages_that_no_broker_acknowledges_in_time_are_1(
    own: EmbeddedCluster, run: Run, tmp_path: Path
) -> None:
    own.inject_errors("Produce", ("NO_ERROR", 8.0))
    code, out, err = produce(run, tmp_path, "a\n", "t", "--timeout", "4", "--json")
    assert code == 1
    assert json.loads(out)["error"] == "1 message not acknowledged within 4 s"
    assert err.endswith("dp-kafka: 1 message not acknowledged within 4 s\n")


@pytest.mark.early
def test_a_group_that_gives_no_assignment_is_3(own: EmbeddedCluster, run: Run) -> None:
    own.set_group_rebalance_delay(600)
    code, out, err = run("consume", "t", "--group", "g", "--timeout", "3")
    assert (code, out) == (3, "")
    assert "the group gave no assignment within 3 s" in err


# -- topics ---------------------------------------------------------------------------------------------


def test_topics_are_listed_and_described(run: Run, topic: TopicFactory, send: SendFunction) -> None:
    name = topic(2)
    send(name, *"abc", partition=1)
    code, out, _ = run("topics", "list")
    assert code == 0
    assert [name, "2", "1", "0"] in [line.split() for line in out.splitlines()]
    assert {"topic": name, "partitions": 2, "replicas": 1} in json.loads(run("topics", "list", "--json")[1])
    code, out, err = run("topics", "describe", name)
    assert code == 0
    assert out.splitlines()[2].split() == ["1", "0", "3", "3", "1", "1", "1"]
    assert "no settings: _UNSUPPORTED_FEATURE" in err, "this broker has none"
    document = json.loads(run("topics", "describe", name, "--json")[1])
    assert [(each["start"], each["end"]) for each in document["partitions"]] == [(0, 0), (0, 3)]


def test_a_topic_that_cannot_be_made_is_an_error(run: Run) -> None:
    """The embedded broker makes none on request; tests/kafka/test_apache_cli.py makes some."""
    code, out, err = run("topics", "create", "audit", "--partitions", "3", "--set", "retention.ms=1000")
    assert (code, out) == (3, "")
    assert "_UNSUPPORTED_FEATURE" in err
    code, _, err = run("topics", "create", "audit", "--set", "retention.ms")
    assert code == 2
    assert "'retention.ms' is not NAME=VALUE" in err


# -- manifests ------------------------------------------------------------------------------------------

MANIFEST = """
name: dp-import-api
kafka:
  domain: example.org
  topics:
    - name: content-published
      subnets: [web, publishing]
      access: [read, write]
    - name: audit
      subnets: [web]
      access: [write]
      hosts: [10.0.0.1]
"""


def test_a_manifest_means_acls(tmp_path: Path) -> None:
    path = tmp_path / "manifest.yml"
    path.write_text(MANIFEST)
    found = [
        (each.principal, each.operation.name, each.name, each.host)
        for each in read_manifest(path, app=None, domain=None).get_acls()
    ]
    app = "User:CN=dp-import-api"
    assert found == [
        *(
            (f"{app}.{subnet}.example.org", operation, "content-published", "*")
            for subnet in ("web", "publishing")
            for operation in ("READ", "WRITE")
        ),
        (f"{app}.web.example.org", "WRITE", "audit", "10.0.0.1"),
    ]
    other = read_manifest(path, app="other", domain="else.where").get_acls()
    assert other[0].principal == "User:CN=other.web.else.where"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("name: dp-import-api", "", "there is no 'name' of the application"),
        ("  domain: example.org\n", "", "no 'kafka.domain'"),
        ("kafka:", "rabbit:", "'kafka' must be a mapping"),
        ("[read, write]", "[]", r"kafka.topics\[0\].access: operations is empty"),
        ("[web, publishing]", "web", r"kafka.topics\[0\].subnets: subnets must be a list"),
        ("[read, write]", "[reed]", r"kafka.topics\[0\].access: .*'reed'"),
        ("- name: audit", "- nam: audit", r"kafka.topics\[1\] has unknown keys: nam"),
        ("      subnets: [web]\n", "", r"kafka.topics\[1\].subnets: subnets is empty"),
        ("kafka:", "kafka: [", "is not YAML at line"),
        ("  topics:\n", "  topics: []\n  more:\n", "'kafka.topics' must be a list of topics"),
        (
            "    - name: audit",
            "    - audit\n    - name: audit",
            r"kafka.topics\[1\] must have name, subnets and access",
        ),
    ],
)
def test_a_manifest_that_is_wrong_says_where(tmp_path: Path, before: str, after: str, said: str) -> None:
    path = tmp_path / "manifest.yml"
    path.write_text(MANIFEST.replace(before, after))
    with pytest.raises(ConfigError, match=said) as caught:
        read_manifest(path, app=None, domain=None)
    assert str(path) in str(caught.value)


def test_acls_without_an_authorizer_are_an_error(run: Run, tmp_path: Path) -> None:
    """The embedded broker has none; tests/kafka/test_apache_cli.py applies them."""
    path = tmp_path / "manifest.yml"
    path.write_text(MANIFEST)
    code, _, err = run("acls", "apply", str(path))
    assert code == 3
    assert "_UNSUPPORTED_FEATURE" in err
    path.write_text("name: [")
    assert run("acls", "apply", str(path))[0] == 2
    assert run("acls", "apply", str(path), str(path), "--app", "x")[0] == 2


@pytest.mark.parametrize("arguments", [["topics", "list"], ["lag", "group"]])
def test_brokers_that_are_away_are_named(run: Run, arguments: list[str]) -> None:
    with dead_address() as address:
        code, _, err = run(*arguments, "--brokers", address, "--timeout", "1")
    assert code == 3
    assert f"no broker of {address} has answered: check the addresses" in err
