"""One run: traffic, faults while it goes, a clean restart of all consumers, and the end of everything."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from pathlib import Path

from tests.chaos.children import Children
from tests.chaos.faults import BrokerFaults, MemberFaults
from tests.chaos.journal import Journal
from tests.chaos.sampler import Sampler
from tests.chaos.settings import Settings
from tests.kafka.apache import ApacheKafka

__all__ = ["BROKER_PROPERTIES", "play"]

#: Two of three replicas hold whatever is acknowledged, also of the offsets.
BROKER_PROPERTIES = {
    "min.insync.replicas": 2,
    "group.consumer.session.timeout.ms": 10_000,
    "group.consumer.heartbeat.interval.ms": 1_000,
    # A paused or killed broker loses its leaderships after this long: not while the machine is just busy.
    "broker.session.timeout.ms": 6_000,
}
#: How long traffic goes on without faults, before and after the clean restart.
_QUIET = 5.0


def play(kafka: ApacheKafka, settings: Settings, directory: Path) -> None:
    """Make one run, which leaves its journals in the directory.

    Raises ApacheKafkaError when the brokers do not do as they are told; then there is nothing to judge.
    """
    journal = Journal(directory / "conductor.jsonl")
    journal.write("run", **asdict(settings))
    kafka.create_topic(settings.topic, settings.partitions, config={"min.insync.replicas": "2"}, timeout=60.0)
    children = Children(directory, settings, journal)
    sampler = Sampler(settings, journal)
    broken = threading.Event()
    brokers = BrokerFaults(kafka, settings, journal, broken)
    members = MemberFaults(children, settings, journal, broken)
    try:
        for _ in range(settings.consumers):
            children.add_member()
        for number in range(1, settings.producers + 1):
            children.add_producer(number)
        sampler.start()
        brokers.start()
        members.start()
        broken.wait(settings.duration)
        members.end()
        brokers.end()
        _restart_cleanly(children, settings, journal)
        _finish(children, sampler, settings, journal)
    finally:
        children.put_down()


def _restart_cleanly(children: Children, settings: Settings, journal: Journal) -> None:
    """End all consumers at once, then start new ones, as messages come: these must handle nothing again."""
    time.sleep(_QUIET)  # traffic without faults
    journal.write("fault", kind="end all members")
    leaving = children.members()
    for child in leaving:
        child.ask()
    children.wait(leaving)
    for _ in range(settings.consumers):
        children.add_member()
    time.sleep(_QUIET)  # traffic without faults


def _finish(children: Children, sampler: Sampler, settings: Settings, journal: Journal) -> None:
    """End the producers, wait until all is handled, end the consumers, and write what is committed."""
    producers = children.producers()
    for child in producers:
        child.ask()
    children.wait(producers)
    journal.write("drained" if sampler.wait_drained(settings.drain_limit) else "not drained")
    members = children.members()
    for child in members:
        child.ask()
    children.wait(children.all)
    sampler.end()
