"""ACLs, and topics on request, by the real client on a broker of a few lines; Apache Kafka: tests/kafka."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AclOperation,
    AdminClient,
)

from dp_kafka import AdminConfig, ConfigError, KafkaClientError
from dp_kafka.admin import (
    Admin,
    TopicAuth,
    TopicAuthList,
    apply,
    compare,
    create_topic,
    new_admin,
    topic_info,
    topic_settings,
)
from dp_kafka.errors import AclError
from tests.admin_stub import CLUSTER_AUTHORIZATION_FAILED, AdminStub
from tests.commandline import Run, caller
from tests.waiting import Logged, fields

DOMAIN = "example.org"
READ = TopicAuth("app", ["web"], "audit", ["read"], ["*"])
WRITE = dataclasses.replace(READ, operations=["write"])
BOTH = TopicAuthList(DOMAIN, [dataclasses.replace(READ, operations=["read", "write"])])
CREATE_ACLS, NOT_CONTROLLER = 30, 41


@pytest.fixture
def stub() -> Iterator[AdminStub]:
    with AdminStub() as stub:
        yield stub


@pytest.fixture
def admin(stub: AdminStub) -> Admin:
    return new_admin([stub.address], AdminConfig(retry_max=2, retry_backoff=0.01))


def test_each_acl_has_a_result_and_applying_again_changes_nothing(
    stub: AdminStub, admin: Admin, logged: Logged
) -> None:
    """Contract 18.5."""
    TopicAuthList(DOMAIN, [READ]).apply(admin)
    results = BOTH.apply(admin)
    assert [(each.binding.operation, each.ok, each.created) for each in results] == [
        (AclOperation.READ, True, False),
        (AclOperation.WRITE, True, True),
    ]
    assert [each.binding for each in results] == BOTH.get_acls()
    assert [(each.principal, each.operation) for each in stub.acls] == [
        ("User:CN=app.web.example.org", AclOperation.READ.value),
        ("User:CN=app.web.example.org", AclOperation.WRITE.value),
    ]
    created = fields(logged.wait("ACL is there already"))
    assert (created["topic"], created["operation"], created["host"]) == ("audit", "read", "*")
    asked = stub.requests.count(CREATE_ACLS)
    assert [each.created for each in apply(BOTH, admin)] == [False, False]
    assert stub.requests.count(CREATE_ACLS) == asked, "nothing is sent where nothing is missing"


def test_what_is_missing_and_what_is_not_wanted_is_told_and_left(stub: AdminStub, admin: Admin) -> None:
    """Of the same principals on the same topics; those of others are not our business."""
    other = dataclasses.replace(READ, app="other")
    TopicAuthList(DOMAIN, [READ, other]).apply(admin)
    before = list(stub.acls)
    found = compare(TopicAuthList(DOMAIN, [WRITE]), admin)
    assert (found.missing, found.present) == (WRITE.get_acls(DOMAIN), [])
    assert found.extra == READ.get_acls(DOMAIN)
    assert stub.acls == before


def test_a72_an_acl_that_is_refused_has_its_error_and_the_others_are_created(
    stub: AdminStub, admin: Admin, logged: Logged
) -> None:
    """A72: nobody knew what was created. A controller's message shows its whole request, with addresses."""
    message = "Request(processor=1, connectionId=10.0.0.1:9093, principal=User:CN=secret) is not authorized."
    stub.refusals[AclOperation.READ.value] = [(CLUSTER_AUTHORIZATION_FAILED, message)]
    with pytest.raises(AclError, match="cluster-admin ACLs: 1 of 2 were not created") as caught:
        BOTH.apply(admin)
    refused, created = caught.value.results
    assert (created.ok, created.created) == (True, True)
    assert not refused.ok
    assert refused.error is not None
    assert refused.error.name == "CLUSTER_AUTHORIZATION_FAILED"
    assert refused.error.permanent
    assert "User:CN=secret" not in str(caught.value)
    assert "CLUSTER_AUTHORIZATION_FAILED" in fields(logged.wait("ACL not created"))["error"]
    assert [each.operation for each in stub.acls] == [AclOperation.WRITE.value]


