"""A cluster of Apache Kafka brokers on loopback ports, owned by the process that starts it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
import weakref
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from confluent_kafka.admin import AdminClient

from . import artifacts, asking, leaders, reaper
from . import security as listeners
from .broker import JVM_OPTIONS, BrokerProcess
from .errors import ApacheKafkaError
from .ports import free_ports
from .properties import Node, server_properties, write_properties
from .security import Security

if TYPE_CHECKING:
    from .certs import Certificates

#: Seconds that brokers get to end by SIGTERM. A whole cluster loses its quorum on the way, and the last of
#: its brokers would wait for minutes.
_STOP_GRACE = 3.0


class ApacheKafka:
    """Real brokers, each its own controller (KRaft), numbered from 1. A context manager.

    ``broker_properties`` go into every broker's server.properties, over this launcher's own.
    Logs go to ``state_dir`` and stay there; without it, they go with the data when the cluster stops.
    The brokers end with this object, and with this process however that ends. Methods block, and are called
    from one thread at a time. They raise ApacheKafkaError, with the log of a broker that is to blame.
    """

    def __init__(
        self,
        brokers: int = 1,
        state_dir: str | os.PathLike[str] | None = None,
        tls: bool = False,
        sasl: bool = False,
        authorizer: bool = False,
        broker_properties: Mapping[str, object] | None = None,
        *,
        jvm_options: Sequence[str] = JVM_OPTIONS,
    ) -> None:
        if brokers not in (1, 2, 3):
            raise ValueError(f"brokers is {brokers}: 1, 2 or 3 make sense on one machine")
        self._count = brokers
        self._state_dir = Path(state_dir).resolve() if state_dir is not None else None
        self._extra = dict(broker_properties or {})
        self._jvm_options = list(jvm_options)
        self._brokers: dict[int, BrokerProcess] = {}
        self._security_options = {"tls": tls, "sasl": sasl, "authorizer": authorizer}
        self._security: Security | None = None
        self._leash: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[..., ApacheKafka] | None = None
        self.token = ""
        self.data_dir: Path | None = None

    def __enter__(self) -> ApacheKafka:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"ApacheKafka({', '.join(self.broker_addrs) or 'stopped'})"

    @property
    def broker_addrs(self) -> list[str]:
        """host:port of each broker's plaintext listener, in the order of their ids."""
        return self._addresses(listeners.PLAINTEXT)

    @property
    def tls_addrs(self) -> list[str]:
        """Addresses with TLS, where a client may show a certificate."""
        return self._addresses(listeners.TLS)

    @property
    def mutual_tls_addrs(self) -> list[str]:
        """Addresses with TLS, where a client must show a certificate."""
        return self._addresses(listeners.MUTUAL_TLS)

    @property
    def expired_tls_addrs(self) -> list[str]:
        """Addresses with TLS whose certificate has expired."""
        return self._addresses(listeners.EXPIRED_TLS)

    @property
    def wrong_host_tls_addrs(self) -> list[str]:
        """Addresses with TLS whose certificate is that of another host."""
        return self._addresses(listeners.WRONG_HOST_TLS)

    @property
    def sasl_addrs(self) -> list[str]:
        """Addresses with SASL (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512), not encrypted."""
        return self._addresses(listeners.SASL)

    @property
    def sasl_tls_addrs(self) -> list[str]:
        """Addresses with SASL over TLS, of a cluster with both."""
        return self._addresses(listeners.SASL_TLS)

    def _addresses(self, listener: str) -> list[str]:
        found = [broker.node for broker in self._brokers.values()]
        if found and listener not in found[0].ports:
            raise ApacheKafkaError(f"no {listener} listener: {self._security_options} was asked for")
        return [node.address(listener) for node in found]

    @property
    def addresses(self) -> dict[str, list[str]]:
        """The addresses of all listeners that are meant for clients."""
        names = self._security.client_listeners if self._security else []
        return {name: self._addresses(name) for name in names}

    @property
    def security(self) -> Security:
        """Who may do what on the cluster that runs."""
        if self._security is None:
            raise ApacheKafkaError("the cluster has no users and certificates before it is started")
        return self._security

    @property
    def certificates(self) -> Certificates:
        """The certificates of a cluster with TLS."""
        if self.security.certificates is None:
            raise ApacheKafkaError(f"no certificates: {self._security_options} was asked for")
        return self.security.certificates

    @property
    def users(self) -> dict[str, str]:
        """The password of each SASL user."""
        return self.security.users

    @property
    def broker_ids(self) -> list[int]:
        """The brokers' ids."""
        return list(self._brokers)

    # Life cycle

    def start(self, timeout: float = 120.0) -> None:
        """Starts new, empty brokers, and returns when each of them answers and knows the others.

        Raises ApacheKafkaError past ``timeout`` seconds, to which the first fetch by Maven does not count.
        """
        if self._brokers:
            raise ApacheKafkaError(f"{self!r} is already started")
        jars = artifacts.fetch()
        deadline = time.monotonic() + timeout
        self.token = uuid.uuid4().hex
        self.data_dir = Path(tempfile.mkdtemp(prefix="dp-kafka-apache-"))
        try:
            self._guard()
            self._prepare(artifacts.find_java(), jars)
            self._format(deadline)
            for broker in self._brokers.values():
                broker.start()
            self._wait_answers(self._brokers.values(), deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self, grace: float = _STOP_GRACE) -> None:
        """Ends the brokers (SIGTERM, SIGKILL after ``grace`` seconds), removes their data. Idempotent."""
        for broker in self._brokers.values():
            broker.terminate()
        deadline = time.monotonic() + grace
        for broker in self._brokers.values():
            if not broker.wait(max(0.0, deadline - time.monotonic())):
                broker.end()
        self._brokers = {}
        self._security = None
        if self.data_dir is not None:
            shutil.rmtree(self.data_dir, ignore_errors=True)
            self.data_dir = None
        if self._finalizer is not None:
            self._finalizer()  # the leash finds nothing left, and ends
            self._finalizer = self._leash = None

    def detach(self) -> None:
        """Lets the brokers outlive this process: ``reaper.reap(token, [data_dir])`` ends them."""
        assert self._finalizer is not None
        assert self._leash is not None
        self._finalizer.detach()
        self._leash.communicate(b"detach\n", timeout=10.0)
        self._leash = self._finalizer = None

    def _guard(self) -> None:
        """Makes sure that no way in which this process may end leaves brokers behind."""
        assert self.data_dir is not None
        self._leash = subprocess.Popen(
            [sys.executable, "-I", str(Path(reaper.__file__)), self.token, str(self.data_dir)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._finalizer = weakref.finalize(self, _let_go, self._leash, os.getpid())

    def _prepare(self, java: str, jars: Path) -> None:
        assert self.data_dir is not None
        logs = self._state_dir or self.data_dir
        logs.mkdir(parents=True, exist_ok=True)
        security = self._security = Security(self.data_dir / "certs", **self._security_options)
        names = security.protocols
        with free_ports(self._count * len(names)) as ports:
            free = iter(ports)
            nodes = [Node(id, {name: next(free) for name in names}) for id in range(1, self._count + 1)]
        command = [java, *self._jvm_options, reaper.token_option(self.token)]
        if (archive := artifacts.class_archive(java)).is_file():
            command.append(f"-XX:SharedArchiveFile={archive}")
        command += ["-cp", artifacts.class_path(jars)]
        for node in nodes:
            properties = self.data_dir / f"broker-{node.id}.properties"
            data = self.data_dir / f"broker-{node.id}"
            write_properties(properties, server_properties(node, nodes, data, security, self._extra))
            log = logs / f"broker-{node.id}.log"
            log.unlink(missing_ok=True)
            self._brokers[node.id] = BrokerProcess(node, command, properties, log)

    def _format(self, deadline: float) -> None:
        # A cluster id is 16 bytes in URL-safe base64; StorageTool refuses one that begins with "-".
        cluster_id = urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        running = [
            (broker, broker.format(cluster_id, self.security.scram_users))
            for broker in self._brokers.values()
        ]
        try:
            for broker, process in running:
                if process.wait(max(0.1, deadline - time.monotonic())) != 0:
                    raise ApacheKafkaError(f"could not format the data directory: {broker.explain()}")
        except subprocess.TimeoutExpired as error:
            raise ApacheKafkaError("formatting the data directories took too long") from error
        finally:
            for _, process in running:
                process.kill()
                process.wait(10.0)

    # Faults

    def kill(self, broker: int) -> None:
        """SIGKILL to a broker; returns when its process is gone."""
        self._broker(broker).kill()

    def restart(self, broker: int, timeout: float = 60.0) -> None:
        """Starts a broker again that has ended, on its data and its ports; returns when it answers."""
        self._broker(broker).start()
        self._wait_answers([self._broker(broker)], time.monotonic() + timeout)

    def pause(self, broker: int) -> None:
        """SIGSTOP: the broker keeps its connections and answers nothing."""
        self._broker(broker).pause()

    def resume(self, broker: int) -> None:
        """SIGCONT to a paused broker. It may take seconds until it leads again."""
        self._broker(broker).resume()

    def pid(self, broker: int) -> int:
        """A broker's process id."""
        return self._broker(broker).pid

    def log_tail(self, broker: int, lines: int = 40) -> str:
        """The last lines of a broker's log."""
        return self._broker(broker).log_tail(lines)

    def _broker(self, id: int) -> BrokerProcess:
        try:
            return self._brokers[id]
        except KeyError:
            raise ApacheKafkaError(
                f"no broker {id}: there are {list(self._brokers) or 'none, start first'}"
            ) from None

    # Administration

    def admin(self) -> AdminClient:
        """A client that may do anything."""
        return asking.admin_client(self._brokers.values(), self.security.admin_properties)

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication_factor: int | None = None,
        config: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Creates a topic, with a replica on each broker by default.

        Returns when every running broker knows its leaders.
        """
        deadline = time.monotonic() + timeout
        factor = replication_factor or self._count
        asking.create_topic(self.admin(), name, partitions, factor, config, timeout)
        for broker in self._answering():
            asking.wait_led(broker, name, partitions, self.security.admin_properties, deadline)

    def wait_in_sync(self, topic: str, timeout: float = 60.0) -> None:
        """Returns when all replicas of all partitions of the topic are in sync, as after a restart."""
        if not self._answering():
            raise ApacheKafkaError(f"no broker runs that could tell whether {topic} is in sync")
        asking.wait_in_sync(
            self._answering()[0], topic, self.security.admin_properties, time.monotonic() + timeout
        )

    def move_leaders(self, topic: str, timeout: float = 30.0) -> None:
        """Gives each partition's leadership to its next replica; returns when running brokers know it.

        Needs all brokers running, and no authorizer: it asks by way of a plaintext listener.
        """
        deadline = time.monotonic() + timeout
        found = self.admin().list_topics(topic, timeout=timeout).topics[topic].partitions
        order = {id: [*each.replicas[1:], each.replicas[0]] for id, each in found.items()}
        address = self._answering()[0].node.address(listeners.PLAINTEXT)
        leaders.reassign(address, topic, order, timeout)
        leaders.elect(address, topic, list(order), timeout)
        wanted = {id: replicas[0] for id, replicas in order.items()}
        for broker in self._answering():
            asking.wait_leaders(broker, topic, wanted, self.security.admin_properties, deadline)

    def _answering(self) -> list[BrokerProcess]:
        return [broker for broker in self._brokers.values() if broker.alive and not broker.paused]

    def _wait_answers(self, brokers: Iterable[BrokerProcess], deadline: float) -> None:
        """Waits until each of the brokers answers, and knows all brokers that run."""
        running = {broker.node.id for broker in self._answering()}
        for broker in brokers:
            asking.wait_answers(broker, running, self.security.admin_properties, deadline)


def _let_go(leash: subprocess.Popen[bytes], owner: int) -> None:
    """Has the leash end what is left. In a forked child, which owns nothing, it does nothing."""
    if os.getpid() == owner:
        with contextlib.suppress(subprocess.TimeoutExpired):
            leash.communicate(timeout=20.0)
