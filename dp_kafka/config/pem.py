"""Certificates and keys as text: given inline or as the path of a file, and whether they are usable.

No error of this module contains a value that could be a key or a certificate. Errors are raised outside
`except` blocks, so that no exception with such a value in it (an OSError with its file name) hangs on
theirs.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
from pathlib import Path

from dp_kafka.errors import CACertsError, ConfigError
from dp_kafka.logs import log_event

logger = logging.getLogger("dp_kafka.config")

_BEGIN = "-----BEGIN "
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_ENCRYPTED = re.compile(r"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED", re.MULTILINE)
# A run of this many base64 characters is no file name, but may be a key whose BEGIN line was lost.
_BASE64_NAME = re.compile(r"[A-Za-z0-9+=]{40,}")
_BASE64_ONLY = re.compile(r"[A-Za-z0-9+/=]{100,}")
_MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")


def inline_text(value: str) -> str | None:
    """The PEM text in `value`, or None when `value` is a path.

    Environment variables often carry each line break as backslash and n, and stray blanks at the ends.
    """
    if _BEGIN not in value:
        return None
    return value.replace("\\n", "\n").strip() + "\n"


def read(field: str, value: str) -> str:
    """The PEM text that `value` is, or that the file at the path `value` contains."""
    text = inline_text(value)
    if text is not None:
        return text
    if any(ord(character) < 32 for character in value) or len(value) > 4096:
        raise ConfigError(
            f"{field} is neither PEM text (it has no '-----BEGIN' line) nor a path; its value is not shown",
            field=field,
        )
    try:
        # Latin-1 reads anything: comments between the certificates of a bundle are in whatever encoding.
        return Path(value).read_text(encoding="latin-1")
    except OSError as failure:
        reason = failure.strerror or type(failure).__name__
    raise ConfigError(f"{field}: failed read from {_path_shown(value)}: {reason}", field=field)


def _path_shown(value: str) -> str:
    if _BASE64_ONLY.search(value) or any(_BASE64_NAME.search(name) for name in re.split(r"[/\\]", value)):
        return "the path given (not shown: it looks like key material)"
    return value


def check_ca(field: str, text: str) -> None:
    """Raise `CACertsError` unless `text` holds at least one certificate, and all of them can be read."""
    certificates = _CERTIFICATE.findall(text)
    if not certificates:
        raise CACertsError(f"cannot load CA Certs: {field} contains no certificate", field=field)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata="\n".join(certificates))
    except (ssl.SSLError, ValueError) as failure:
        reason = getattr(failure, "reason", None) or type(failure).__name__
    else:
        return
    raise CACertsError(
        f"cannot load CA Certs: {field} contains a malformed certificate ({reason})", field=field
    )


def check_pair(cert: str, key: str) -> None:
    """Raise `ConfigError` unless client certificate and private key can be read and belong together."""
    cert_text, key_text = read("client_cert", cert), read("client_key", key)
    if not _CERTIFICATE.search(cert_text):
        raise ConfigError(
            "client_cert contains no certificate (no 'BEGIN CERTIFICATE' line)", field="client_cert"
        )
    if "PRIVATE KEY-----" not in key_text:
        raise ConfigError(
            "client_key contains no private key (no 'BEGIN … PRIVATE KEY' line)", field="client_key"
        )
    if _ENCRYPTED.search(key_text):
        raise ConfigError(
            "client_key is encrypted, which is not supported; decrypt it first (openssl pkey), or leave "
            "security out and give librdkafka ssl.key.location and ssl.key.password",
            field="client_key",
        )
    try:
        reason = _openssl_verdict(cert, key)
    except OSError as failure:
        # A read-only file system, say. librdkafka checks the pair again when a client is made.
        event = "client certificate and key were not compared: there is no temporary file"
        log_event(logger, logging.WARNING, event, {"error": failure.strerror})
        return
    if reason in _MISMATCH:
        raise ConfigError("client_key does not belong to client_cert", field="client_key")
    if reason:
        raise ConfigError(
            f"error parsing X509 keypair from client_cert and client_key: OpenSSL says {reason}",
            field="client_key",
        )


def _openssl_verdict(cert: str, key: str) -> str:
    """OpenSSL's reason for refusing the pair, or ''.

    Python's ssl reads a pair from files only, so inline text lives for this call in a directory that nobody
    else may read. Raises OSError when there is no place for that.
    """
    import tempfile  # seldom needed, and slow to import

    with tempfile.TemporaryDirectory(prefix="dp-kafka-") as folder:
        cert_file, key_file = (
            value if inline_text(value) is None else _private_file(Path(folder, name), value)
            for name, value in (("cert", cert), ("key", key))
        )
        try:
            # The empty password keeps OpenSSL from asking for one on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file, password="")
        except ssl.SSLError as failure:
            return failure.reason or "nothing more"
    return ""


def _private_file(path: Path, value: str) -> str:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(inline_text(value) or "")
    return str(path)
