"""What all the states of a handshake stand on: the state's own form, and what the states of one connection share."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import ClassVar, Protocol

from fairway.tls.alerts import AlertDescription, TlsAlert
from fairway.tls.cipher_suites import CipherSuite
from fairway.tls.events import CryptoData, Event, Level, NewSecret
from fairway.tls.extensions import Extensions, ExtensionType
from fairway.tls.key_schedule import Transcript, finished_mac
from fairway.tls.messages import HandshakeType


class State(Protocol):
    """One state of a handshake. It holds what is valid then, and no more.

    `level` is where messages must arrive; `accepts` has the legal messages and the most bytes of each.
    """

    level: ClassVar[Level]
    accepts: ClassVar[Mapping[int, int]]

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """Take a message that `accepts` has, whole as `message`; give the next state. `TlsAlert` or `WireError`."""


class Handshake:
    """What the states of one handshake share: the clock, randomness, the transcript, and the events that go out."""

    __slots__ = ("client", "client_random", "events", "keylog", "now", "random", "transcript")

    def __init__(
        self,
        *,
        client: bool,
        random: Callable[[int], bytes],
        now: Callable[[], datetime],
        keylog: Callable[[str], None] | None,
    ) -> None:
        self.client = client
        self.random = random
        self.now = now
        self.keylog = keylog
        self.events: list[Event] = []
        self.transcript = Transcript()
        self.client_random = b""

    def send(self, level: Level, message: bytes) -> None:
        """Send messages at `level` that are in the transcript already."""
        self.events.append(CryptoData(level, message))

    def install(
        self, level: Level, suite: CipherSuite, client_secret: bytes | None, server_secret: bytes | None
    ) -> None:
        """Announce the traffic secrets of `level` and log them. One that is not yet to be used is None."""
        if server_secret is not None:
            self.events.append(NewSecret(level, not self.client, suite, server_secret))
        if client_secret is not None:
            self.events.append(NewSecret(level, self.client, suite, client_secret))

    def log(self, label: str, secret: bytes) -> None:
        """Write a line of the NSS key log format, if anybody reads it."""
        if self.keylog is not None:
            self.keylog(f"{label} {self.client_random.hex()} {secret.hex()}")

    def check_finished(self, hash_name: str, secret: bytes, verify_data: bytes) -> None:
        """`TlsAlert` unless the peer's Finished fits the transcript up to it (RFC 8446 section 4.4.4)."""
        expected = finished_mac(hash_name, secret, self.transcript.digest())
        if not hmac.compare_digest(expected, verify_data):
            raise TlsAlert(AlertDescription.DECRYPT_ERROR, "Finished does not fit", "RFC 8446 section 4.4.4")


def require(extensions: Extensions, kind: ExtensionType, section: str) -> bytes:
    """The body of an extension that must be there; `TlsAlert` if it is not."""
    body = extensions.get(kind)
    if body is None:
        raise TlsAlert(AlertDescription.MISSING_EXTENSION, f"{kind.name.lower()} is missing", section)
    return body


def check_offered(received: Extensions, legal: frozenset[int], offered: Extensions, section: str) -> None:
    """`TlsAlert` for an extension that was not offered, or that does not belong in this message."""
    for kind in received:
        if kind not in legal:
            if kind in offered:
                raise illegal(f"extension {kind} is in the wrong message", "RFC 8446 section 4.2")
            raise TlsAlert(AlertDescription.UNSUPPORTED_EXTENSION, f"extension {kind} was not offered", section)


def illegal(reason: str, section: str) -> TlsAlert:
    """The alert for a field that parses but breaks a rule."""
    return TlsAlert(AlertDescription.ILLEGAL_PARAMETER, reason, section)


class Done:
    """A handshake that takes no further message: a server's once it is complete."""

    level: ClassVar[Level] = Level.APPLICATION
    accepts: ClassVar[Mapping[int, int]] = {}

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """Never called, as nothing is accepted."""
        raise TlsAlert(
            AlertDescription.UNEXPECTED_MESSAGE, f"message {HandshakeType(kind).name} is late", "RFC 8446 section 4"
        )
