"""The secured listeners of a cluster (TLS, SASL), its users, and its authorizer, as broker properties."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import MissingToolError

if TYPE_CHECKING:
    from .certs import Certificates, KeyPair

CONTROLLER = "CONTROLLER"
#: Brokers among themselves and this launcher's own admin client: apart from what tests connect to.
INTERNAL = "INTERNAL"
PLAINTEXT = "PLAINTEXT"
#: A client may show a certificate.
TLS = "TLS"
#: A client must show a certificate.
MUTUAL_TLS = "MUTUAL_TLS"
#: The broker's certificate has expired, or is that of another host.
EXPIRED_TLS = "EXPIRED_TLS"
WRONG_HOST_TLS = "WRONG_HOST_TLS"
SASL = "SASL"
SASL_TLS = "SASL_TLS"

_MECHANISMS = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
_MODULES = "org.apache.kafka.common.security"


class Security:
    """Who may do what on a cluster, and by which listeners they come in.

    ``users`` holds the SASL passwords, made anew for each cluster. ``admin`` is a super user, ``alice`` and
    ``bob`` are not; without an authorizer everybody may do everything. ``certificates`` is None without TLS.
    """

    def __init__(
        self, directory: Path, *, tls: bool = False, sasl: bool = False, authorizer: bool = False
    ) -> None:
        self._sasl = sasl
        self._authorizer = authorizer
        self.certificates = _certificates(directory) if tls else None
        self.users = (
            {name: secrets.token_hex(16) for name in ("admin", "alice", "bob")} if sasl or authorizer else {}
        )
        # The brokers' own user is on no listener that tests use.
        self._broker_password = secrets.token_hex(16)

    @property
    def protocols(self) -> dict[str, str]:
        """The security protocol of each listener."""
        own = "SASL_PLAINTEXT" if self._authorizer else "PLAINTEXT"
        found = {CONTROLLER: own, INTERNAL: own, PLAINTEXT: "PLAINTEXT"}
        if self.certificates is not None:
            found |= dict.fromkeys((TLS, MUTUAL_TLS, EXPIRED_TLS, WRONG_HOST_TLS), "SSL")
        if self._sasl:
            found[SASL] = "SASL_PLAINTEXT"
            if self.certificates is not None:
                found[SASL_TLS] = "SASL_SSL"
        return found

    @property
    def client_listeners(self) -> list[str]:
        """The listeners that are meant for tests and users."""
        return [name for name in self.protocols if name not in (CONTROLLER, INTERNAL)]

    @property
    def properties(self) -> dict[str, object]:
        """The brokers' properties for all of it."""
        values: dict[str, object] = {
            "listener.security.protocol.map": ",".join(
                f"{name}:{each}" for name, each in self.protocols.items()
            )
        }
        if self.certificates is not None:
            values |= _tls_properties(self.certificates, sasl=self._sasl)
        if self._sasl:
            for listener in (SASL, SASL_TLS):
                if listener in self.protocols:
                    values |= _sasl_properties(listener, self.users)
        if self._authorizer:
            values |= self._authorizer_properties()
        return values

    @property
    def scram_users(self) -> list[str]:
        """The users, as the formatting tool takes them."""
        return [
            f"{mechanism}=[name={name},password={password}]"
            for name, password in self.users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            if self._sasl
        ]

    @property
    def admin_properties(self) -> dict[str, str]:
        """What a client of librdkafka needs to be a super user on the internal listener."""
        if not self._authorizer:
            return {}
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "admin",
            "sasl.password": self.users["admin"],
        }

    def _authorizer_properties(self) -> dict[str, object]:
        known = {"broker": self._broker_password, "admin": self.users["admin"]}
        login = f'username="broker" password="{self._broker_password}"'
        values: dict[str, object] = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": "User:broker;User:admin;User:CN=admin",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.mechanism.controller.protocol": "PLAIN",
        }
        for listener in (INTERNAL, CONTROLLER):
            prefix = f"listener.name.{listener.lower()}"
            values[f"{prefix}.sasl.enabled.mechanisms"] = "PLAIN"
            values[f"{prefix}.plain.sasl.jaas.config"] = _plain_module(known, login)
        return values


def _certificates(directory: Path) -> Certificates:
    try:
        from .certs import Certificates
    except ModuleNotFoundError as error:
        raise MissingToolError(f"TLS needs certificates, and {error}: pip install cryptography") from error
    return Certificates(directory)


def _tls_properties(certificates: Certificates, *, sasl: bool) -> dict[str, object]:
    shown: dict[str, tuple[KeyPair, str]] = {
        TLS: (certificates.broker, "requested"),
        MUTUAL_TLS: (certificates.broker, "required"),
        EXPIRED_TLS: (certificates.expired_broker, "none"),
        WRONG_HOST_TLS: (certificates.wrong_host_broker, "none"),
    }
    if sasl:
        shown[SASL_TLS] = (certificates.broker, "none")
    values: dict[str, object] = {}
    for listener, (pair, client_auth) in shown.items():
        prefix = f"listener.name.{listener.lower()}.ssl"
        values |= {
            f"{prefix}.keystore.type": "PEM",
            f"{prefix}.keystore.key": pair.key,
            f"{prefix}.keystore.certificate.chain": pair.certificate,
            f"{prefix}.truststore.type": "PEM",
            f"{prefix}.truststore.certificates": certificates.authority.certificate,
            f"{prefix}.client.auth": client_auth,
        }
    return values


def _sasl_properties(listener: str, users: dict[str, str]) -> dict[str, object]:
    prefix = f"listener.name.{listener.lower()}"
    scram = f"{_MODULES}.scram.ScramLoginModule required;"
    return {
        f"{prefix}.sasl.enabled.mechanisms": _MECHANISMS,
        f"{prefix}.plain.sasl.jaas.config": _plain_module(users),
        f"{prefix}.scram-sha-256.sasl.jaas.config": scram,
        f"{prefix}.scram-sha-512.sasl.jaas.config": scram,
    }


def _plain_module(users: dict[str, str], login: str = "") -> str:
    known = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    return f"{_MODULES}.plain.PlainLoginModule required {login} {known};"
