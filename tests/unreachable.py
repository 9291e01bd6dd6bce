"""Addresses at which no Kafka broker answers, each in its own way; all on loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

__all__ = ["dead_address", "dropping_address", "silent_address", "talking_address"]


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"


@contextlib.contextmanager
def dead_address() -> Iterator[str]:
    """Refuses connections: bound, so that nobody else gets the port, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield _address(bound)


@contextlib.contextmanager
def silent_address() -> Iterator[str]:
    """Takes connections (the kernel does), and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield _address(listener)


@contextlib.contextmanager
def dropping_address() -> Iterator[str]:
    """Does not even take connections: its backlog is full, so that a connect gets no answer at all."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        while True:
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.2)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                break
        yield _address(listener)


@contextlib.contextmanager
def talking_address(answer: bytes) -> Iterator[str]:
    """Takes one connection after another, reads what comes, says `answer` and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(10)
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, name="test:talking", daemon=True)
        thread.start()
        try:
            yield _address(listener)
        finally:
            # Closing a socket does not wake its accept(); a shutdown does.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(10)
