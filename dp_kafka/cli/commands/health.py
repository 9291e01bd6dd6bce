"""`dp-kafka health`: are the brokers reachable, and do they have the topic?"""

from __future__ import annotations

import click
from rich.text import Text

from dp_kafka.cli.commands import options, showing
from dp_kafka.config import ConsumerGroupConfig
from dp_kafka.health import BrokerCheck, Status

__all__ = ["health"]

_COLOURS = {Status.OK: "green", Status.WARNING: "yellow", Status.CRITICAL: "red"}


@click.command(
    epilog=options.examples(
        "dp-kafka health content-published",
        "dp-kafka health --min-brokers 2 --json | jq -r .message",
    )
)
@click.argument("topic", required=False)
@click.option(
    "--min-brokers", type=click.IntRange(min=1), default=1, show_default=True, help="Enough brokers."
)
@options.timeout(5.0)
@options.as_json
@options.brokers
def health(topic: str | None, min_brokers: int, timeout: float, as_json: bool, brokers: str | None) -> int:
    """Ask all brokers at once, and look TOPIC up (by default KAFKA_CONSUMED_TOPIC).

    The verdict is that of a service's health check. Exit code 0: OK. 1: anything else.
    """
    settings = options.settings_of(brokers)
    config: ConsumerGroupConfig = settings.consumer_config(
        topic=topic or settings.consumed_topic, min_brokers_healthy=min_brokers
    )
    check = BrokerCheck(config, timeout=timeout)
    try:
        status, message = check.verdict()
    finally:
        check.close()
    if as_json:
        showing.write_json(
            {
                "status": str(status.value),
                "message": message,
                "topic": config.topic,
                "brokers": list(config.broker_addrs),
            }
        )
    else:
        out = showing.console()
        verdict = Text.assemble((status.value, f"bold {_COLOURS[status]}"), f"  {message}")
        out.print(verdict, soft_wrap=True)
        out.print(f"topic {config.topic}, brokers {', '.join(config.broker_addrs)}", soft_wrap=True)
    return 0 if status is Status.OK else 1
