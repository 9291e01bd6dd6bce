"""`SecurityConfig`: TLS and SASL, checked when constructed, with nothing secret in its repr or its errors."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from dp_kafka.config import checks, pem
from dp_kafka.errors import ConfigError

SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_CERTIFICATE_FIELDS = ("root_ca_certs", "client_cert", "client_key")
_SASL_FIELDS = ("sasl_mechanism", "sasl_username", "sasl_password")


@dataclass(frozen=True, slots=True, repr=False)
class SecurityConfig:
    """How clients prove themselves and check the brokers. Any SecurityConfig, even an empty one, means TLS.

    `root_ca_certs`, `client_cert` and `client_key` are each either PEM text or the path of a PEM file, told
    apart one by one by the '-----BEGIN ' that PEM text contains; in PEM text a backslash followed by n
    counts as a line break. They are read and checked at construction: the certificate and the key must come
    together, belong to each other, and the key must not be encrypted. TLS is 1.2 or newer.

    - `root_ca_certs` ("": the host's): the certificate authorities to trust INSTEAD of the host's.
    - `client_cert`, `client_key` (""): for client authentication.
    - `insecure_skip_verify` (False): True accepts any certificate for any host name. For tests only.
    - `sasl_mechanism`, `sasl_username`, `sasl_password` (None): all three or none; the mechanism is PLAIN,
      SCRAM-SHA-256 or SCRAM-SHA-512.
    - `tls` (True): False sends everything in the clear; only meant for SASL on a private network.

    Raises `ConfigError`, and `CACertsError` when `root_ca_certs` holds no certificate.
    """

    root_ca_certs: str = ""
    client_cert: str = ""
    client_key: str = ""
    insecure_skip_verify: bool = False
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    tls: bool = True

    def __post_init__(self) -> None:
        for field in _CERTIFICATE_FIELDS:
            object.__setattr__(self, field, _text_or_path(field, getattr(self, field)))
        checks.flag("insecure_skip_verify", self.insecure_skip_verify)
        checks.flag("tls", self.tls)
        self._check_sasl()
        if not self.tls:
            self._check_plain()
        if self.root_ca_certs:
            pem.check_ca("root_ca_certs", pem.read("root_ca_certs", self.root_ca_certs))
        if bool(self.client_cert) is not bool(self.client_key):
            given, missing = (
                ("client_cert", "client_key") if self.client_cert else ("client_key", "client_cert")
            )
            raise ConfigError(
                f"{given} was given without {missing}: client authentication needs both", field=missing
            )
        if self.client_cert:
            pem.check_pair(self.client_cert, self.client_key)

    def _check_sasl(self) -> None:
        missing = [field for field in _SASL_FIELDS if getattr(self, field) in (None, "")]
        if len(missing) == len(_SASL_FIELDS):
            for field in _SASL_FIELDS:
                object.__setattr__(self, field, None)
            return
        if missing:
            raise ConfigError(
                f"SASL needs sasl_mechanism, sasl_username and sasl_password: {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing",
                field=missing[0],
            )
        for field in _SASL_FIELDS:
            if not isinstance(getattr(self, field), str):
                raise ConfigError(f"{field} must be a string; its value is not shown", field=field)
        if self.sasl_mechanism not in SASL_MECHANISMS:
            raise ConfigError(
                f"sasl_mechanism must be one of {', '.join(SASL_MECHANISMS)}, "
                f"found {checks.shown(self.sasl_mechanism)}; for another, give librdkafka its properties",
                field="sasl_mechanism",
            )

    def _check_plain(self) -> None:
        for field in (*_CERTIFICATE_FIELDS, "insecure_skip_verify"):
            if getattr(self, field):
                raise ConfigError(
                    f"{field} was given together with tls=False, which has no use for it", field=field
                )

    def __repr__(self) -> str:
        shown: dict[str, Any] = {
            "root_ca_certs": _source(self.root_ca_certs),
            "client_cert": _source(self.client_cert),
            "client_key": "<hidden>" if self.client_key else "",
            "insecure_skip_verify": self.insecure_skip_verify,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_username": self.sasl_username,
            "sasl_password": "<hidden>" if self.sasl_password else None,
            "tls": self.tls,
        }
        return f"SecurityConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def _source(value: str) -> str:
    return "<inline PEM>" if pem.inline_text(value) is not None else value


def _text_or_path(field: str, value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigError(
            f"{field} must be a string (PEM text or a path), found {type(value).__name__}", field=field
        )
    return value if value.strip() else ""


def check_security(value: object) -> None:
    """Raise `ConfigError` unless `value`, a `security` field, is None or a SecurityConfig."""
    if value is not None and not isinstance(value, SecurityConfig):
        raise ConfigError(
            f"security must be a SecurityConfig, found {type(value).__name__}", field="security"
        )
