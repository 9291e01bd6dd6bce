"""Owns the C objects of one embedded cluster, and when they may be used and must be destroyed.

Apart from the public class, so that finalising that class needs no reference to it. The handle hosts the
mock cluster, so the cluster goes first. In a forked child neither is touched: their threads are not there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dp_kafka.kafkatest._librdkafka import EmbeddedClusterError, Librdkafka
from dp_kafka.kafkatest._wakeup import kept_awake

__all__ = ["MockCluster"]


class MockCluster:
    """A mock cluster of `brokers` brokers and the handle that hosts it."""

    def __init__(self, lib: Librdkafka, brokers: int) -> None:
        self.lib = lib
        self._pid = os.getpid()
        # Guards _cluster and _handle: destroying them waits for calls into C that use them, and whatever
        # else has to change together with such a call. A call hands a command to the cluster's own thread,
        # which answers at once and never waits for a network peer or for Python.
        self._lock = threading.RLock()
        self._handle: int | None = lib.new_handle()
        self._cluster: int | None = lib.function("rd_kafka_mock_cluster_new")(self._handle, brokers)
        if self._cluster is None:
            self.destroy()
            raise EmbeddedClusterError(f"librdkafka could not open loopback ports for {brokers} broker(s)")
        bootstraps: bytes = self.call("rd_kafka_mock_cluster_bootstraps")
        self.addresses: list[tuple[str, int]] = []  # of the listeners, in the order of the brokers' ids
        for address in bootstraps.decode().split(","):
            host, _, port = address.rpartition(":")
            self.addresses.append((host, int(port)))

    @property
    def is_open(self) -> bool:
        """Whether the brokers run."""
        return self._cluster is not None

    @contextmanager
    def in_use(self) -> Iterator[int]:
        """Keep the cluster from being destroyed, and other threads' calls out; gives its C pointer.

        Raises EmbeddedClusterError when it is closed, or in a child of the process that made it.
        """
        if os.getpid() != self._pid:  # before the lock, whose owner may not exist in this process
            raise EmbeddedClusterError(
                "this embedded cluster belongs to the parent process: control it there, "
                "or make a new one here; clients may use its address in both"
            )
        with self._lock:
            if self._cluster is None:
                raise EmbeddedClusterError("the embedded cluster is closed: make a new one")
            yield self._cluster

    def call(self, name: str, *args: Any) -> Any:
        """The result of a function of the mock API that reads or sets something in place."""
        function = self.lib.function(name)
        with self.in_use() as cluster:
            return function(cluster, *args)

    def command(self, name: str, *args: Any) -> None:
        """Call a function that the cluster's thread carries out; raises for any error code but 0."""
        function = self.lib.function(name)
        with self.in_use() as cluster, kept_awake(self.addresses):
            code: int | None = function(cluster, *args)
        if code:
            error = self.lib.error_name(code)
            values = (arg.decode() if isinstance(arg, bytes) else arg for arg in args)
            shown = ", ".join(str(value) for value in values if isinstance(value, (str, int)))
            raise EmbeddedClusterError(
                f"{name.removeprefix('rd_kafka_mock_')}({shown}) failed: {error}",
                log_data={"code": code, "name": error},
            )

    def destroy(self) -> None:
        """End the brokers and free the C objects, once."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            cluster, self._cluster = self._cluster, None
            handle, self._handle = self._handle, None
            if cluster is not None:
                with kept_awake(self.addresses):
                    self.lib.function("rd_kafka_mock_cluster_destroy")(cluster)
            if handle is not None:
                self.lib.function("rd_kafka_destroy")(handle)
