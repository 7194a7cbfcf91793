"""0-RTT (RFC 9001 section 4.6, RFC 9000 section 7.4.1): its keys, what a client remembers, what rejection undoes."""

from __future__ import annotations

from collections.abc import Sequence

from fairway.quic.ack_frames import ACK, ACK_ECN
from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.frames import (
    CRYPTO,
    HANDSHAKE_DONE,
    MAX_DATA,
    MAX_STREAM_DATA,
    MAX_STREAMS_BIDI,
    MAX_STREAMS_UNI,
    NEW_TOKEN,
    PATH_RESPONSE,
    RESET_STREAM,
    RETIRE_CONNECTION_ID,
    STOP_SENDING,
)
from fairway.quic.packets.headers import PacketType, encode_long_header
from fairway.quic.packets.protection import TAG_LENGTH, Opener, Sealer
from fairway.quic.state import ConnectionState
from fairway.quic.transport_parameters import TransportParameters

FORBIDDEN_FRAMES = frozenset({ACK, ACK_ECN, CRYPTO, HANDSHAKE_DONE, NEW_TOKEN, PATH_RESPONSE, RETIRE_CONNECTION_ID})
"""What 0-RTT packets may not carry (RFC 9000 section 12.5)."""

_REPEATED = frozenset({RESET_STREAM, STOP_SENDING, MAX_DATA, MAX_STREAM_DATA, MAX_STREAMS_BIDI, MAX_STREAMS_UNI})

_LIMITS = (
    "initial_max_data",
    "initial_max_stream_data_bidi_local",
    "initial_max_stream_data_bidi_remote",
    "initial_max_stream_data_uni",
    "initial_max_streams_bidi",
    "initial_max_streams_uni",
    "active_connection_id_limit",
    "max_datagram_frame_size",
    "reset_stream_at",
)


class EarlyKeys:
    """The 0-RTT keys of one connection: a client seals with them, a server opens. None once they are discarded.

    0-RTT packets stay in the `version` that the client began with, whatever is negotiated (RFC 9369 section 4.1).
    """

    __slots__ = ("opener", "sealer", "version")

    def __init__(self, version: int, *, sealer: Sealer | None = None, opener: Opener | None = None) -> None:
        self.version = version
        self.sealer = sealer
        self.opener = opener

    def seal(self, destination: bytes, source: bytes, number: int, length: int, payloads: Sequence[bytes]) -> bytes:
        """0-RTT packets with consecutive numbers, one after the other."""
        assert self.sealer is not None
        packets = []
        for at, payload in enumerate(payloads, number):
            size = len(payload) + TAG_LENGTH
            header = encode_long_header(PacketType.ZERO_RTT, self.version, destination, source, at, length, size)
            packets.append(self.sealer.seal_long(header, at, length, payload))
        return b"".join(packets)


def remembered(parameters: TransportParameters) -> TransportParameters:
    """Of a server's parameters those that hold for 0-RTT (RFC 9000 section 7.4.1)."""
    limits = {name: getattr(parameters, name) for name in _LIMITS}
    return TransportParameters(
        max_idle_timeout_ms=parameters.max_idle_timeout_ms,
        max_udp_payload_size=parameters.max_udp_payload_size,
        disable_active_migration=parameters.disable_active_migration,
        **limits,
    )


def check_kept(before: TransportParameters, now: TransportParameters) -> None:
    """`PeerError` if a server that accepted early data takes less than it had promised (section 7.4.1)."""
    for name in _LIMITS:
        if getattr(now, name) < getattr(before, name):
            raise PeerError(
                ErrorCode.PROTOCOL_VIOLATION,
                f"{name} is less than early data was sent by",
                section="RFC 9000 section 7.4.1",
            )


def begin_anew(state: ConnectionState) -> None:
    """Nothing sent in 0-RTT packets has arrived, nor will: all of it is to be sent as new (a Retry, a rejection)."""
    space = state.application
    for run in space.sent.clear():
        for frame in run.frames:
            if frame[0] in _REPEATED:
                state.control[(frame[0], frame[1])] = None
    space.loss.due = None
    space.probes = 0
    state.outgoing.rewind()
    state.loss_timer_stale = True


def reject(state: ConnectionState) -> None:
    """The server rejected early data: what was remembered of it holds no more (RFC 9001 section 4.6.2)."""
    state.early = None
    begin_anew(state)
    state.outgoing.forget_peer()
    state.peer_parameters = TransportParameters()
