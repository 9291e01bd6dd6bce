"""What a forked child finds of its parent's clients: they refuse to be used and do not hang it.

Each scenario is a program of its own: it forks, the child does something and ends, the parent goes on.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from dp_kafka import ForkedError, forks
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import TopicFactory
from tests.sending import on_broker, received
from tests.waiting import PATIENCE

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork"),
    # A program and up to fifteen children of it, on a busy machine.
    pytest.mark.timeout(120),
]

PROGRAM = """
import gc, os, signal, sys, threading, time
from dp_kafka import *

addrs, topic = [sys.argv[1]], sys.argv[2]

def ready(client):
    # On a busy machine the first answer of a broker may take longer than the constructor waits.
    assert client.channels.initialised.wait(15)
    return client

def raised(call, *args, **kwargs):
    began = time.monotonic()
    try:
        call(*args, **kwargs)
    except BaseException as error:
        name = type(error).__name__
    else:
        name = "nothing"
    assert time.monotonic() - began < 8, f"{call} took {time.monotonic() - began} seconds"
    return name

def forked(child):
    pid = os.fork()
    if pid == 0:
        # Of a child that hangs the alarm is the end, and the parent sees it.
        signal.alarm(40)
        child()
        sys.exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print("child ended with", status)
"""


def run(script: str, cluster: EmbeddedCluster, topic: str) -> list[str]:
    """What the program printed; fails unless it and its child ended well."""
    program = PROGRAM + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", program, cluster.broker_addrs[0], topic],
        timeout=6 * PATIENCE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "child ended with 0" in lines, done.stdout + done.stderr
    return lines


def test_every_use_of_a_parents_producer_raises_and_close_returns_at_once(
    cluster: EmbeddedCluster, topic: TopicFactory
) -> None:
    name = topic()
    lines = run(
        """
        producer = ready(Producer(ProducerConfig(addrs, topic)))
        send, put = producer.send_bytes, producer.channels.output.put
        producer.log_errors()
        producer.send_bytes(b"before")
        put(BytesMessage(b"before"))

        def child():
            print("send", raised(producer.send_bytes, b"v"), raised(producer.send_json, {}))
            print("bound before", raised(send, b"v"), raised(send, b"v", timeout=30))
            print("put", raised(put, BytesMessage(b"v")))
            print("rest", raised(producer.flush), raised(producer.initialise), raised(producer.checker, None))
            print("header", raised(producer.add_header, "a", "b"))
            print("looks", producer.topic == topic, producer.is_initialised, "parent" in repr(producer))
            print("channels", list(producer.channels.errors), producer.channels.closed.wait(2))
            producer.channels.closer.set()
            print("close", producer.close(), producer.close(timeout=1))
            with producer:
                pass
            try:
                producer.send_bytes(b"v")
            except ForkedError as error:
                print(error)

        forked(child)
        producer.send_bytes(b"after")
        print("parent", producer.close())
        """,
        cluster,
        name,
    )
    assert lines[:8] == [
        "send ForkedError ForkedError",
        "bound before ForkedError ForkedError",
        "put ForkedError",
        "rest ForkedError ForkedError ForkedError",
        "header ForkedError",
        "looks True False True",
        "channels [] True",
        "close 0 0",
    ]
    assert "before os.fork()" in lines[8]
    assert "post_fork" in lines[8]
    assert "without --preload" in lines[8]
    assert lines[-1] == "parent 0"
    assert on_broker(cluster, name) == 3


def test_every_use_of_a_parents_consumer_group_raises_and_close_returns_at_once(
    cluster: EmbeddedCluster, topic: TopicFactory
) -> None:
    lines = run(
        """
        group = ready(ConsumerGroup(ConsumerGroupConfig(addrs, topic, "forked-" + topic)))
        held, all_handled = [], threading.Event()

        def handler(worker_id, message):
            held.append(message)
            if len(held) == 2:
                all_handled.set()

        group.register_handler(handler)
        start = group.start
        group.start()
        producer = ready(Producer(ProducerConfig(addrs, topic)))
        producer.send_bytes(b"1")
        producer.flush()
        assert group.state_wait(State.CONSUMING, 15)
        while not held:
            all_handled.wait(0.01)

        def child():
            print("life", raised(group.start), raised(group.stop), raised(group.stop_and_wait))
            print("bound before", raised(start))
            print("handlers", raised(group.register_handler, id), raised(group.register_batch_handler, id))
            print("waits", raised(group.state_wait, State.STOPPED), raised(group.channels.state.wait, 1))
            print("rest", raised(group.initialise), raised(group.log_errors), raised(group.checker, None))
            print("consume", raised(group.channels.consume.put, True))
            print("looks", group.topic == topic, group.is_initialised, topic in repr(group))
            print("upstream", list(group.channels.upstream), raised(group.channels.upstream.get))
            print("message", held[0].data, held[0].commit(), held[0].mark(), held[0].release())
            group.channels.closer.set()
            print("close", group.close(), group.close(lambda: print("a hook ran"), timeout=1))

        forked(child)
        producer.send_bytes(b"2")
        print("parent", all_handled.wait(15), producer.close(), group.close())
        """,
        cluster,
        topic(),
    )
    assert lines == [
        "life ForkedError ForkedError ForkedError",
        "bound before ForkedError",
        "handlers ForkedError ForkedError",
        "waits ForkedError ForkedError",
        "rest ForkedError ForkedError ForkedError",
        "consume ForkedError",
        "looks True False True",
        "upstream [] ChannelClosed",
        "message b'1' False False None",
        "close 0 0",
        "child ended with 0",
        "parent True 0 0",
    ]


def test_the_child_ends_although_the_parents_clients_are_dropped_there(
    cluster: EmbeddedCluster, topic: TopicFactory
) -> None:
    """To destroy a client that is in use may wait for librdkafka's threads, which are not in the child."""
    name = topic()
    lines = run(
        """
        producer = ready(Producer(ProducerConfig(addrs, topic)))
        group = ready(ConsumerGroup(ConsumerGroupConfig(addrs, topic, "dropped-" + topic)))
        group.start()
        assert group.state_wait(State.CONSUMING, 15)

        def child():
            global producer, group
            producer.close()
            del producer, group
            gc.collect()

        forked(child)
        print("parent", producer.close(), group.close())
        """,
        cluster,
        name,
    )
    assert lines[-1] == "parent 0 0"


