"""What an endpoint says of itself in its transport parameters.

What all connections of a configuration share is encoded once, what differs from one to the next is put behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from fairway.quic.configuration import QuicConfiguration
from fairway.quic.connection_ids import IssuedId
from fairway.quic.handshake.version_negotiation import served_version
from fairway.quic.limits import ACTIVE_CONNECTION_ID_LIMIT
from fairway.quic.transport_parameters import (
    PreferredAddress,
    TransportParameters,
    decode_parameters,
    encode_parameters,
    encode_reserved,
)
from fairway.quic.version_information import encode_version_information
from fairway.tls import TicketContext

MIN_ACK_DELAY_US = 1000
"""The least delay of an acknowledgement that a peer may ask for: what the caller's clock surely tells apart."""

Random = Callable[[int], bytes]


@lru_cache(maxsize=32)
def shared_parameters(configuration: QuicConfiguration) -> tuple[TransportParameters, bytes]:
    """What all connections of a configuration say of themselves, and how it is encoded."""
    parameters = TransportParameters(
        max_idle_timeout_ms=int(configuration.idle_timeout_s * 1000),
        initial_max_data=configuration.connection_window,
        initial_max_stream_data_bidi_local=configuration.stream_window,
        initial_max_stream_data_bidi_remote=configuration.stream_window,
        initial_max_stream_data_uni=configuration.stream_window,
        initial_max_streams_bidi=configuration.max_streams_bidi,
        initial_max_streams_uni=configuration.max_streams_uni,
        max_ack_delay_ms=int(configuration.max_ack_delay_s * 1000),
        max_datagram_frame_size=configuration.max_datagram_frame_size,
        active_connection_id_limit=ACTIVE_CONNECTION_ID_LIMIT,
        disable_active_migration=configuration.disable_active_migration,
        grease_quic_bit=True,
        reset_stream_at=True,
        min_ack_delay_us=min(MIN_ACK_DELAY_US, int(configuration.max_ack_delay_s * 1000) * 1000),
    )
    return parameters, encode_parameters(parameters)


def of_this_connection(configuration: QuicConfiguration, version: int, random: Random) -> bytes:
    """The version that is spoken, and something to be ignored (RFC 9000 section 18.1), for one connection."""
    unpredictable = random(8)
    versions = encode_version_information(version, configuration.spoken_versions)
    return versions(unpredictable[:4]) + encode_reserved(unpredictable[4:])


@lru_cache(maxsize=64)
def ticket_context(configuration: QuicConfiguration, version: int) -> TicketContext:
    """What tickets are bound to: to a version (RFC 9369 section 5), early data also to what it went by.

    A server takes early data only while it allows what it did when the ticket was issued, in QUIC (RFC 9000
    section 7.4.1) and in the protocol above (RFC 9001 section 4.6.3).
    """
    name = version.to_bytes(4, "big")
    goes_by = name + shared_parameters(configuration)[1] + configuration.early_context
    return TicketContext(name, hashlib.sha256(goes_by).digest()[:16])


def preferred_address(configuration: QuicConfiguration, issued: IssuedId) -> bytes:
    """The encoded parameter of a server that would rather be reached elsewhere (section 9.6)."""
    ipv4, port4 = configuration.preferred_ipv4 or ("0.0.0.0", 0)
    ipv6, port6 = configuration.preferred_ipv6 or ("::", 0)
    packed4, packed6 = IPv4Address(ipv4).packed, IPv6Address(ipv6).packed
    preferred = PreferredAddress(packed4, port4, packed6, port6, issued.connection_id, issued.reset_token)
    return encode_parameters(TransportParameters(preferred_address=preferred))


class ServerParameters:
    """A server's transport parameters, which depend on the client's: on what versions that offers (RFC 9368).

    Called with the client's by TLS, it gives the server's.
    """

    __slots__ = ("_configuration", "_encoded", "_original", "_peer", "_random", "version")

    def __init__(self, configuration: QuicConfiguration, encoded: bytes, version: int, random: Random) -> None:
        """`encoded` are the parameters but for `of_this_connection`; `version` is that of the client's packets."""
        self._configuration = configuration
        self._encoded = encoded
        self._original = version
        self._random = random
        self._peer: TransportParameters | None = None
        self.version = version
        """What the server answers in, once the client's parameters were read."""

    def __call__(self, peer: bytes) -> bytes:
        """The server's parameters."""
        self.read(peer)
        return self._encoded + of_this_connection(self._configuration, self.version, self._random)

    def read(self, peer: bytes) -> TransportParameters:
        """The client's parameters, which settle the version; they are read once. `PeerError` where they are wrong."""
        if self._peer is None:
            self._peer = decode_parameters(peer, from_client=True)
            preferred = self._configuration.versions or ()
            self.version = served_version(self._original, preferred, self._peer.version_information)
        return self._peer

    def ticket_context(self) -> TicketContext:
        """What tickets of this connection are bound to."""
        return ticket_context(self._configuration, self.version)
