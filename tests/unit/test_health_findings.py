"""The verdict on the findings about brokers; pure."""

from __future__ import annotations

import pytest

from dp_kafka.health import Status
from dp_kafka.health.findings import Finding, verdict


def well(address: str) -> Finding:
    return Finding(address, True, True)


def away(address: str, cause: str = "") -> Finding:
    return Finding(address, False, False, cause)


def topicless(address: str, cause: str = "") -> Finding:
    return Finding(address, True, False, cause)


def test_15_5_all_healthy_is_ok_with_the_text_of_the_client() -> None:
    """contract 15.5"""
    assert verdict([well("a:1"), well("b:2")], "t", 2, "all is fine") == (Status.OK, "all is fine")


@pytest.mark.parametrize(("enough", "status"), [(1, Status.OK), (2, Status.OK), (3, Status.CRITICAL)])
def test_15_6_15_7_enough_healthy_brokers_are_ok_and_fewer_are_critical(enough: int, status: Status) -> None:
    """contract 15.6, 15.7: with the detail text either way"""
    findings = [well("a:1"), away("b:2"), well("c:3")]
    assert verdict(findings, "t", enough, "fine") == (status, "broker(s) not reachable at: [b:2]")


def test_15_8_unreachable_brokers_come_first_and_an_address_is_named_once() -> None:
    """contract 15.8"""
    findings = [topicless("a:1"), away("b:2"), topicless("c:3"), away("d:4")]
    assert verdict(findings, "events", 1, "fine") == (
        Status.CRITICAL,
        "broker(s) not reachable at: [b:2 d:4], topic events not available in broker(s): [a:1 c:3]",
    )


def test_15_8_a_missing_topic_alone() -> None:
    """contract 15.8"""
    assert verdict([topicless("a:1"), well("b:2")], "events", 1, "fine") == (
        Status.OK,
        "topic events not available in broker(s): [a:1]",
    )


def test_15_9_no_brokers_are_critical() -> None:
    """contract 15.9"""
    assert verdict([], "t", 1, "fine") == (Status.CRITICAL, "no brokers defined")


def test_a_cause_that_somebody_has_to_put_right_is_named_once_after_the_text() -> None:
    refused = "TOPIC_AUTHORIZATION_FAILED: Broker: Topic authorization failed"
    findings = [
        away("a:1", "a:1: certificate has expired"),
        topicless("b:2", refused),
        topicless("c:3", refused),
    ]
    assert verdict(findings, "t", 1, "fine")[1] == (
        "broker(s) not reachable at: [a:1], topic t not available in broker(s): [b:2 c:3] "
        f"(a:1: certificate has expired; {refused})"
    )
