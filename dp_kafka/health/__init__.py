"""Health: what the brokers, the topic and the threads of a service are like, for probes and dashboards."""

from typing import TYPE_CHECKING

from dp_kafka.lazy import lazy_names

if TYPE_CHECKING:
    from dp_kafka.health.check import Check
    from dp_kafka.health.checks import BrokerCheck
    from dp_kafka.health.healthcheck import HealthCheck
    from dp_kafka.health.liveness import Liveness
    from dp_kafka.health.state import CheckState
    from dp_kafka.health.status import Status
    from dp_kafka.health.subscription import Subscriber
    from dp_kafka.health.version import VersionInfo

__all__ = [
    "BrokerCheck",
    "Check",
    "CheckState",
    "HealthCheck",
    "Liveness",
    "Status",
    "Subscriber",
    "VersionInfo",
]

# Clients need a part of it: the rest is imported by services that report their health.
__getattr__ = lazy_names(
    __name__,
    {
        "Check": "check",
        "BrokerCheck": "checks",
        "HealthCheck": "healthcheck",
        "Liveness": "liveness",
        "CheckState": "state",
        "Status": "status",
        "Subscriber": "subscription",
        "VersionInfo": "version",
    },
)
