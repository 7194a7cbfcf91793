"""Short header packets: batches of 1-RTT packets, and of 0-RTT packets before there are keys for those.

A batch is a list of payloads of equal length, but for the last, with consecutive packet numbers; it is sealed and
masked at once. A mixed packet carries acknowledgements, control frames and pieces of several streams; the others
carry one stream's bytes and are remembered as one run.
"""

from __future__ import annotations

from fairway.quic.ack_frames import ACK, IMMEDIATE_ACK, encode_ack
from fairway.quic.closing import restart_idle
from fairway.quic.datagrams import Datagrams
from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.frames import CRYPTO, DATAGRAM, PING, STREAM, STREAM_OFF, Datagram, crypto_header
from fairway.quic.packets.headers import long_header_size, number_length
from fairway.quic.packets.protection import TAG_LENGTH, ApplicationKeys
from fairway.quic.recovery.sent import Run
from fairway.quic.sending.control import render
from fairway.quic.sending.stream_turns import MIN_STREAM_ROOM, StreamTurns
from fairway.quic.spaces import ACK_EVERY, PacketSpace
from fairway.quic.state import ConnectionState, Phase
from fairway.quic.streams.send import SendStream
from fairway.quic.timers import Timer
from fairway.wire import encode_varint

MAX_BATCH_BYTES = 65507  # the largest UDP payload over IPv4
MIN_PAYLOAD = 4  # so that a sample for header protection exists: RFC 9001 section 5.4.2
PAD_FROM = 7 / 8  # a packet as full as this is padded to the length of the others, where more follow: one batch
PING_EVERY = 32  # packets without ack-eliciting frames before one asks for an acknowledgement
LIMITED_PACKETS = 1 + ACK_EVERY
"""The window is used (RFC 9002 section 7.8) if less than so many more packets fit: an acknowledgement has just freed
some, and a part of a packet is of no use. A flow of single small packets never fills a window to the last byte."""

SKIP_WINDOWS = 4  # a packet number is skipped about once in so many congestion windows
SKIPS_KEPT = 8
_FOREVER = float("inf")
_IMMEDIATE_ACK = bytes((IMMEDIATE_ACK,))
_FOUR_BYTES = 1 << 30  # offsets below it fit a variable-length integer of four bytes
_CONFIRMED = Phase.CONFIRMED  # looking a member of an enum up costs ten times what a name of the module does


