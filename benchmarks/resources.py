"""What clients cost that do no work: memory behind a stalled handler, CPU of an idle client, the import."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer
from confluent_kafka import Producer as PlainProducer

from benchmarks.job import PATIENCE
from benchmarks.pairs import Result
from benchmarks.place import Place
from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Message, Producer, ProducerConfig, State
from dp_kafka.config.rdkafka import consumer_properties, producer_properties

__all__ = ["import_time", "memory_of_stalled", "ours_idle", "plain_idle"]

#: ru_maxrss is in kilobytes on Linux and in bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
#: How long a stalled handler is watched, and an idle client, in seconds.
STALLED_SECONDS = 5.0
IDLE_SECONDS = 4.0
_SETTLE_SECONDS = 1.0


def _peak_bytes() -> int:
    """The most memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which counts what the parent had when it forked: all the messages of the broker.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def memory_of_stalled(place: Place) -> Result:
    """How much this process grows while a handler stalls before a full topic, per `max_buffered_bytes`.

    Only the first run in a process tells something, as the peak stays.
    """
    stall, reached = threading.Event(), threading.Event()

    def handler(_worker_id: int, _message: Message) -> None:
        reached.set()
        stall.wait(PATIENCE)

    config = ConsumerGroupConfig(
        place.broker_addrs,
        place.topic,
        place.new_group(),
        max_buffered_messages=1_000_000,
        max_buffered_bytes=64 * 1024 * 1024,
    )
    with ConsumerGroup(config) as group:
        group.register_handler(handler)
        before = _peak_bytes()
        group.start()
        if not reached.wait(PATIENCE):
            raise TimeoutError("no message came")
        stall.wait(place.seconds(STALLED_SECONDS))
        grown = _peak_bytes() - before
        stall.set()
    return {"growth": grown / config.max_buffered_bytes}


def _cpu_while_idle(place: Place, serve: Callable[[float], Any]) -> float:
    """Percent of one core while `serve(seconds)` passes the time."""
    serve(_SETTLE_SECONDS)
    wall, cpu = time.perf_counter(), time.process_time()
    serve(place.seconds(IDLE_SECONDS))
    return 100 * (time.process_time() - cpu) / (time.perf_counter() - wall)


def idle_consumer(place: Place) -> float:
    """A group with an assignment and nothing to consume."""
    config = ConsumerGroupConfig(place.broker_addrs, place.topic, place.new_group())
    with ConsumerGroup(config) as group:
        group.register_handler(lambda _worker_id, _message: None)
        group.start()
        if not group.state_wait(State.CONSUMING, PATIENCE):
            raise TimeoutError("no assignment came")
        return _cpu_while_idle(place, time.sleep)


def idle_producer(place: Place) -> float:
    """A producer that sends nothing."""
    with Producer(ProducerConfig(place.broker_addrs, place.topic)) as producer:
        producer.initialise()
        return _cpu_while_idle(place, time.sleep)


def idle_plain_consumer(place: Place) -> float:
    """poll(0.1) in a loop."""
    config = ConsumerGroupConfig(place.broker_addrs, place.topic, place.new_group())
    client = Consumer(consumer_properties(config))
    client.subscribe([place.topic])

    def serve(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            client.poll(0.1)

    try:
        return _cpu_while_idle(place, serve)
    finally:
        client.close()


def idle_plain_producer(place: Place) -> float:
    """poll(0.1) in a loop."""
    client = PlainProducer(producer_properties(ProducerConfig(place.broker_addrs, place.topic)))
    client.list_topics(timeout=10)

    def serve(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            client.poll(0.1)

    return _cpu_while_idle(place, serve)


_IDLE: dict[str, Callable[[Place], float]] = {
    one.__name__: one for one in (idle_consumer, idle_producer, idle_plain_consumer, idle_plain_producer)
}


def _idle(place: Place, *names: str) -> list[float]:
    """Each in a process of its own, side by side: they take next to nothing from each other."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.resources", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(place.to_json())
        process.stdin.close()
        process.stdin = None
    percents = [float(json.loads(process.communicate(timeout=PATIENCE)[0])) for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("an idle client failed, see above")
    return percents


def ours_idle(place: Place) -> Result:
    """A consumer group and a producer that have nothing to do."""
    consumer, producer = _idle(place, "idle_consumer", "idle_producer")
    return {"consumer": consumer, "producer": producer}


def plain_idle(place: Place) -> Result:
    """The same of confluent-kafka."""
    consumer, producer = _idle(place, "idle_plain_consumer", "idle_plain_producer")
    return {"consumer": consumer, "producer": producer}


def import_time(module: str) -> Result:
    """Seconds that `import module` takes in a new interpreter."""
    program = f"import time; began = time.perf_counter(); import {module}; print(time.perf_counter() - began)"
    # With the modules compiled, as an installation has them; the run that is thrown away compiles ours.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    return {"seconds": float(done.stdout)}


if __name__ == "__main__":
    print(json.dumps(_IDLE[sys.argv[1]](Place.from_json(sys.stdin.read()))))
