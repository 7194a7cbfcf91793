"""What a session tells the QUIC layer, in the order in which it must act on it.

Those that every handshake has are not frozen dataclasses, which would double the time that it takes to make one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from fairway.tls.cipher_suites import CipherSuite


class Level(IntEnum):
    """The encryption levels of RFC 9001 section 2.1, in the order in which keys come to be."""

    INITIAL = 0
    EARLY = 1
    HANDSHAKE = 2
    APPLICATION = 3


@dataclass(slots=True)
class CryptoData:
    """Bytes to send in CRYPTO frames of `level`, after all that went before."""

    level: Level
    data: bytes


@dataclass(slots=True)
class NewSecret:
    """A traffic secret; `sending` is ours, the other is the peer's."""

    level: Level
    sending: bool
    cipher_suite: CipherSuite
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PeerParameters:
    """The peer's raw quic_transport_parameters extension. It is not authenticated before `Complete`."""

    data: bytes


class Complete(NamedTuple):
    """The handshake is complete (RFC 9001 section 4.1.1): the peer's Finished is verified and ours is sent.

    `group` is the code of the key exchange; `peer_certificates` are DER, the leaf first, empty if the peer sent none.
    """

    alpn: str | None
    cipher_suite: CipherSuite
    group: int
    peer_certificates: tuple[bytes, ...]
    resumed: bool
    server_name: str | None


@dataclass(frozen=True, slots=True)
class SessionTicket:
    """A ticket that a server gave (RFC 8446 section 4.6.1) with all that a later connection needs to use it.

    `secret` is the pre-shared key; `early_data` is whether the server takes 0-RTT with it.
    """

    ticket: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    lifetime_s: int
    age_add_ms: int
    early_data: bool
    received_at: datetime
    cipher_suite: CipherSuite
    alpn: str | None
    server_name: str | None
    peer_certificates: tuple[bytes, ...] = ()
    """The server's, as it showed them when the session began."""
    identity: bytes = b""
    """The hash of our own certificate, if we had one."""


@dataclass(frozen=True, slots=True)
class EarlyData:
    """What becomes of early data (RFC 8446 section 4.2.10): a client learns whether it was accepted, a server that."""

    accepted: bool
    alpn: str | None = None
    server_name: str | None = None


Event = CryptoData | NewSecret | PeerParameters | Complete | SessionTicket | EarlyData
