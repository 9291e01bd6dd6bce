"""What was found out about each broker address, and what that says of a client. Pure: no thread, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dp_kafka.health.status import Status

__all__ = ["Finding", "verdict"]


class Finding(NamedTuple):
    """One configured address: whether a broker answered there, and whether it has the topic.

    `cause` is for what somebody has to put right: a certificate, a password, an ACL of the topic. It is
    shown in the message; the rest (refused, timed out) the message says by itself.
    """

    address: str
    reachable: bool
    has_topic: bool
    cause: str = ""


def verdict(
    findings: Sequence[Finding], topic: str, min_brokers_healthy: int, healthy: str
) -> tuple[Status, str]:
    """Status and message for the findings, in the order of the configured addresses.

    A broker is healthy when it is reachable and has the topic. All healthy: OK with the text `healthy`. At
    least `min_brokers_healthy`: OK, and the message says what is wrong with the others. Fewer: CRITICAL.
    """
    if not findings:
        return Status.CRITICAL, "no brokers defined"
    unreachable = [finding.address for finding in findings if not finding.reachable]
    without_topic = [finding.address for finding in findings if finding.reachable and not finding.has_topic]
    if not unreachable and not without_topic:
        return Status.OK, healthy
    well = len(findings) - len(unreachable) - len(without_topic)
    parts = []
    if unreachable:
        parts.append(f"broker(s) not reachable at: [{' '.join(unreachable)}]")
    if without_topic:
        parts.append(f"topic {topic} not available in broker(s): [{' '.join(without_topic)}]")
    message = ", ".join(parts)
    # Each cause once: when the topic is refused, all reachable brokers have the same.
    causes = dict.fromkeys(finding.cause for finding in findings if finding.cause)
    if causes:
        message += f" ({'; '.join(causes)})"
    return Status.OK if well >= min_brokers_healthy else Status.CRITICAL, message
