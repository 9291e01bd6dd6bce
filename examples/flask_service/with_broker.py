"""Runs a command with a Kafka broker of its own, so that the service can be tried without any other.

    python with_broker.py gunicorn app:app

The broker runs in this process, at the address that the command finds in KAFKA_ADDR, and ends with it.
Ctrl-C and SIGTERM go to the command, and this waits for its end. The exit code is the command's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

from dp_kafka import KafkaSettings
from dp_kafka.kafkatest import EmbeddedCluster

PARTITIONS = 4


def main() -> int:
    """Run the command that the arguments are."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 2
    settings = KafkaSettings.from_env()
    with EmbeddedCluster() as cluster:
        for topic in {settings.produced_topic, settings.consumed_topic}:
            cluster.create_topic(topic, partitions=PARTITIONS)
        print(f"Kafka runs in process {os.getpid()}: KAFKA_ADDR={cluster.bootstrap_servers}", file=sys.stderr)
        # With the older protocol this broker takes seconds for what Kafka does at once.
        ours = {"KAFKA_ADDR": cluster.bootstrap_servers, "KAFKA_SEC_PROTO": "", "GROUP_PROTOCOL": "consumer"}
        command = subprocess.Popen(sys.argv[1:], env={**os.environ, **ours})

        def pass_on(number: int, _frame: FrameType | None) -> None:
            command.send_signal(number)

        # A terminal's Ctrl-C reaches the command by itself: here it only must not end the broker first.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, pass_on)
        return command.wait()


if __name__ == "__main__":
    sys.exit(main())
