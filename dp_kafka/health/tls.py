"""The TLS context of a client, for Python's ssl: the same authorities, certificate and verification."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dp_kafka.config.properties import is_true, lookup

__all__ = ["context_of", "is_tls"]

#: What librdkafka can take and Python's ssl can't. With one of them only the TCP connection is probed; the
#: topic is looked up by a real client all the same.
_BEYOND_SSL = ("ssl.keystore.location", "ssl.engine.location", "ssl.certificate.verify_cb", "ssl.providers")


def is_tls(properties: Mapping[str, Any]) -> bool:
    """Whether a client with these librdkafka properties speaks TLS."""
    return str(lookup(properties, "security.protocol") or "").lower() in ("ssl", "sasl_ssl")


def context_of(properties: Mapping[str, Any]) -> ssl.SSLContext | None:
    """The context for a client with these librdkafka properties; None when it has settings beyond ssl.

    Raises:
        ssl.SSLError, OSError: a certificate or key can't be read (any more).
    """
    if any(properties.get(name) for name in _BEYOND_SSL):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if str(properties.get("ssl.endpoint.identification.algorithm", "https")).lower() == "none":
        context.check_hostname = False
    if not is_true(properties.get("enable.ssl.certificate.verification", True)):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif pem := properties.get("ssl.ca.pem"):
        context.load_verify_locations(cadata=pem)
    elif (location := properties.get("ssl.ca.location")) and location != "probe":
        folder = os.path.isdir(location)
        context.load_verify_locations(
            cafile=None if folder else location, capath=location if folder else None
        )
    else:
        context.load_default_certs()
    _load_pair(context, properties)
    return context


def _load_pair(context: ssl.SSLContext, properties: Mapping[str, Any]) -> None:
    """Load the client certificate and its key, each given as PEM text or as a file."""
    # The empty password keeps OpenSSL from asking for one on the terminal.
    password = str(properties.get("ssl.key.password") or "")
    import tempfile  # seldom needed, and slow to import

    with tempfile.TemporaryDirectory(prefix="dp-kafka-") as folder:
        # Python's ssl reads a pair from files only, so text lives for this call where nobody else may read.
        paths: list[str | Path] = []
        for name in ("ssl.certificate", "ssl.key"):
            path = properties.get(f"{name}.location")
            if text := properties.get(f"{name}.pem"):
                path = Path(folder, name)
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(text)
            if not path:
                return
            paths.append(path)
        context.load_cert_chain(paths[0], paths[1], password=password)