@pytest.mark.parametrize("kind", ["Producer", "ConsumerGroup"])
def test_a_wait_on_top_of_which_a_signal_handler_forked_ends_in_the_child(
    cluster: EmbeddedCluster, topic: TopicFactory, kind: str
) -> None:
    lines = run(
        f"""
        kind = {kind!r}
        group = (topic,) if kind == "ConsumerGroup" else ()
        client = ready(globals()[kind](globals()[kind + "Config"](addrs, topic, *group)))
        closed = client.channels.closed
        """
        """
        children = []

        def handler(*_):
            children.append(os.fork())
            if children[0]:
                client.close()
            else:
                signal.alarm(40)

        def at_the_gate(frame, what, _):
            # The event was looked at, and what is left is to wait at the gate.
            if what == "line" and closed._gates and not children:
                signal.raise_signal(signal.SIGUSR1)
            return at_the_gate

        signal.signal(signal.SIGUSR1, handler)
        sys.settrace(lambda frame, *_: at_the_gate if frame.f_code is type(closed).wait.__code__ else None)
        waited = closed.wait(20)
        sys.settrace(None)
        if children[0]:
            print("child ended with", os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
            print("parent", waited)
        else:
            os._exit(0 if waited else 1)
        """,
        cluster,
        topic(),
    )
    assert lines == ["child ended with 0", "parent True"]