class ShortPackets:
    """Builds batches of packets with short headers, and of 0-RTT packets."""

    __slots__ = ("_datagrams", "_eliciting", "_had_datagrams", "_overhead", "_skip_at", "_state", "_turns")

    def __init__(self, state: ConnectionState) -> None:
        self._state = state
        self._skip_at = 32 + state.random(1)[0] % 64  # nobody may foresee the first one either
        self._overhead = 0
        self._eliciting = False
        self._turns = StreamTurns(state)
        self._datagrams: Datagrams | None = None
        """Those that go into the batch at hand before streams do."""
        self._had_datagrams = False
        """True if the last batch had some."""

    def build(self, now: float, max_segments: int, size: int) -> tuple[bytes | None, int]:
        """A buffer of packets of up to `size` bytes, and the length of each."""
        state = self._state
        space = state.application
        keys, early = space.keys, state.early
        if keys is None and (early is None or early.sealer is None):
            return None, 0
        if not self.wanted(now):
            return None, 0
        path = state.path
        most = min(max_segments, MAX_BATCH_BYTES // size)
        allowed = self._allowed(space, now, size)
        destination = state.remote_ids.current
        length = 2 if number_length(space.next_number + most, space.largest_acked) <= 2 else 4
        if keys is not None:
            self._maintain(space, keys)
            self._overhead = 1 + len(destination) + length + TAG_LENGTH
        else:
            self._overhead = long_header_size(len(destination), len(state.handshake_id), length, None) + TAG_LENGTH
        first = space.next_number
        self._eliciting = False
        in_flight_before = space.sent.bytes_in_flight
        payloads = self._fill(space, size - self._overhead, min(most, allowed), now)
        self._note_limits(space, allowed < most and len(payloads) >= allowed, now, size)
        if not payloads:
            return None, 0
        if keys is not None:
            data = keys.sealer.seal(state.first_byte(path), destination, first, length, payloads)
        else:
            assert early is not None
            data = early.seal(destination, state.handshake_id, first, length, payloads)
            state.counters.early_bytes_sent += len(data)
        if state.watch is not None:
            state.watch.sent(space.kind, first, payloads, self._overhead, now)
        sent = space.sent.bytes_in_flight - in_flight_before
        if sent:
            path.controller.on_sent(now, sent, space.next_number - 1)
            path.pacer.spend(sent)
        if self._eliciting:
            space.last_eliciting_at = now
            if not state.sent_since_receive:
                state.sent_since_receive = True
                restart_idle(state, now)
            state.loss_timer_stale = True
        return data, len(payloads[0]) + self._overhead

    def wanted(self, now: float) -> bool:
        """Whether a packet has something to carry now."""
        state = self._state
        return bool(state.streams.schedule) or self._mixed_wanted(state.application, now)

    def build_within(self, room: int, now: float) -> bytes:
        """A packet that goes into a handshake datagram's `room`; empty if there is none to send."""
        if not self._state.streams_usable or room < MIN_STREAM_ROOM:
            return b""
        return self.build(now, 1, room)[0] or b""

    def _allowed(self, space: PacketSpace, now: float, size: int) -> int:
        """Full packets that window, pacer and address validation let go now."""
        state = self._state
        path = state.path
        window = path.controller.window
        free = window - state.bytes_in_flight
        budget = path.pacer.budget(now, window, path.rtt.smoothed, path.packet_size)
        allowed = max(min(free, budget, path.send_allowance) // size, 0)
        return max(allowed, 1) if space.probes else allowed

    def _note_limits(self, space: PacketSpace, held: bool, now: float, size: int) -> None:
        """Whether the window or the pacer held data up, and when the pacer lets more go."""
        state = self._state
        waiting = bool(state.streams.schedule or state.control) or space.crypto_pending or self._datagrams_wait
        free = state.path.controller.window - state.bytes_in_flight
        if waiting and held:
            state.limited_at = now
            if state.path.validated and free >= size:
                state.timers.set(Timer.PACING, max(state.path.pacer.next_at(size), now))
        elif free < LIMITED_PACKETS * size:
            state.limited_at = now

    def _maintain(self, space: PacketSpace, keys: ApplicationKeys) -> None:
        """Update worn keys, and now and then skip a packet number (RFC 9000 section 21.4)."""
        state = self._state
        if keys.sealer.worn and state.phase is _CONFIRMED and not keys.awaiting:
            keys.update(space.next_number, None, _FOREVER)
        if keys.sealer.exhausted:
            raise PeerError(
                ErrorCode.AEAD_LIMIT_REACHED, "the peer does not follow a key update", section="RFC 9001 6.6"
            )
        if space.next_number >= self._skip_at:
            space.skipped = (*space.skipped[1 - SKIPS_KEPT :], space.next_number)
            space.next_number += 1
            state.counters.numbers_skipped += 1
            period = max(64, SKIP_WINDOWS * state.path.controller.window // state.path.packet_size)
            spread = int.from_bytes(state.random(4), "big") % period
            self._skip_at = space.next_number + period // 2 + spread

    def _fill(self, space: PacketSpace, room: int, allowed: int, now: float) -> list[bytes]:
        """Payloads of `room` bytes, but for the last, and their records."""
        payloads: list[bytes] = []
        state = self._state
        if state.datagrams is not None and allowed > 0:
            self._take_turns(state.datagrams)
        if self._mixed_wanted(space, now):
            self._mixed(space, payloads, room, allowed > 0, now)
        if self._datagrams is not None:
            self._fill_datagrams(space, payloads, room, allowed, now)
        self._fill_streams(space, payloads, room, allowed, now)
        if not payloads and self._datagrams_wait:  # the streams, whose turn it was, are blocked
            self._datagrams = state.datagrams
            self._fill_datagrams(space, payloads, room, allowed, now)
        self._turns.end_batch()
        return payloads

    def _take_turns(self, datagrams: Datagrams) -> None:
        """Where both wait, datagrams and streams come first in every other batch: neither starves the other."""
        first = bool(datagrams.waiting) and not (self._had_datagrams and self._state.streams.schedule)
        self._datagrams = datagrams if first else None
        self._had_datagrams = False

    def _fill_datagrams(self, space: PacketSpace, payloads: list[bytes], room: int, allowed: int, now: float) -> None:
        """Packets of datagrams; none is longer than the first of the batch, and one that is shorter is the last."""
        while self._datagrams_wait and len(payloads) < allowed:
            size = len(payloads[0]) if payloads else room
            count = len(payloads)
            if count and len(payloads[-1]) < size:
                return
            self._mixed(space, payloads, size, True, now)
            if len(payloads) == count:
                return

    def _fill_streams(self, space: PacketSpace, payloads: list[bytes], room: int, allowed: int, now: float) -> None:
        """Packets of streams, of `room` bytes but for the last."""
        while len(payloads) < allowed and (not payloads or len(payloads[-1]) == room):
            ready = self._turns.next()
            if ready is None:
                break
            stream, offset, length, new = ready
            step = room - self._run_header(stream, offset + length)
            count = min(length // step, allowed - len(payloads))
            if stream.fin and offset + count * step == stream.buffer.end:
                count -= 1  # the last bytes carry the end of the stream, in a mixed packet
            if count <= 0:
                self._mixed(space, payloads, room, True, now)
                continue
            self._run(space, payloads, stream, offset, step, count, new, now)

    def _run_header(self, stream: SendStream, end: int) -> int:
        return 1 + len(encode_varint(stream.stream_id)) + (4 if end < _FOUR_BYTES else 8)

    def _run(
        self,
        space: PacketSpace,
        payloads: list[bytes],
        stream: SendStream,
        offset: int,
        step: int,
        count: int,
        new: bool,
        now: float,
    ) -> None:
        """`count` packets that carry `step` bytes of one stream each, remembered as one run."""
        total = count * step
        data = stream.buffer.peek(offset, total)
        # A STREAM frame without a length: the data reaches to the packet's end. All offsets have one width.
        head = bytes((STREAM | STREAM_OFF,)) + encode_varint(stream.stream_id)
        width, mark = (4, 0x80000000) if offset + total < _FOUR_BYTES else (8, 0xC000000000000000)
        base = mark | offset
        payloads += [head + (base + at).to_bytes(width, "big") + data[at : at + step] for at in range(0, total, step)]
        size = self._overhead + len(head) + width + step
        space.sent.add(Run(space.next_number, count, size, now, stream.stream_id, offset, step))
        space.next_number += count
        space.probes = max(space.probes - count, 0)
        space.unacknowledged_acks = 0
        self._eliciting = True
        self._turns.sent(stream, offset, total, new)
        self._turns.over(stream)

    # Mixed packets

    def _mixed_wanted(self, space: PacketSpace, now: float) -> bool:
        state = self._state
        received = space.received
        if received.ack_at is not None and received.ack_at <= now:
            received.ack_now = True
        return bool(
            received.ack_now
            or state.control
            or space.probes
            or space.crypto_pending
            or (received.eliciting and state.streams.schedule)
            or (state.datagrams is not None and state.datagrams.waiting)
        )

    @property
    def _datagrams_wait(self) -> bool:
        datagrams = self._state.datagrams
        return datagrams is not None and bool(datagrams.waiting)

    def _mixed(self, space: PacketSpace, payloads: list[bytes], room: int, free: bool, now: float) -> None:
        """One packet of whatever is due; without `free` room in the window, of an acknowledgement only."""
        state = self._state
        parts: list[bytes | memoryview] = []
        records: list[tuple[int, ...]] = []
        received = space.received
        left = room
        # A probe says again what has arrived: that may be what the peer waits for, and what was lost.
        if (received.eliciting and (free or received.ack_now)) or (space.probes and free and received):
            delay = int((now - received.largest_at) * 1e6) >> state.local_parameters.ack_delay_exponent
            parts.append(encode_ack(received.ranges(), max(delay, 0), counts=received.ecn))
            records.append((ACK, received.largest))
            left -= len(parts[0])
            received.ack_sent()
        acks = len(parts)
        if free:
            if space.probes and state.peer_parameters.min_ack_delay_us is not None:
                parts.append(_IMMEDIATE_ACK)
                records.append((PING, 0))  # it is repeated as little
                left -= 1
            left = self._add_control(space, parts, records, left, now)
            if self._datagrams is not None:
                left = self._add_datagrams(self._datagrams, parts, records, left)
            left = self._turns.add_pieces(parts, records, left)
            if len(parts) == acks and (space.probes or space.unacknowledged_acks >= PING_EVERY):
                parts.append(b"\x01")
                records.append((PING, 0))
        if not parts:
            return
        eliciting = len(parts) > acks
        payload = b"".join(parts)
        minimum = room if len(payload) >= PAD_FROM * room and self._goes_on(payloads) else MIN_PAYLOAD
        if len(payload) < minimum:  # PADDING goes in front, as the last frame may reach to the packet's end
            payload = payload.rjust(minimum, b"\0")
        payloads.append(payload)
        if eliciting:
            size = self._overhead + len(payload)
            space.sent.add(Run(space.next_number, 1, size, now, frames=tuple(records)))
            self._eliciting = True
            space.probes = max(space.probes - 1, 0)
            space.unacknowledged_acks = 0
        else:  # nobody acknowledges it, and nothing follows if it is lost: it is not remembered
            space.unacknowledged_acks += 1
        space.next_number += 1

    def _goes_on(self, payloads: list[bytes]) -> bool:
        """Whether more packets follow if this one has the length of the others, `payloads`."""
        if self._state.streams.schedule:
            return True
        return bool(payloads) and self._datagrams is not None and bool(self._datagrams.waiting)

    def _add_control(
        self, space: PacketSpace, parts: list[bytes | memoryview], records: list[tuple[int, ...]], left: int, now: float
    ) -> int:
        """CRYPTO and control frames, as many as fit; gives the room that is left."""
        state = self._state
        while left > 16 and (piece := space.take_crypto(left - 12)) is not None:
            offset, data = piece
            header = crypto_header(offset, len(data))
            parts += (header, data)
            records.append((CRYPTO, offset, len(data)))
            left -= len(header) + len(data)
        for key in list(state.control):
            encoded = render(state, key, now)
            if encoded is not None:
                if len(encoded) > left:
                    break
                parts.append(encoded)
                records.append(key)
                left -= len(encoded)
            del state.control[key]
        return left

    def _add_datagrams(
        self, datagrams: Datagrams, parts: list[bytes | memoryview], records: list[tuple[int, ...]], left: int
    ) -> int:
        """Datagrams in their order, as many as fit; gives the room that is left."""
        waiting = datagrams.waiting
        limit = self._state.peer_parameters.max_datagram_frame_size
        count = 0
        while waiting and left > 0:
            frame = Datagram(waiting.first)
            if frame.size > min(left, limit):
                frame = Datagram(frame.data, explicit_length=False)
            if frame.size > left:
                if frame.size <= self._state.path.packet_size - self._overhead:
                    break
                waiting.pop()  # no packet carries it any more: the peer's connection IDs have grown
                datagrams.lost += 1
                continue
            parts.append(frame.encode())
            left = left - frame.size if frame.explicit_length else 0
            waiting.pop()
            count += 1
        if count:
            records.append((DATAGRAM, count))
            datagrams.sent += count
            self._had_datagrams = True
        return left
