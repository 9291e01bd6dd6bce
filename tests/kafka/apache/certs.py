"""Certificates for tests: an authority for brokers and clients, and all that either side has to refuse.

Everything is generated, lives for a day, and lies in one directory as PEM files.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_HOUR = datetime.timedelta(hours=1)
_DAY = datetime.timedelta(days=1)
#: Names under which clients reach the brokers.
BROKER_HOSTS = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key (PKCS#8, not encrypted), as PEM text and as files."""

    common_name: str
    certificate: str = field(repr=False)
    key: str = field(repr=False)
    certificate_file: Path
    key_file: Path

    @property
    def principal(self) -> str:
        """What Kafka calls a client with this certificate."""
        return f"User:CN={self.common_name}"


class Authority:
    """A certificate authority; its certificate is ``<name>.pem``, its key stays in memory."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        now = datetime.datetime.now(datetime.timezone.utc)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            self._builder(self._name, self._key, now - 2 * _DAY, now + _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = directory / f"{name}.pem"
        self.certificate = _pem(certificate)
        self.file.write_text(self.certificate)

    def issue(self, common_name: str, *, hosts: Sequence[str] = (), expired: bool = False) -> KeyPair:
        """A certificate for a client, or with ``hosts`` for a broker; its files bear its name."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        end = now - _HOUR if expired else now + _DAY
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            self._builder(_name(common_name), key, now - _DAY, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(each) for each in hosts]), False
            )
        certificate = (
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        certificate_file = self._directory / f"{common_name}.pem"
        key_file = self._directory / f"{common_name}.key"
        certificate_file.write_text(certificate)
        write_secret(key_file, private)
        return KeyPair(common_name, certificate, private, certificate_file, key_file)

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        begin: datetime.datetime,
        end: datetime.datetime,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )


class Certificates:
    """One cluster's certificates: those that work, and those that must not."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        #: Signs brokers and clients; both sides trust it.
        self.authority = Authority(directory, "ca")
        #: Nobody trusts it: a client that does refuses the brokers.
        self.other_authority = Authority(directory, "other-ca")
        self.client = self.authority.issue("client")
        #: A super user, where there is an authorizer.
        self.admin = self.authority.issue("admin")
        self.expired_client = self.authority.issue("expired-client", expired=True)
        #: A client that the brokers do not know: the other authority signed it.
        self.stranger = self.other_authority.issue("stranger")
        self.broker = self.authority.issue("broker", hosts=BROKER_HOSTS)
        self.expired_broker = self.authority.issue("expired-broker", hosts=BROKER_HOSTS, expired=True)
        self.wrong_host_broker = self.authority.issue("wrong-host-broker", hosts=["broker.example.org"])

    def issue(self, common_name: str) -> KeyPair:
        """A new client certificate, for tests that need a principal of their own."""
        return self.authority.issue(common_name)


def write_secret(path: Path, text: str) -> None:
    """Writes a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text(text)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
