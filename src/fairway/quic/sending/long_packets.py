"""Datagrams of the handshake: Initial and Handshake packets, coalesced and padded (RFC 9000 section 12.2, 14.1)."""

from __future__ import annotations

from collections.abc import Callable

from fairway.quic.ack_frames import ACK, encode_ack
from fairway.quic.errors import ErrorCode
from fairway.quic.frames import CRYPTO, PING, ConnectionClose, crypto_header
from fairway.quic.limits import MIN_INITIAL_DATAGRAM
from fairway.quic.packets.headers import PacketType, encode_long_header, long_header_size
from fairway.quic.packets.protection import TAG_LENGTH
from fairway.quic.recovery.sent import Run
from fairway.quic.spaces import PacketSpace, SpaceKind
from fairway.quic.state import ConnectionState
from fairway.wire import varint_length

NUMBER_LENGTH = 2  # handshakes have few packets
MIN_PAYLOAD = 4 - NUMBER_LENGTH  # so that a sample for header protection exists: RFC 9001 section 5.4.2
MIN_ROOM = 64  # a further packet is not begun in less room than this
_OVERHEAD = long_header_size(0, 0, NUMBER_LENGTH, None) + TAG_LENGTH
_CRYPTO_OVERHEAD = 8  # a CRYPTO frame's type, offset and length at their longest here

_TYPES = {SpaceKind.INITIAL: PacketType.INITIAL, SpaceKind.HANDSHAKE: PacketType.HANDSHAKE}


class _Draft:
    """A packet before it is sealed."""

    __slots__ = ("eliciting", "frames", "payload", "space")

    def __init__(
        self, space: PacketSpace, payload: bytes, frames: tuple[tuple[int, ...], ...], eliciting: bool
    ) -> None:
        self.space = space
        self.payload = payload
        self.frames = frames
        self.eliciting = eliciting


