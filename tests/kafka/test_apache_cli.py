"""The commands of `dp-kafka` on Apache Kafka: topics, ACLs, live groups, TLS from the environment."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, State
from tests.commandline import Run, caller
from tests.faults.service import until

from .apache import ApacheKafka, ExternalKafka
from .conftest import TopicFactory, known_everywhere


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: its exit code, stdout and stderr."""
    return caller(capsys)


@pytest.fixture
def plain(apache_kafka: ApacheKafka | ExternalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_ADDR", ",".join(apache_kafka.broker_addrs))


@pytest.fixture
def secured(secured_kafka: ApacheKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a service that may do anything, with files as it has them."""
    certificates = secured_kafka.certificates
    for name, value in {
        "KAFKA_ADDR": secured_kafka.mutual_tls_addrs[0],
        "KAFKA_SEC_PROTO": "TLS",
        "KAFKA_SEC_CA_CERTS": str(certificates.authority.file),
        "KAFKA_SEC_CLIENT_CERT": str(certificates.admin.certificate_file),
        "KAFKA_SEC_CLIENT_KEY": str(certificates.admin.key_file),
    }.items():
        monkeypatch.setenv(name, value)


def test_a_topic_is_created_described_and_not_created_twice(
    plain: None, run: Run, apache_kafka: ApacheKafka | ExternalKafka
) -> None:
    name = f"cli-{uuid.uuid4().hex[:8]}"
    create = ("topics", "create", name, "--partitions", "3", "--set", "retention.ms=3600000")
    code, out, _ = run(*create, "--dry-run")
    assert (code, out) == (0, f"topic {name} would be created with 3 partitions\n")
    assert run("topics", "describe", name)[0] == 1, "a dry run creates nothing"
    code, out, _ = run(*create)
    assert (code, out) == (0, f"topic {name} created with 3 partitions\n")
    assert until(lambda: known_everywhere(apache_kafka.broker_addrs, name))
    code, out, _ = run(*create)
    assert (code, out) == (0, f"topic {name} is there already, with 3 partitions\n")
    code, out, _ = run("topics", "create", name, "--partitions", "4", "--json")
    assert code == 1
    assert json.loads(out) == {"topic": name, "created": False, "partitions": 3}
    code, out, err = run("topics", "describe", name)
    assert (code, err) == (0, "")
    assert "retention.ms = 3600000" in out.splitlines()
    assert json.loads(run("topics", "describe", name, "--json")[1])["settings"]["retention.ms"] == "3600000"
    assert run("topics", "create", f"{name}-2", "--replicas", "99")[0] == 3


def test_lag_shows_the_members_of_a_group_and_drain_refuses_them(
    plain: None, run: Run, apache_kafka: ApacheKafka | ExternalKafka, kafka_topic: TopicFactory
) -> None:
    name = kafka_topic(2)
    config = ConsumerGroupConfig(list(apache_kafka.broker_addrs), name, f"g-{name}")
    with ConsumerGroup(config) as group:
        group.register_handler(lambda worker_id, message: None)
        group.start()
        assert group.state_wait(State.CONSUMING, 60)
        document = json.loads(run("lag", f"g-{name}", name, "--json")[1])
        assert (document["state"], document["members"], document["lag"]) == ("stable", 1, 0)
        code, _, err = run("drain", "--group", f"g-{name}", name)
        assert code == 1
        assert "has 1 live member: dp-kafka at" in err.replace("\n", "")
    assert run("drain", "--group", f"g-{name}", name)[0] == 0


def test_manifests_are_compared_applied_and_applied_again(
    secured: None, secured_kafka: ApacheKafka, run: Run, tmp_path: Path
) -> None:
    name = f"cli-{uuid.uuid4().hex[:8]}"
    secured_kafka.create_topic(name)
    path = tmp_path / "importer.yml"
    path.write_text(
        f"name: importer\nkafka:\n  topics:\n"
        f"    - name: {name}\n      subnets: [web, publishing]\n      access: [read]\n"
    )
    command = ("acls", "apply", str(path), "--domain", "example.org")
    bindings = [f"User:CN=importer.{subnet}.example.org  read  {name}" for subnet in ("web", "publishing")]
    code, out, _ = run(*command, "--dry-run")
    assert code == 1, "there is something to do"
    assert out.splitlines() == [
        *(f"+ {each}" for each in bindings),
        "2 to create, 0 there already, 0 in no manifest",
    ]
    assert run(*command, "--dry-run")[0] == 1, "a dry run changes nothing"

    code, out, _ = run(*command)
    assert code == 0
    assert out.splitlines() == [*(f"+ {each}" for each in bindings), "2 created, 0 there already, 0 failed"]
    code, out, _ = run(*command, "--json")
    assert code == 0
    assert [(each["created"], each["error"]) for each in json.loads(out)] == [(False, None)] * 2
    code, out, _ = run(*command, "--dry-run", "--json")
    assert code == 0
    document = json.loads(out)
    assert (document["missing"], document["extra"]) == ([], [])
    assert [each["principal"] for each in document["present"]] == [each.split()[0] for each in bindings]

    path.write_text(path.read_text().replace("[web, publishing]", "[web]").replace("[read]", "[write]"))
    code, out, _ = run(*command, "--dry-run")
    assert code == 1
    assert out.splitlines()[0] == f"+ User:CN=importer.web.example.org  write  {name}"
    assert out.splitlines()[1] == f"! {bindings[0]}  (in no manifest)"


def test_tls_comes_from_the_environment(
    secured: None, secured_kafka: ApacheKafka, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = f"cli-{uuid.uuid4().hex[:8]}"
    secured_kafka.create_topic(name)
    source = tmp_path / "lines"
    source.write_text("a\nb\n")
    assert run("produce", name, "--file", str(source))[0] == 0
    code, out, _ = run("consume", name)
    assert code == 0
    assert [json.loads(line)["value"] for line in out.splitlines()] == ["a", "b"]
    assert run("health", name)[0] == 0
    assert run("drain", "--group", f"g-{name}", name)[0] == 0
    assert json.loads(run("lag", f"g-{name}", "--json")[1])["lag"] == 0
    monkeypatch.setenv("KAFKA_SEC_CA_CERTS", str(secured_kafka.certificates.other_authority.file))
    code, _, err = run("topics", "list", "--timeout", "3")
    assert code == 3
    assert "_SSL" in err
    assert run("health", name)[0] == 1
