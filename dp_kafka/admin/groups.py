"""Who is in a consumer group: its state and its live members, as the coordinator knows them."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka.admin import AdminClient

from dp_kafka.admin.client import ask_coordinator
from dp_kafka.admin.requests import TIMEOUT

__all__ = ["GroupInfo", "GroupMember", "describe_group"]


@dataclass(frozen=True)
class GroupMember:
    """A live member of a consumer group.

    `client_id` and `host` are what the broker knows of its client; `partitions` is its assignment, as pairs
    of topic and partition.
    """

    client_id: str
    host: str
    partitions: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class GroupInfo:
    """A consumer group: its `name`, its `state`, and its live `members`.

    The state is Kafka's name in lower case: 'stable', 'empty', or 'dead' for a group that nobody knows.
    """

    name: str
    state: str
    members: tuple[GroupMember, ...]


def describe_group(admin: AdminClient, group: str, *, timeout: float = TIMEOUT) -> GroupInfo:
    """The state and the members of a group; one that nobody knows is 'dead', without members. Blocks.

    Raises:
        KafkaClientError: the cluster cannot be asked, or refuses to tell. The embedded cluster can't tell:
            its `name` is "_UNSUPPORTED_FEATURE" then.
    """

    def send(client: AdminClient, seconds: float) -> Future[Any]:
        futures: dict[str, Future[Any]] = client.describe_consumer_groups([group], request_timeout=seconds)
        return futures[group]

    found: Any = ask_coordinator(admin, send, time.monotonic() + timeout)
    return GroupInfo(
        group,
        found.state.name.lower(),
        tuple(
            GroupMember(
                str(member.client_id),
                str(member.host).lstrip("/"),
                tuple((each.topic, each.partition) for each in member.assignment.topic_partitions),
            )
            for member in found.members
        ),
    )