class LongPackets:
    """Builds the datagrams that carry Initial and Handshake packets."""

    __slots__ = ("_short_packet", "_state")

    def __init__(self, state: ConnectionState, short_packet: Callable[[int, float], bytes]) -> None:
        self._state = state
        self._short_packet = short_packet
        """Gives a 1-RTT packet of at most so many bytes, nothing if none is due: it goes where padding would."""

    def build(self, now: float) -> bytes | None:
        """The next handshake datagram."""
        state = self._state
        initial, handshake = state.initial, state.handshake
        waiting = []
        if initial.can_seal and initial.wants_to_send:
            waiting.append(initial)
        if handshake.can_seal and handshake.wants_to_send:
            waiting.append(handshake)
        if not waiting:
            return None
        limit = min(MIN_INITIAL_DATAGRAM, state.path.send_allowance)
        drafts: list[_Draft] = []
        used = 0
        for space in waiting:
            overhead = self._overhead(space)
            room = limit - used - overhead
            if room < MIN_ROOM:
                continue
            draft = self._draft(space, room, now)
            if draft is not None:
                drafts.append(draft)
                used += overhead + len(draft.payload)
        if not drafts:
            return None
        short = b""
        padded = drafts[0].space is initial and (state.is_client or drafts[0].eliciting)
        if padded:
            if limit < MIN_INITIAL_DATAGRAM:
                self._give_back(drafts)
                return None
            short = self._short_packet(MIN_INITIAL_DATAGRAM - used, now)
            drafts[-1].payload += bytes(MIN_INITIAL_DATAGRAM - used - len(short))
        return self._seal(drafts, padded, now) + short

    def _overhead(self, space: PacketSpace) -> int:
        state = self._state
        size = _OVERHEAD + len(state.remote_ids.current) + len(state.handshake_id)
        if space is state.initial:
            size += varint_length(len(state.token)) + len(state.token) if state.token else 1
        return size

    def _draft(self, space: PacketSpace, room: int, now: float) -> _Draft | None:
        parts: list[bytes | memoryview] = []
        records: list[tuple[int, ...]] = []
        received = space.received
        probing = space.probes > 0
        sends_more = probing or (space.crypto_pending and self._window_free())
        owed = received.eliciting and (received.ack_now or received.ack_at is not None or sends_more)
        if owed or (probing and received):  # a probe says again what has arrived: that was lost, perhaps
            delay = int((now - received.largest_at) * 1e6) >> self._state.local_parameters.ack_delay_exponent
            ack = encode_ack(received.ranges(), max(delay, 0), counts=received.ecn)
            parts.append(ack)
            records.append((ACK, received.largest))
            room -= len(ack)
            received.ack_sent()
        acks = len(parts)
        if probing and not space.crypto_pending:  # a further probe: what the peer may lack helps it more than a PING
            out = space.crypto_out
            out.declared_lost(out.start, min(out.sent, out.start + room - _CRYPTO_OVERHEAD))
        if sends_more:
            while room > _CRYPTO_OVERHEAD and (piece := space.take_crypto(room - _CRYPTO_OVERHEAD)) is not None:
                offset, data = piece
                header = crypto_header(offset, len(data))
                parts += (header, data)
                records.append((CRYPTO, offset, len(data)))
                room -= len(header) + len(data)
            if probing and len(parts) == acks:
                parts.append(b"\x01")
                records.append((PING, 0))
        if not parts:
            return None
        return _Draft(space, b"".join(parts).ljust(MIN_PAYLOAD, b"\0"), tuple(records), len(parts) > acks)

    def _window_free(self) -> bool:
        """Early data is not counted: its acknowledgements can be read only when the handshake has gone on."""
        state = self._state
        in_flight = state.initial.sent.bytes_in_flight + state.handshake.sent.bytes_in_flight
        return state.path.controller.window - in_flight >= MIN_INITIAL_DATAGRAM

    def _give_back(self, drafts: list[_Draft]) -> None:
        """The datagram may not be sent now: its handshake bytes wait on."""
        for draft in drafts:
            for record in draft.frames:
                if record[0] == CRYPTO:
                    draft.space.crypto_out.declared_lost(record[1], record[1] + record[2])
                elif record[0] == ACK:
                    draft.space.received.eliciting = 1
                    draft.space.received.ack_now = True

    def _seal(self, drafts: list[_Draft], padded: bool, now: float) -> bytes:
        state = self._state
        controller = state.path.controller
        out = []
        for draft in drafts:
            space, number = draft.space, draft.space.next_number
            packet = self._packet(space, draft.payload, now)
            if draft.eliciting or padded:  # nobody is owed an answer to a bare ACK: it is not remembered
                size = len(packet)
                space.sent.add(Run(number, 1, size, now, -1, 0, 0, False, draft.frames, draft.eliciting))
                controller.on_sent(now, size, number)
            if draft.eliciting:
                space.last_eliciting_at = now
                if space.probes:
                    space.probes -= 1
            out.append(packet)
        if state.is_client and drafts[-1].space is state.handshake and not state.initial.discarded:
            state.initial.discard()  # RFC 9001 section 4.9.1
            state.pto_count = 0
        state.loss_timer_stale = True
        return b"".join(out)

    def _packet(self, space: PacketSpace, payload: bytes, now: float) -> bytes:
        """Seal a payload with the space's next packet number."""
        state = self._state
        number = space.next_number
        space.next_number += 1
        header = encode_long_header(
            _TYPES[space.kind],
            state.version,
            state.remote_ids.current,
            state.handshake_id,
            number,
            NUMBER_LENGTH,
            len(payload) + TAG_LENGTH,
            state.token if space is state.initial else b"",
            state.fixed_bit.next(),
        )
        if state.watch is not None:
            state.watch.sent(space.kind, number, [payload], len(header) + TAG_LENGTH, now)
        return space.sealer.seal_long(header, number, NUMBER_LENGTH, payload)

    def close(self, frame: ConnectionClose, now: float) -> bytes:
        """One datagram that ends the connection at every level that the peer may be at (section 10.2.3)."""
        state = self._state
        hidden = frame
        if frame.application:  # an application's reason is not for those who see the handshake
            hidden = ConnectionClose(ErrorCode.APPLICATION_ERROR)
        packets = []
        short = self._short_close(frame, now)
        fill = 0
        for space in (state.initial, state.handshake):
            if not space.can_seal:
                continue
            payload = hidden.encode()
            if space.kind is SpaceKind.INITIAL:
                others = len(short) + (
                    self._overhead(state.handshake) + len(payload) if state.handshake.can_seal else 0
                )
                fill = MIN_INITIAL_DATAGRAM - others - self._overhead(space) - len(payload)
                if state.path.send_allowance < MIN_INITIAL_DATAGRAM:
                    fill = 0
                payload += bytes(max(fill, 0))
            packets.append(self._packet(space, payload, now))
        return b"".join([*packets, short])

    def _short_close(self, frame: ConnectionClose, now: float) -> bytes:
        state = self._state
        space = state.application
        if space.keys is None:
            return b""
        number = space.next_number
        space.next_number += 1
        payload, destination = frame.encode(), state.remote_ids.current
        if state.watch is not None:
            state.watch.sent(space.kind, number, [payload], 1 + len(destination) + 4 + TAG_LENGTH, now)
        return space.keys.sealer.seal(state.first_byte(state.path), destination, number, 4, [payload])
