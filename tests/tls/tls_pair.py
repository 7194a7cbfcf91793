"""A client and a server in memory, and an authority for them. The clock stands still, randomness is seeded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fairway.tls import (
    ClientConfig,
    ClientSession,
    Complete,
    CryptoData,
    Event,
    Identity,
    Level,
    NewSecret,
    ServerConfig,
    ServerSession,
)
from fairway.tls.development import generate_key
from fairway.tls.signatures import PrivateKey

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)

CLIENT_PARAMETERS = b"the client's parameters"
SERVER_PARAMETERS = b"the server's parameters"


def now() -> datetime:
    return NOW


class Seeded:
    """The same bytes for the same seed."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._count = 0

    def __call__(self, length: int) -> bytes:
        self._count += 1
        return hashlib.shake_128(f"{self._seed} {self._count}".encode()).digest(length)


@cache
def key(label: str, key_type: str) -> PrivateKey:
    """The same key for the same label; making RSA keys takes long."""
    del label
    return generate_key(key_type)


class Authority:
    """Issues certificates; `parent` makes it an intermediate one."""

    def __init__(
        self,
        name: str = "authority",
        key_type: str = "p256",
        parent: Authority | None = None,
        usage: x509.KeyUsage | None = None,
    ) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = key(name, key_type)
        self.parent = parent
        issuer = self if parent is None else parent
        builder = _builder(self.name, issuer.name, self.key, NOW - 30 * DAY, NOW + 365 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        if usage is not None:
            builder = builder.add_extension(usage, critical=True)
        self.certificate = _sign(builder, issuer.key)

    def issue(
        self,
        *names: str,
        key_type: str = "p256",
        days: tuple[int, int] = (-1, 30),
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        more: x509.ExtensionType | None = None,
    ) -> Identity:
        """An identity for `names`, valid for these days around now, with the chain up to the root, which stays out."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
        leaf_key = key("leaf", key_type)
        builder = _builder(subject, self.name, leaf_key, NOW + days[0] * DAY, NOW + days[1] * DAY)
        if names:
            alternative = x509.SubjectAlternativeName([_general_name(name) for name in names])
            builder = builder.add_extension(alternative, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if more is not None:
            builder = builder.add_extension(more, critical=False)
        chain = [_sign(builder, self.key)]
        authority = self
        while authority.parent is not None:
            chain.append(authority.certificate)
            authority = authority.parent
        return Identity(tuple(certificate.public_bytes(Encoding.DER) for certificate in chain), leaf_key)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, subject_key: PrivateKey, start: datetime, stop: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(subject_key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(stop)


def _sign(builder: x509.CertificateBuilder, issuer_key: PrivateKey) -> x509.Certificate:
    return builder.sign(issuer_key, hashes.SHA256())


@cache
def root() -> Authority:
    return Authority()


def client_config(server_name: str | None = "localhost", **changes: object) -> ClientConfig:
    settings: dict[str, object] = {"alpn": ("h3",), "ca": [root().certificate], **changes}
    return ClientConfig(server_name, **settings)  # type: ignore[arg-type]


def server_config(*identities: Identity, **changes: object) -> ServerConfig:
    settings: dict[str, object] = {"alpn": ("h3",), **changes}
    return ServerConfig(identities or (localhost(),), **settings)  # type: ignore[arg-type]


@cache
def localhost() -> Identity:
    return root().issue("localhost")


def new_client(config: ClientConfig | None = None, seed: str = "client") -> ClientSession:
    return ClientSession(config or client_config(), CLIENT_PARAMETERS, random=Seeded(seed), now=now)


def new_server(config: ServerConfig | None = None, seed: str = "server") -> ServerSession:
    return ServerSession(config or server_config(), SERVER_PARAMETERS, random=Seeded(seed), now=now)


@dataclass
class Pair:
    """Runs a handshake. `step` is into how many bytes what is sent is cut."""

    client: ClientSession
    server: ServerSession
    step: int = 1 << 20
    client_events: list[Event] = field(default_factory=list)
    server_events: list[Event] = field(default_factory=list)

    def run(self) -> Pair:
        from_client = self.client.start()
        self.client_events += from_client
        while from_client:
            from_server = self._deliver(from_client, self.server)
            self.server_events += from_server
            from_client = self._deliver(from_server, self.client)
            self.client_events += from_client
        return self

    def _deliver(self, events: Sequence[Event], to: ClientSession | ServerSession) -> list[Event]:
        answers = []
        for level, data in sent(events):
            for start in range(0, len(data), self.step):
                answers += to.receive(level, data[start : start + self.step])
        return answers

    @property
    def client_complete(self) -> Complete:
        return next(event for event in self.client_events if isinstance(event, Complete))

    @property
    def server_complete(self) -> Complete:
        return next(event for event in self.server_events if isinstance(event, Complete))


def run(client: ClientConfig | None = None, server: ServerConfig | None = None, step: int = 1 << 20) -> Pair:
    return Pair(new_client(client), new_server(server), step).run()


def sent(events: Sequence[Event]) -> list[tuple[Level, bytes]]:
    return [(event.level, event.data) for event in events if isinstance(event, CryptoData)]


def secrets(events: Sequence[Event], sending: bool) -> dict[Level, bytes]:
    return {event.level: event.secret for event in events if isinstance(event, NewSecret) and event.sending == sending}


def split(data: bytes) -> list[bytes]:
    """The messages in `data`, each with its header."""
    messages = []
    while data:
        length = 4 + int.from_bytes(data[1:4], "big")
        messages.append(data[:length])
        data = data[length:]
    return messages
