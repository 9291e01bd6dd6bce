"""A TLS server for tests that only shakes hands, and tells what became of it."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from pathlib import Path

from confluent_kafka import Producer

from dp_kafka.config import ProducerConfig, SecurityConfig
from dp_kafka.config.rdkafka import producer_properties
from tests.certificates import Pair


class Listener:
    """Accepts one connection and tells what came of the TLS handshake; no Kafka behind it."""

    def __init__(
        self,
        folder: Path,
        *,
        name: Pair,
        authority: Pair | None = None,
        version: ssl.TLSVersion | None = None,
    ) -> None:
        (folder / "server.pem").write_text(name.cert + name.key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "server.pem")
        if version is not None:
            self._speak_only(version)
        if authority is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(cadata=authority.cert)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(20)
        self.address = f"localhost:{self._socket.getsockname()[1]}"
        self.error: Exception | None = None
        self.client_certificate: bytes | None = None
        self._thread = threading.Thread(target=self._serve, name="test:tls-listener")
        self._thread.start()

    def _speak_only(self, version: ssl.TLSVersion) -> None:
        self._context.set_ciphers("ALL:@SECLEVEL=0")  # OpenSSL 3 speaks TLS 1.1 on no other level
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._context.minimum_version = self._context.maximum_version = version

    def _serve(self) -> None:
        try:
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(20)
                with self._context.wrap_socket(connection, server_side=True) as secured:
                    self.client_certificate = secured.getpeercert(binary_form=True)
        except OSError as error:  # ssl.SSLError is one
            self.error = error

    def meet(self, security: SecurityConfig | None) -> None:
        """Have a real client come by, and wait until the handshake is over."""
        config = ProducerConfig(
            [self.address], "t", security=security, librdkafka={"broker.address.family": "v4"}
        )
        client = Producer({**producer_properties(config), "log_level": 0})
        self._thread.join(30)
        assert not self._thread.is_alive()
        del client

    def close(self) -> None:
        self._socket.close()
        self._thread.join(30)
