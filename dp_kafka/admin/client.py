"""The admin client: confluent_kafka's, made from dp_kafka's configuration."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka.admin import AdminClient

from dp_kafka import forks
from dp_kafka.admin.requests import RETRY_BACKOFF, RETRY_MAX, Requests
from dp_kafka.clients import CLIENT_LOGGER
from dp_kafka.config import AdminConfig, checks
from dp_kafka.config.rdkafka import admin_properties
from dp_kafka.errors import ConfigError

__all__ = ["Admin", "ask_coordinator", "new_admin", "requests_of"]

V = TypeVar("V")


class Admin(AdminClient):
    """confluent_kafka's AdminClient with dp_kafka's configuration; every request of it is there.

    The functions of `dp_kafka.admin` repeat their requests by `retry_max`; the methods of the AdminClient
    itself do not. Any thread may use it, several at a time. There is nothing to close: it ends with the last
    reference to it. In a forked child each use raises `ForkedError`. Make it by `new_admin`; `requests` is
    for those functions.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        *,
        retry_max: int = RETRY_MAX,
        retry_backoff: float = RETRY_BACKOFF,
        stop: threading.Event | None = None,
    ) -> None:
        self._properties = dict(properties)
        self.requests = Requests(
            # Weakly, as there is nothing to close: its threads and connections end with the last reference.
            weakref.proxy(self),
            retry_max=retry_max,
            retry_backoff=retry_backoff,
            stop=stop,
            brokers=str(properties.get("bootstrap.servers", "")),
        )
        conf: dict[str, Any] = {**properties, "error_cb": self.requests.on_error}
        super().__init__(conf, logger=CLIENT_LOGGER)
        forks.track(self, Admin._after_fork)

    def for_one_request(self) -> Admin:
        """Another client of the same configuration, which repeats nothing."""
        return Admin(self._properties, retry_max=0)

    def _after_fork(self) -> None:
        forks.keep(self)
        forks.refuse(self, "Admin")


def requests_of(admin: AdminClient) -> Requests:
    """The requests of an admin client: ours, or any other."""
    if isinstance(admin, Admin):
        return admin.requests
    if not isinstance(admin, AdminClient):
        raise ConfigError(
            f"an admin client is needed, as new_admin() makes it, but got {type(admin).__name__}",
            field="admin",
        )
    return Requests(admin)


def ask_coordinator(
    admin: AdminClient, request: Callable[[AdminClient, float], Future[V]], until: float
) -> V:
    """Ask the coordinator of a group, and repeat it while it fails for a passing reason. Blocks.

    Each time with a client of its own, if the admin client is ours: librdkafka keeps the coordinator that it
    found, and once the connection to it broke, it may wait for that one until every request has timed out
    (https://github.com/confluentinc/librdkafka/pull/5512).

    Args:
        request: takes the client to ask with, and the seconds for one request.
        until: the instant of `time.monotonic()` at which all of it ends.

    Raises:
        KafkaClientError: it failed for good, or too often, or time was up.
    """

    def by(client: AdminClient) -> Callable[[float], Future[V] | V]:
        return lambda seconds: request(client, seconds)

    if not isinstance(admin, Admin):
        return requests_of(admin).call(by(admin), until)
    ours = admin

    def by_its_own(seconds: float) -> Future[V] | V:
        client = ours.for_one_request()
        return client.requests.call(by(client), time.monotonic() + seconds)

    return ours.requests.call(by_its_own, until)


def new_admin(broker_addrs: Sequence[str], config: AdminConfig | None = None) -> Admin:
    """An admin client for the brokers at `broker_addrs` ("host:port" each). Neither connects nor blocks.

    Raises:
        ConfigError: an address is malformed, or `config` is no AdminConfig.
    """
    if config is not None and not isinstance(config, AdminConfig):
        raise ConfigError(f"new_admin takes an AdminConfig, but got {type(config).__name__}", field="config")
    settings = config or AdminConfig()
    return Admin(
        admin_properties(checks.addresses("broker_addrs", broker_addrs), settings),
        retry_max=RETRY_MAX if settings.retry_max is None else settings.retry_max,
        retry_backoff=RETRY_BACKOFF if settings.retry_backoff is None else settings.retry_backoff,
    )
