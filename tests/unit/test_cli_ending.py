"""How a command ends by a signal."""

from __future__ import annotations

import signal

import pytest

from dp_kafka.cli.commands.ending import ending


def test_the_second_signal_insists() -> None:
    with ending() as asked:
        signal.raise_signal(signal.SIGTERM)
        assert asked.code == 143
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