def test_clients_made_in_the_child_work_there(cluster: EmbeddedCluster, topic: TopicFactory) -> None:
    name = topic()
    run(
        """
        producer = ready(Producer(ProducerConfig(addrs, topic)))
        producer.send_bytes(b"parent")
        producer.flush()

        def child():
            got = threading.Event()
            with (
                ConsumerGroup(ConsumerGroupConfig(addrs, topic, "child-" + topic)) as group,
                Producer(ProducerConfig(addrs, topic)) as own,
            ):
                ready(group), ready(own)
                group.register_handler(lambda _, message: got.set() if message.data == b"child" else None)
                group.start()
                own.send_bytes(b"child")
                assert got.wait(15)

        forked(child)
        print(producer.close())
        """,
        cluster,
        name,
    )
    assert {message.value() for message in received(cluster, name, 2)} == {b"parent", b"child"}


def test_forks_while_other_threads_are_in_the_middle_of_everything(
    cluster: EmbeddedCluster, topic: TopicFactory
) -> None:
    """Whatever lock another thread held at that moment is held for ever in the child."""
    run(
        """
        producer = ready(Producer(ProducerConfig(addrs, topic)))
        stop = threading.Event()

        def send():
            while not stop.is_set():
                producer.send_bytes(b"v")

        def put():
            while not stop.is_set():
                producer.channels.output.put(BytesMessage(b"v"))

        def fail():
            while not stop.is_set():
                producer.channels.errors.put(RuntimeError())
                producer.flush(0)

        threads = [threading.Thread(target=work) for work in (send, put, fail)]
        for thread in threads:
            thread.start()

        def child():
            assert raised(producer.send_bytes, b"v") == "ForkedError"
            assert raised(producer.channels.output.put, BytesMessage(b"v")) == "ForkedError"
            assert raised(producer.flush) == "ForkedError"
            list(producer.channels.errors)
            producer.close()

        for _ in range(15):
            forked(child)
        stop.set()
        for thread in threads:
            thread.join()
        assert producer.close() == 0
        """,
        cluster,
        topic(),
    )


def test_a_producer_that_never_was_initialised_is_refused_in_the_child(
    own_cluster: EmbeddedCluster,
) -> None:
    own_cluster.broker_down(1)
    lines = run(
        """
        producer = Producer(ProducerConfig(addrs, topic))
        def child():
            sent = raised(producer.send_bytes, b"v", timeout=30)
            print(sent, raised(producer.initialise), producer.close())
        forked(child)
        producer.close(timeout=0)
        """,
        own_cluster,
        "t",
    )
    assert lines[0] == "ForkedError ForkedError 0"


def test_a_health_check_of_the_parent_says_so_in_the_child_and_hangs_nowhere(
    cluster: EmbeddedCluster, topic: TopicFactory
) -> None:
    """Forked again and again while its threads update, subscribe and tell: some lock is held sometimes."""
    lines = run(
        """
        from dp_kafka.health import HealthCheck, Status
        from dp_kafka.shutdown import graceful
        producer = ready(Producer(ProducerConfig(addrs, topic)))
        group = ready(ConsumerGroup(ConsumerGroupConfig(addrs, topic, "health-" + topic)))

        class Subscriber:
            def on_health_update(self, status): ...

        turns = iter([Status.OK, Status.WARNING] * 1_000_000)
        health = HealthCheck(interval=0.0001)
        check = health.add_check("turns", lambda state: state.update(next(turns), ""))
        health.add_liveness(producer, group)
        subscriber = Subscriber()
        health.subscribe(subscriber, check)
        health.start()

        def ask(app):
            answer = []
            body = b"".join(app({"REQUEST_METHOD": "GET"}, lambda status, headers: answer.append(status)))
            return answer[0][:3], b"fork" in body

        def child():
            found = (raised(health.to_dict), raised(health.start), ask(health), ask(health.liveness))
            assert found == ("ForkedError", "ForkedError", ("500", True), ("500", True)), found
            assert not health.is_alive
            assert raised(health.subscribe, Subscriber()) == "nothing"
            assert raised(health.unsubscribe, subscriber) == "nothing"
            assert raised(check.state.update, "OK", "") == "nothing"
            assert raised(health.add_check, "more", print) == "nothing"
            assert not graceful(health, group, producer, timeout=5)
            own = HealthCheck()
            own.add_check("own", producer.checker)
            own.start()
            assert own.stop()

        for _ in range(10):
            forked(child)
        print("parent", ask(health.liveness), not graceful(health, group, producer, timeout=10))
        """,
        cluster,
        topic(),
    )
    assert lines.count("child ended with 0") == 10
    assert lines[-1] == "parent ('200', False) True"