def test_a_controller_that_moves_is_asked_again_for_what_it_did_not_create(
    stub: AdminStub, admin: Admin
) -> None:
    stub.refusals[AclOperation.WRITE.value] = [(NOT_CONTROLLER, None)]
    assert all(each.created for each in BOTH.apply(admin))
    assert len(stub.acls) == 2
    assert stub.requests.count(CREATE_ACLS) == 2


def test_a_controller_that_does_not_come_back_is_asked_no_more_than_retry_max_times(
    stub: AdminStub, admin: Admin
) -> None:
    stub.refusals[AclOperation.WRITE.value] = [(NOT_CONTROLLER, None)] * 10
    with pytest.raises(AclError, match="NOT_CONTROLLER"):
        BOTH.apply(admin)
    assert stub.requests.count(CREATE_ACLS) == 3, "once, and retry_max more"
    assert [each.operation for each in stub.acls] == [AclOperation.READ.value]


def test_who_may_not_see_acls_is_told_so_and_creates_none(stub: AdminStub, admin: Admin) -> None:
    """librdkafka gives an empty list where the broker refuses to tell."""
    stub.may_describe = False
    for request in (lambda: compare(BOTH, admin), lambda: BOTH.apply(admin)):
        with pytest.raises(
            KafkaClientError, match=r"CLUSTER_AUTHORIZATION_FAILED.*Describe on the cluster"
        ) as caught:
            request()
        assert caught.value.permanent
    assert stub.requests.count(CREATE_ACLS) == 0


def test_an_admin_client_of_the_package_will_do(stub: AdminStub) -> None:
    plain = AdminClient({"bootstrap.servers": stub.address})
    assert [each.created for each in BOTH.get_acls().apply(plain)] == [True, True]


def test_a_list_with_brokers_needs_no_admin(stub: AdminStub) -> None:
    wanted = TopicAuthList(DOMAIN, [READ], brokers=[stub.address])
    assert [each.created for each in wanted.apply(config=AdminConfig(retry_max=0))] == [True]
    with pytest.raises(ConfigError, match="needs an admin client, or brokers"):
        TopicAuthList(DOMAIN, [READ]).apply()


def test_nothing_to_apply_is_a_mistake(admin: Admin) -> None:
    for request in (apply, compare):
        with pytest.raises(ConfigError, match="the list is empty"):
            request([], admin)


