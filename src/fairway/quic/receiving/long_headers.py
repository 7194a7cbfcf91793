"""Long headers before any key is tried: is a packet for this connection, and in a version that it speaks?

And what a client may get instead of a handshake: Version Negotiation and Retry (RFC 9000 section 6.2 and 17.2.5).
"""

from __future__ import annotations

import hmac

from fairway.quic.closing import abandon
from fairway.quic.errors import ClosedBy, Closing
from fairway.quic.handshake.handshake import Handshake
from fairway.quic.handshake.version_negotiation import after_version_negotiation
from fairway.quic.limits import MAX_TOKEN_BYTES
from fairway.quic.observe.observer import DropReason
from fairway.quic.packets.headers import VERSION_NEGOTIATION, Buffer, LongHeader, PacketType, parse_versions
from fairway.quic.packets.protection import retry_tag
from fairway.quic.state import ConnectionState
from fairway.wire import WireError


class LongHeaders:
    """Judges the long headers of one connection."""

    __slots__ = ("_handshake", "_state")

    def __init__(self, state: ConnectionState, handshake: Handshake) -> None:
        self._state = state
        self._handshake = handshake

    def why_not(self, header: LongHeader) -> DropReason | None:
        """Why a packet is not for this connection; None if it is."""
        state = self._state
        if header.version == state.version == state.original_version:  # nothing was negotiated, or not yet
            speaks = True
        elif header.type is PacketType.ZERO_RTT:
            speaks = header.version == state.original_version
        elif header.type is PacketType.INITIAL:
            speaks = header.version in (state.version, state.original_version) or self.may_go_over(header.version)
        else:
            speaks = header.version == state.version
        if not speaks:
            return DropReason.UNSUPPORTED
        return None if self._is_ours(header) else DropReason.UNKNOWN_CONNECTION

    def may_go_over(self, version: int) -> bool:
        """Whether a client's server may answer in this version (RFC 9369 section 4.1): before it has said anything."""
        state = self._state
        settled = state.version != state.original_version or state.handshake.can_open
        return state.is_client and not settled and version in state.configuration.spoken_versions

    def answered(self, buffer: Buffer, start: int, header: LongHeader, now: float) -> None:
        """Version Negotiation or Retry: a client heeds one, before anything else arrived."""
        state = self._state
        if not state.is_client or state.peer_seen or header.destination != state.handshake_id:
            return
        if header.version == VERSION_NEGOTIATION:
            self._version_negotiation(buffer, header, now)
            return
        if self._handshake.retry_source is not None or not header.token or header.version != state.version:
            return
        original = self._handshake.original_destination
        if header.source == original or len(header.token) > MAX_TOKEN_BYTES:  # RFC 9000 section 17.2.5.1
            return
        # The unused bits of the first byte are covered by the tag: take the packet as it came.
        packet = bytes(buffer[start : header.number_offset])
        tag = retry_tag(state.version, original, packet)
        if not hmac.compare_digest(tag, bytes(buffer[header.number_offset : header.end])):
            return
        self._handshake.follow_retry(header.source, header.token)
        state.loss_timer_stale = True

    def _version_negotiation(self, buffer: Buffer, header: LongHeader, now: float) -> None:
        """Version Negotiation (section 6.2): heeded once, before anything else came, if it may be meant for us."""
        handshake = self._handshake
        if header.source != handshake.original_destination or handshake.reacted or handshake.retry_source is not None:
            return
        try:
            versions = parse_versions(buffer, header)
        except WireError:
            return
        state = self._state
        if state.version in versions:
            return
        version = after_version_negotiation(state.configuration.spoken_versions, versions)
        if version is None:
            offered = ", ".join(f"{version:#x}" for version in versions[:8])
            abandon(state, Closing(ClosedBy.VERSION, reason=f"the server speaks {offered}"), now)
        else:
            handshake.begin_again(version, now)

    def _is_ours(self, header: LongHeader) -> bool:
        state = self._state
        if header.destination not in state.local_ids and (
            state.is_client or header.destination != self._handshake.original_destination
        ):
            return False
        # Section 7.2: the peer's choice of connection ID holds once it is known.
        return not state.peer_seen or header.source == state.remote_ids.current
