"""What arrives: buffers of datagrams in; packets opened, frames acted on. Nothing here sends.

`receive` takes a whole buffer of equal datagrams. Short header packets are opened as a batch; the pieces of a
stream that they carry in order are gathered and handed on in one step.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from fairway.quic.ack_frames import ACK, decode_ack
from fairway.quic.closing import abandon, heard_from_peer
from fairway.quic.delivery import Delivery
from fairway.quic.errors import ClosedBy, Closing, ErrorCode, PeerError, bad_encoding
from fairway.quic.frames import CRYPTO, MAX_OFFSET, PADDING, STREAM
from fairway.quic.handshake.early_data import FORBIDDEN_FRAMES
from fairway.quic.handshake.handshake import Handshake
from fairway.quic.limits import MIN_INITIAL_DATAGRAM
from fairway.quic.observe.observer import DropReason, ObservedPacket
from fairway.quic.packets.headers import (
    LONG_HEADER,
    Buffer,
    LongHeader,
    PacketType,
    parse_long_header,
)
from fairway.quic.packets.protection import INTEGRITY_LIMIT, Opener
from fairway.quic.paths.migration import Migration, is_probing
from fairway.quic.paths.path import Address, Local
from fairway.quic.receiving.dispatch import FrameHandlers
from fairway.quic.receiving.gather import Gatherer
from fairway.quic.receiving.kept_packets import KeptPackets
from fairway.quic.receiving.long_headers import LongHeaders
from fairway.quic.receiving.stream_frames import STREAM_MASK, take_streams
from fairway.quic.recovery.ecn import CE
from fairway.quic.spaces import PacketSpace, SpaceKind
from fairway.quic.state import ConnectionState, Phase
from fairway.wire import Reader, WireError

MIN_RESET = 21  # RFC 9000 section 10.3: the smallest datagram that can be a stateless reset

# Looking a member of an enum up costs ten times what a name of the module does.
_APPLICATION = SpaceKind.APPLICATION
_HANDSHAKE = SpaceKind.HANDSHAKE

_SPACE_OF_TYPE = {PacketType.INITIAL: SpaceKind.INITIAL, PacketType.HANDSHAKE: SpaceKind.HANDSHAKE}


class Receiver:
    """Takes in datagrams for one connection."""

    __slots__ = (
        "_closing_packets", "_delivery", "_forged", "_handlers", "_handshake", "_headers", "_heard", "_kept",
        "_migration", "_state",
    )  # fmt: skip

    def __init__(
        self,
        state: ConnectionState,
        delivery: Delivery,
        handshake: Handshake,
        handlers: FrameHandlers,
        migration: Migration,
    ) -> None:
        self._state = state
        self._delivery = delivery
        self._handshake = handshake
        self._handlers = handlers
        self._migration = migration
        self._headers = LongHeaders(state, handshake)
        self._kept = KeptPackets(state)
        self._heard = False
        """True if the buffer at hand has brought a genuine packet."""
        self._closing_packets = 0
        self._forged = 0
        """Packets that failed authentication, over the connection's life (RFC 9001 section 6.6)."""

    def receive(
        self, buffer: Buffer, segment: int, now: float, address: Address | None, local: Local, mark: int
    ) -> None:
        """Take in datagrams of `segment` bytes each, one after the other; the last may be shorter."""
        state = self._state
        size = len(buffer)
        path = self._migration.arrival(local, address)
        if path is None:
            return
        state.arrival, state.arrival_mark = path, mark
        path.bytes_received += size
        if state.phase is Phase.CLOSING:
            self._answer_while_closing(size, segment)
            return
        if not state.is_open or not size:
            return
        if not buffer[0] & LONG_HEADER and state.handshake_complete:
            self._short(buffer, size, segment, now)
        else:
            for start in range(0, size, segment):
                self._datagram(buffer, start, min(start + segment, size), now)
        if self._heard:
            self._heard = False
            if state.is_open:
                heard_from_peer(state, now)
        if not state.path.validated:
            state.loss_timer_stale = True  # more may be sent now: RFC 9002 section 6.2.2.1

    def _answer_while_closing(self, size: int, segment: int) -> None:
        """CONNECTION_CLOSE again, ever more rarely (RFC 9000 section 10.2.1)."""
        before = self._closing_packets
        self._closing_packets += -(-size // segment)
        if before.bit_length() != self._closing_packets.bit_length():
            self._state.close_pending = True

    # Long headers, and datagrams that may mix both kinds

    def _datagram(self, buffer: Buffer, start: int, end: int, now: float) -> None:
        state = self._state
        offset = start
        destination: bytes | None = None
        while offset < end and state.is_open:
            if not buffer[offset] & LONG_HEADER:
                if state.handshake_complete:
                    self._short(buffer[offset:end], end - offset, end - offset, now)
                else:
                    self._keep(buffer, offset, end, now)
                return
            try:
                header = parse_long_header(buffer, offset, end)
            except WireError:
                self._drop(DropReason.INVALID, end - offset, now)
                return
            # Section 12.2: coalesced packets for another connection ID are ignored.
            if destination is not None and header.destination != destination:
                self._drop(DropReason.UNKNOWN_CONNECTION, end - offset, now)
                return
            destination = header.destination
            if header.type is PacketType.VERSION_NEGOTIATION or header.type is PacketType.RETRY:
                self._headers.answered(buffer, offset, header, now)
                return
            reason = self._headers.why_not(header)
            if reason is not None:
                self._drop(reason, end - offset, now)
                return
            too_small = header.type is PacketType.INITIAL and end - start < MIN_INITIAL_DATAGRAM
            if not too_small or state.is_client:
                self._long(buffer, offset, header, now)
            else:
                self._drop(DropReason.INVALID, header.end - offset, now)
            offset = header.end

    def _drop(self, reason: DropReason, size: int, now: float) -> None:
        """A packet is not taken in."""
        state = self._state
        state.counters.packets_dropped += 1
        if state.watch is not None:
            state.watch.dropped(reason, size, now)

    def _keep(self, buffer: Buffer, start: int, end: int, now: float) -> None:
        """The keys of a packet are still to come."""
        if not self._kept.keep(buffer, start, end, now):
            self._drop(DropReason.NO_KEYS, end - start, now)

    def _long(self, buffer: Buffer, start: int, header: LongHeader, now: float) -> None:
        state = self._state
        kind = _SPACE_OF_TYPE.get(header.type) if header.type is not None else None
        if kind is None:
            self._early(buffer, start, header, now)
            return
        space = state.spaces[kind]
        if header.token and state.is_client:
            return  # RFC 9000 section 17.2.2: a server sends none
        if not space.can_open:
            if not space.discarded:
                self._keep(buffer, start, header.end, now)
            else:
                self._drop(DropReason.NO_KEYS, header.end - start, now)
            return
        opener = space.opener if header.version == state.version else self._handshake.initial_opener(header.version)
        opened = self._open_long(opener, space, buffer, start, header, now)
        if opened is None:
            return
        number, payload = opened
        if header.version != state.version and state.is_client and self._headers.may_go_over(header.version):
            self._handshake.go_over(header.version)
        self._count_long(space, number, payload, header.end - start, now)
        self._learn_from(header, space)
        self._heard = True
        in_order = space.received.add(number, number, now - state.waited_s)
        if state.arrival_mark:
            space.received.count_marks(state.arrival_mark, 1)
        keys = self._kept.keys()
        if self._frames(payload, space, now):
            space.received.elicit(1, in_order, now, 0.0)
        if keys != self._kept.keys():
            for packet in self._kept.take(now):
                self._datagram(packet, 0, len(packet), now)

    def _early(self, buffer: Buffer, start: int, header: LongHeader, now: float) -> None:
        """A 0-RTT packet (RFC 9001 section 4.6), which shares the application's packet numbers."""
        state = self._state
        early = state.early
        if early is None or early.opener is None:
            if not state.is_client and not state.handshake.can_seal and not state.handshake.discarded:
                self._keep(buffer, start, header.end, now)  # there was no ClientHello yet: section 5.7
            else:
                self._drop(DropReason.NO_KEYS, header.end - start, now)
            return
        space = state.application
        opened = self._open_long(early.opener, space, buffer, start, header, now)
        if opened is None:
            return
        number, payload = opened
        self._count_long(space, number, payload, header.end - start, now)
        self._heard = True
        in_order = space.received.add(number, number, now - state.waited_s)
        before = len(state.streams.opened)
        eliciting = self._frames(payload, space, now, FORBIDDEN_FRAMES)
        state.early_streams |= frozenset(state.streams.opened[before:])
        if eliciting and state.is_open:
            space.received.elicit(1, in_order, now, state.ack_delay_s)

    def _open_long(
        self, opener: Opener, space: PacketSpace, buffer: Buffer, start: int, header: LongHeader, now: float
    ) -> tuple[int, bytes] | None:
        """Number and payload of a packet that is genuine and new; any other is dropped."""
        received = space.received
        opened = opener.open_long(buffer, start, header, received.largest)
        if opened is None:
            self._drop(DropReason.NOT_OPENED, header.end - start, now)
        elif opened[0] <= received.largest and opened[0] in received:
            self._drop(DropReason.DUPLICATE, header.end - start, now)
        else:
            return opened
        return None

    def _count_long(self, space: PacketSpace, number: int, payload: bytes, size: int, now: float) -> None:
        state = self._state
        state.counters.packets_received += 1
        if state.watch is not None:
            state.watch.received(space.kind, [ObservedPacket(number, payload, size)], now)
        if not payload:
            raise _violation("a packet without frames", "RFC 9000 section 12.4")

    def _learn_from(self, header: LongHeader, space: PacketSpace) -> None:
        """What a genuine packet tells about the peer and the path."""
        state = self._state
        if not state.peer_seen:
            state.peer_seen = True
            if header.source != state.remote_ids.current:  # a server's first datagram may have been changed on its way
                state.remote_ids.replace_first(header.source)
        if space.kind is _HANDSHAKE and not state.is_client:
            state.path.validated = True  # section 8.1
            if not state.initial.discarded:
                state.initial.discard()  # RFC 9001 section 4.9.1
                state.pto_count = 0

    # Short headers

    def _short(self, buffer: Buffer, size: int, segment: int, now: float) -> None:
        """Short header packets, one a datagram."""
        state = self._state
        keys = state.application.keys
        after_id = 1 + state.local_ids.length
        destination = bytes(buffer[1:after_id])
        if keys is None:
            return
        if destination not in state.local_ids:
            self._unopened(buffer, 0, min(segment, size), DropReason.UNKNOWN_CONNECTION, now)
            for start in range(segment, size, segment):
                self._datagram(buffer, start, min(start + segment, size), now)
            return
        largest = state.application.received.largest
        numbers, payloads, others = keys.opener.open_batch(buffer, size, segment, destination, largest, keys.phase)
        if numbers:
            if keys.first_received is None:  # the peer followed our key update
                keys.first_received = numbers[0]
                keys.previous_until = now + 3 * state.probe_timeout_s
            self._handlers.destination = destination
            if state.watch is not None:
                self._show(numbers, payloads, size, segment, others, now)
            if state.arrival.spin.spins:
                self._spin(buffer, size, segment, numbers, others)
            self._application(numbers, payloads, now)
        for start, end in others:
            if not state.is_open:
                return
            if buffer[start] & LONG_HEADER:
                self._datagram(buffer, start, end, now)
            elif bytes(buffer[start + 1 : start + after_id]) != destination:
                self._short(buffer[start:end], end - start, end - start, now)
            else:
                self._other_phase(buffer, start, end, destination, now)

    def _other_phase(self, buffer: Buffer, start: int, end: int, destination: bytes, now: float) -> None:
        """A packet that the current keys did not open (RFC 9001 section 6.3 to 6.6)."""
        state = self._state
        space = state.application
        keys = space.keys
        assert keys is not None
        opened = keys.open_other(buffer, start, end, destination, space.received.largest, now)
        if opened is None:
            self._forged += 1
            if self._forged > INTEGRITY_LIMIT[keys.opener.suite]:
                raise PeerError(ErrorCode.AEAD_LIMIT_REACHED, "too many forged packets", section="RFC 9001 section 6.6")
            self._unopened(buffer, start, end, DropReason.NOT_OPENED, now)
            return
        number, payload, is_next = opened
        first = keys.first_received
        if is_next:
            if first is None or number < first:
                raise _key_update_error("a packet of the next key phase has a lower number")
            if space.next_number == keys.first_number and keys.updates:  # section 6.2: nobody has confirmed the last
                raise _key_update_error("keys are updated again before we have sent anything with the last ones")
            keys.update(space.next_number, number, now + 3 * state.probe_timeout_s)
        elif first is not None and number > first:
            raise _key_update_error("a packet of the previous key phase has a higher number")
        self._handlers.destination = destination
        if state.watch is not None:
            self._show([number], [payload], end - start, end - start, (), now)
        self._application([number], [payload], now)

    def _spin(
        self, buffer: Buffer, size: int, segment: int, numbers: Sequence[int], others: Sequence[tuple[int, int]]
    ) -> None:
        """The spin bit of packets that were opened, on the path that they came on (section 17.4)."""
        unopened = {start for start, _ in others}
        starts = [at for at in range(0, size, segment) if at not in unopened]
        number, start = max(zip(numbers, starts, strict=True))
        self._state.arrival.spin.heard(number, buffer[start])

    def _show(
        self,
        numbers: Sequence[int],
        payloads: Sequence[bytes],
        size: int,
        segment: int,
        others: Sequence[tuple[int, int]],
        now: float,
    ) -> None:
        """Tell the observers of opened packets in their order; `others` are the datagrams that did not open."""
        state = self._state
        assert state.watch is not None
        unopened = {start for start, _ in others}
        sizes = [min(segment, size - at) for at in range(0, size, segment) if at not in unopened]
        seen: set[int] = set()
        new = []
        for packet in map(ObservedPacket, numbers, payloads, sizes):
            if packet.number not in seen and packet.number not in state.application.received:
                new.append(packet)
            seen.add(packet.number)
        state.watch.received(SpaceKind.APPLICATION, new, now)

    def _unopened(self, buffer: Buffer, start: int, end: int, reason: DropReason, now: float) -> None:
        """A datagram that is none of our packets may be a stateless reset (RFC 9000 section 10.3.1)."""
        token = bytes(buffer[max(end - 16, start) : end])
        if end - start >= MIN_RESET:
            for known in self._state.remote_ids.reset_tokens:
                if hmac.compare_digest(known, token):
                    abandon(self._state, Closing(ClosedBy.RESET), now)
                    return
        self._drop(reason, end - start, now)

    def _application(self, numbers: Sequence[int], payloads: Sequence[bytes], now: float) -> None:
        """Opened 1-RTT packets in the order of their arrival."""
        state = self._state
        space = state.application
        received = space.received
        highest = received.largest
        if numbers[-1] > highest or any(number not in received for number in numbers):  # a replay is no sign of life
            self._heard = True
        eliciting = 0
        in_order = True
        came_at = now - state.waited_s
        if state.arrival_mark:
            fresh = len(numbers) if numbers[0] > highest else sum(number not in received for number in numbers)
            received.count_marks(state.arrival_mark, fresh)
            if state.arrival_mark == CE:
                received.ack_now = True  # RFC 9000 section 13.2.1
        for start, stop in _rows(numbers):
            first, last = numbers[start], numbers[stop - 1]
            if first > received.largest:
                eliciting += self._row(payloads[start:stop], now)
                in_order = received.add(first, last, came_at) and in_order
                continue
            in_order = False
            for index in range(start, stop):
                if numbers[index] not in received:
                    received.add(numbers[index], numbers[index], came_at)
                    eliciting += self._row(payloads[index : index + 1], now)
                else:  # RFC 9000 section 12.3
                    self._drop(DropReason.DUPLICATE, len(payloads[index]), now)
        if state.arrival is not state.path and state.is_open:
            self._elsewhere(numbers, payloads, highest, now)
        if eliciting and state.is_open:
            if not in_order and received.is_late(min(numbers)):
                received.ack_now = True
            received.elicit(eliciting, in_order, now, state.ack_delay_s)

    def _elsewhere(self, numbers: Sequence[int], payloads: Sequence[bytes], highest: int, now: float) -> None:
        """Packets came on a path that is not in use: the newest may tell that the peer has moved (section 9.3)."""
        moved = any(
            number > highest and not is_probing(payload) for number, payload in zip(numbers, payloads, strict=True)
        )
        self._migration.heard_on(self._state.arrival, moved=moved, now=now)

    def _row(self, payloads: Sequence[bytes], now: float) -> int:
        """Act on payloads of new packets; how many of them ask for an acknowledgement."""
        state = self._state
        gather = Gatherer(state)
        eliciting = index = 0
        count = len(payloads)
        state.counters.packets_received += count
        while index < count and state.is_open:
            after = gather.take(payloads, index)
            eliciting += after - index
            index = after
            if index < count:
                gather.flush()
                if not payloads[index]:
                    raise _violation("a packet without frames", "RFC 9000 section 12.4")
                eliciting += self._frames(payloads[index], state.application, now)
                index += 1
        gather.flush()
        return eliciting

    def _frames(self, payload: bytes, space: PacketSpace, now: float, forbidden: frozenset[int] = frozenset()) -> bool:
        """Act on all frames of a packet; True if one of them asks for an acknowledgement."""
        reader, end = Reader(payload), len(payload)
        state, handle = self._state, self._handlers.handle
        eliciting = False
        streams_allowed = space.kind is _APPLICATION
        while reader.offset < end and state.is_open:
            frame_type = payload[reader.offset]
            if frame_type in forbidden:
                raise _violation(f"frame {frame_type:#x} in a 0-RTT packet", "RFC 9000 section 12.5")
            if frame_type & STREAM_MASK == STREAM and streams_allowed:
                reader.offset = take_streams(state, payload, reader.offset)
                eliciting = True
            elif frame_type == PADDING:
                reader.offset = _after_padding(payload, reader.offset)
            elif frame_type == ACK:
                reader.offset += 1
                try:
                    ranges, delay = decode_ack(reader)
                except WireError as error:
                    raise bad_encoding(ACK, "the packet ends within a frame") from error
                self._delivery.on_ack(space, ranges, delay, now)
            elif frame_type == CRYPTO:
                reader.offset += 1
                self._crypto(reader, space, now)
                eliciting = True
            elif handle(reader, space, now):
                eliciting = True
        return eliciting

    def _crypto(self, reader: Reader, space: PacketSpace, now: float) -> None:
        """A CRYPTO frame, whose type is read."""
        try:
            offset = reader.varint()
            data = reader.take(reader.varint())
        except WireError as error:
            raise bad_encoding(CRYPTO, "the packet ends within a frame") from error
        if offset + len(data) > MAX_OFFSET:
            raise bad_encoding(CRYPTO, "CRYPTO data passes 2^62 - 1")
        try:
            self._handshake.receive(space, offset, data, now)
        except PeerError as error:
            error.frame_type = error.frame_type or CRYPTO
            raise


def _rows(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Where in `numbers` consecutive ones stand: start and stop of each row."""
    count = len(numbers)
    first = numbers[0]
    if list(range(first, first + count)) == numbers:  # the common case, in one comparison
        return [(0, count)]
    starts = [0, *(i for i in range(1, count) if numbers[i] != numbers[i - 1] + 1)]
    return list(zip(starts, [*starts[1:], count], strict=True))


def _after_padding(payload: bytes, offset: int) -> int:
    """Where the next frame is, if any; mostly a packet is filled up with PADDING to its end: one comparison."""
    rest = payload[offset:]
    if rest == bytes(len(rest)):
        return len(payload)
    return len(payload) - len(rest.lstrip(b"\0"))


def _violation(reason: str, section: str) -> PeerError:
    return PeerError(ErrorCode.PROTOCOL_VIOLATION, reason, section=section)


def _key_update_error(reason: str) -> PeerError:
    return PeerError(ErrorCode.KEY_UPDATE_ERROR, reason, section="RFC 9001 section 6.4")