def test_a_list_takes_accesses_and_names_each_once() -> None:
    with pytest.raises(ConfigError, match="acls must hold TopicAuth, found str"):
        TopicAuthList(DOMAIN, ["app"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="subnets names 'web' twice"):
        dataclasses.replace(READ, subnets=["web", "publishing", "web"])


# -- topics ----------------------------------------------------------------------------------------------


def test_a_topic_is_created_once_with_its_settings(stub: AdminStub, admin: Admin) -> None:
    settings = {"retention.ms": "3600000"}
    assert create_topic(admin, "audit", partitions=3, settings=settings, validate_only=True)
    assert stub.topics == {}
    assert create_topic(admin, "audit", partitions=3, settings=settings)
    assert not create_topic(admin, "audit", partitions=5)
    assert len(topic_info(admin, "audit").partitions) == 3
    found = {each.name: (each.value, each.default) for each in topic_settings(admin, "audit")}
    assert found == {"retention.ms": ("3600000", False), "cleanup.policy": ("delete", True)}


# -- the commands ----------------------------------------------------------------------------------------


@pytest.fixture
def run(stub: AdminStub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: its exit code, stdout and stderr."""
    monkeypatch.setenv("KAFKA_ADDR", stub.address)
    return caller(capsys)


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "importer.yml"
    path.write_text(
        "name: importer\nkafka:\n  domain: example.org\n  topics:\n"
        "    - name: audit\n      subnets: [web]\n      access: [read, write]\n      hosts: [10.0.0.1]\n"
    )
    return str(path)


def test_manifests_are_compared_applied_and_applied_again(
    stub: AdminStub, admin: Admin, run: Run, manifest: str
) -> None:
    rows = [f"User:CN=importer.web.example.org  {each}  audit  from 10.0.0.1" for each in ("read", "write")]
    TopicAuthList(DOMAIN, [TopicAuth("importer", ["web"], "audit", ["describe"], ["*"])]).apply(admin)
    extra = "! User:CN=importer.web.example.org  describe  audit  (in no manifest)"
    code, out, _ = run("acls", "apply", manifest, "--dry-run")
    assert code == 1, "some are missing"
    assert out.splitlines() == [
        *(f"+ {each}" for each in rows),
        extra,
        "2 to create, 0 there already, 1 in no manifest",
    ]
    assert len(stub.acls) == 1

    code, out, _ = run("acls", "apply", manifest)
    assert code == 0
    assert out.splitlines() == [*(f"+ {each}" for each in rows), "2 created, 0 there already, 0 failed"]
    code, out, _ = run("acls", "apply", manifest)
    assert code == 0
    assert out.splitlines() == [*(f"= {each}" for each in rows), "0 created, 2 there already, 0 failed"]
    code, out, _ = run("acls", "apply", manifest, "--dry-run")
    assert code == 0
    assert out.splitlines()[-2:] == [extra, "0 to create, 2 there already, 1 in no manifest"]


def test_manifests_as_json(run: Run, manifest: str) -> None:
    binding = {"topic": "audit", "principal": "User:CN=importer.web.example.org", "host": "10.0.0.1"}
    bindings = [{**binding, "operation": each} for each in ("read", "write")]
    code, out, _ = run("acls", "apply", manifest, "--dry-run", "--json")
    assert (code, json.loads(out)) == (1, {"missing": bindings, "present": [], "extra": []})
    code, out, _ = run("acls", "apply", manifest, "--json")
    assert (code, json.loads(out)) == (0, [{**each, "created": True, "error": None} for each in bindings])


def test_an_acl_that_is_refused_is_marked_and_the_exit_code_is_1(
    stub: AdminStub, run: Run, manifest: str
) -> None:
    stub.refusals[AclOperation.READ.value] = [(CLUSTER_AUTHORIZATION_FAILED, None)]
    code, out, _ = run("acls", "apply", manifest)
    assert code == 1
    refused, created, counts = out.splitlines()
    assert refused.startswith("✗ User:CN=importer.web.example.org  read  audit  from 10.0.0.1  (CLUSTER_AUTH")
    assert created == "+ User:CN=importer.web.example.org  write  audit  from 10.0.0.1"
    assert counts == "1 created, 0 there already, 1 failed"


def test_a_topic_is_created_once_and_told(stub: AdminStub, run: Run) -> None:
    create = ("topics", "create", "audit", "--partitions", "3", "--set", "retention.ms=1000")
    assert run(*create, "--dry-run")[:2] == (0, "topic audit would be created with 3 partitions\n")
    assert stub.topics == {}
    assert run(*create)[:2] == (0, "topic audit created with 3 partitions\n")
    assert stub.topics == {"audit": (3, {"retention.ms": "1000"})}
    code, out, _ = run("topics", "describe", "audit")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[1:4]] == [["0", "0"], ["1", "0"], ["2", "0"]]
    assert out.splitlines()[4:] == ["retention.ms = 1000"], "its own settings, not those of the broker"
    settings = json.loads(run("topics", "describe", "audit", "--json")[1])["settings"]
    assert settings == {"retention.ms": "1000"}
    assert run(*create)[:2] == (0, "topic audit is there already, with 3 partitions\n")
    code, out, _ = run("topics", "create", "audit", "--partitions", "5", "--json")
    assert code == 1, "it has other partitions"
    assert json.loads(out) == {"topic": "audit", "created": False, "partitions": 3}
