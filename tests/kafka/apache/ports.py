"""Free loopback ports that stay free of the system's own outgoing connections."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"
#: Below the range from which Linux and macOS take ports for outgoing connections: none of these gets the port
#: of a killed broker before it is restarted.
_RANGE = (15_000, 32_000)


@contextlib.contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Ports that nobody uses, held until the end of the block."""
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            attempt = socket.socket()
            held.append(attempt)
            # As a broker does: a port whose last connections are in TIME_WAIT counts as free.
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind((HOST, random.randint(*_RANGE)))
            except OSError:
                held.pop().close()
        yield [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()