def test_a_child_of_a_child_is_no_different(cluster: EmbeddedCluster, topic: TopicFactory) -> None:
    lines = run(
        """
        producer = ready(Producer(ProducerConfig(addrs, topic)))
        def grandchild():
            print("grandchild", raised(producer.send_bytes, b"v"), producer.close())
            sys.stdout.flush()
        forked(lambda: forked(grandchild))
        print(producer.close())
        """,
        cluster,
        topic(),
    )
    assert "grandchild ForkedError 0" in lines


def test_a_broken_client_does_not_keep_the_others_from_being_switched_off() -> None:
    class Owner:
        def use(self) -> str:
            return "used"

        def close(self) -> str:
            return "closed"

    def breaks(_owner: Owner) -> None:
        raise RuntimeError("broken by the test")

    broken, whole = Owner(), Owner()
    forks.track(broken, breaks)
    forks.track(whole, lambda owner: forks.refuse(owner, "Owner", but=("close",)))
    # Not as part of a fork, which would end the other clients of this process.
    live, forks._live = forks._live, type(forks._live)()
    try:
        for owner in (broken, whole):
            forks._live[owner] = live.pop(owner)
        forks._after_fork_in_child()
    finally:
        forks._live = live
    with pytest.raises(ForkedError, match="this Owner was made before"):
        whole.use()
    assert whole.close() == "closed"
    assert broken.use() == "used"


class Told:
    """Sets an event when it is destroyed."""

    def __init__(self) -> None:
        self.destroyed = threading.Event()

    def __del__(self) -> None:
        self.destroyed.set()


def test_a_client_that_is_kept_is_never_destroyed() -> None:
    client = Told()
    destroyed = client.destroyed
    forks.keep(client)
    forks.keep(None)
    del client
    gc.collect()
    assert not destroyed.is_set()


def test_a_tracked_client_is_not_kept_alive() -> None:
    owner = Told()
    destroyed = owner.destroyed
    forks.track(owner, lambda _: None)
    del owner
    gc.collect()
    assert destroyed.is_set()


def test_a_parents_admin_clients_refuse_in_the_child_and_those_of_the_child_work(
    cluster: EmbeddedCluster, topic: TopicFactory
) -> None:
    lines = run(
        """
        from dp_kafka.admin import LagReader, list_topics, new_admin

        admin = new_admin(addrs)
        names = [each.name for each in list_topics(admin)]

        def child():
            print("admin", raised(list_topics, admin))
            print("lag", raised(reader.read), raised(reader.close))
            print("fresh", [each.name for each in list_topics(new_admin(addrs))] == names)

        with LagReader(addrs, "g", [topic]) as reader:
            print("before", len(reader.read()))
            forked(child)
            print("parent", len(reader.read()), [each.name for each in list_topics(admin)] == names)
        """,
        cluster,
        topic(),
    )
    assert lines == [
        "before 1",
        "admin ForkedError",
        "lag ForkedError nothing",
        "fresh True",
        "child ended with 0",
        "parent 1 True",
    ]
