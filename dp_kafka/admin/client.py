"""The admin client: confluent_kafka's, made from dp_kafka's configuration."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from dp_kafka import forks
from dp_kafka.admin.requests import RETRY_BACKOFF, RETRY_MAX, Requests
from dp_kafka.clients import CLIENT_LOGGER
from dp_kafka.config import AdminConfig, checks
from dp_kafka.config.rdkafka import admin_properties
from dp_kafka.errors import ConfigError

__all__ = ["Admin", "new_admin", "requests_of"]


class Admin(AdminClient):
    """confluent_kafka's AdminClient with dp_kafka's configuration; every request of it is there.

    The functions of `dp_kafka.admin` repeat their requests by `retry_max`; the methods of the AdminClient
    itself do not. Any thread may use it, several at a time. There is nothing to close. In a forked child each
    use raises `ForkedError`. Make it by `new_admin`; `requests` is for those functions.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        *,
        retry_max: int = RETRY_MAX,
        retry_backoff: float = RETRY_BACKOFF,
        stop: threading.Event | None = None,
    ) -> None:
        conf: dict[str, Any] = {**properties, "error_cb": self._on_error}
        super().__init__(conf, logger=CLIENT_LOGGER)
        self.requests = Requests(
            self,
            retry_max=retry_max,
            retry_backoff=retry_backoff,
            stop=stop,
            brokers=str(properties.get("bootstrap.servers", "")),
        )
        forks.track(self, Admin._after_fork)

    def _on_error(self, error: KafkaError) -> None:
        self.requests.on_error(error)

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
