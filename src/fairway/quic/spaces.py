"""The three packet number spaces (RFC 9000 section 12.3): what each has received, sent, and has keys for."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from fairway.quic.limits import MAX_ACK_RANGES, MAX_ACK_RANGES_SENT
from fairway.quic.packets.protection import ApplicationKeys, Opener, Sealer
from fairway.quic.recovery.ecn import CE, ECT_0, ECT_1
from fairway.quic.recovery.loss import LossDetector
from fairway.quic.recovery.sent import SentPackets
from fairway.quic.streams.recv import Assembler
from fairway.quic.streams.send import SendBuffer
from fairway.wire import RangeSet

ACK_EVERY = 2  # RFC 9000 section 13.2.2: acknowledge at least every second ack-eliciting packet


_ALL = 1 << 62  # above every packet number


class SpaceKind(IntEnum):
    """The packet number spaces; 0-RTT packets share the application's."""

    INITIAL = 0
    HANDSHAKE = 1
    APPLICATION = 2


class ReceivedNumbers:
    """Packet numbers that arrived, and when they have to be acknowledged (RFC 9000 section 13.2)."""

    __slots__ = (
        "_floor", "_ranges", "_reported", "ack_at", "ack_now", "ecn", "eliciting", "largest", "largest_at",
        "reordering", "threshold",
    )  # fmt: skip

    def __init__(self) -> None:
        self._ranges = RangeSet()
        self._floor = 0
        """Everything below is taken as received: its ranges were dropped or acknowledged."""
        self.largest = -1
        self.largest_at = 0.0
        self.eliciting = 0
        """Ack-eliciting packets since the last ACK was sent."""
        self.ecn: tuple[int, int, int] | None = None
        """Packets that came with ECT(0), ECT(1) and CE (RFC 9000 section 13.4.1); None if none was ever marked."""
        self.ack_at: float | None = None
        self.ack_now = False
        self._reported = -1
        """The largest number in an ACK frame of ours."""
        self.threshold = ACK_EVERY - 1
        """Ack-eliciting packets that may be left unacknowledged (draft-ietf-quic-ack-frequency-14 section 4)."""
        self.reordering = 1
        """How far packets may be out of order before that is acknowledged at once; 0: it never is."""

    def __contains__(self, number: int) -> bool:
        return number < self._floor or number in self._ranges

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def add(self, first: int, last: int, now: float) -> bool:
        """Packets `first` to `last` arrived, none of them a duplicate; True if they are in order."""
        in_order = first == self.largest + 1
        self._ranges.add(first, last + 1)
        if last > self.largest:
            self.largest = last
            self.largest_at = now
        if not in_order and len(self._ranges) > MAX_ACK_RANGES:
            self._floor = max(self._floor, self._ranges.pop_first()[1])
        return in_order

    def elicit(self, count: int, in_order: bool, now: float, delay_s: float) -> None:
        """`count` of the packets that just arrived want an acknowledgement within `delay_s`."""
        self.eliciting += count
        if self.eliciting > self.threshold or self._alarmed(in_order):
            self.ack_now = True
        elif self.ack_at is None:
            self.ack_at = now + delay_s

    def _alarmed(self, in_order: bool) -> bool:
        """Whether what is missing is to be told at once."""
        return not in_order if self.reordering == 1 else self._shows_loss()

    def _shows_loss(self) -> bool:
        """Whether the peer would take a packet for lost if it knew what is here: `reordering` after it have come.

        What was reported as missing before is not looked at again (draft-ietf-quic-ack-frequency-14 section 6.2).
        """
        ranges = self._ranges
        if len(ranges) < 2:
            return False
        if len(ranges) > MAX_ACK_RANGES_SENT // 2:  # soon there would be more than an ACK frame tells
            return True
        if not self.reordering:
            return False
        told = self._reported - self.reordering
        for at in range(len(ranges) - 1, 0, -1):
            missing = max(ranges[at - 1][1], told + 1)  # the first one of this gap that was not reported
            if missing >= ranges[at][0]:
                return False
            if self.largest - missing >= self.reordering:
                return True
        return False

    def is_late(self, number: int) -> bool:
        """Whether a packet came so late that the peer takes it for lost, as it was reported missing (section 6.2)."""
        return self.reordering > 1 and number <= self._reported - self.reordering

    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Inclusive ranges for an ACK frame, the largest first."""
        ranges = self._ranges
        if len(ranges) == 1:
            first, stop = ranges[0]
            return ((first, stop - 1),)
        count = min(len(ranges), MAX_ACK_RANGES_SENT)
        return tuple((ranges[-i][0], ranges[-i][1] - 1) for i in range(1, count + 1))

    def ack_sent(self) -> None:
        """An ACK frame with `ranges` left."""
        self._reported = self.largest
        self.eliciting = 0
        self.ack_at = None
        self.ack_now = False

    def close(self) -> None:
        """Nothing more is taken in or acknowledged."""
        self.ack_sent()
        self._ranges.clear()
        self._floor = _ALL

    def count_marks(self, mark: int, count: int) -> None:
        """So many of the packets that arrived had this mark in their IP header."""
        ect0, ect1, ce = self.ecn or (0, 0, 0)
        self.ecn = (ect0 + count * (mark == ECT_0), ect1 + count * (mark == ECT_1), ce + count * (mark == CE))

    def wait_for_room(self) -> None:
        """Nothing may be sent now: an acknowledgement that is owed goes with the next packet, not at its time."""
        if self.ack_at is not None:
            self.ack_at, self.ack_now = None, True

    def forget_below(self, number: int) -> None:
        """The peer knows that packets below `number` arrived (section 13.2.4); the largest stays reported."""
        number = min(number, self.largest)
        if number > self._floor:
            self._floor = number
            self._ranges.remove(0, number)


class PacketSpace:
    """One packet number space."""

    __slots__ = (
        "_opener", "_sealer", "can_open", "can_seal", "crypto_in", "crypto_out", "discarded", "keys", "kind",
        "largest_acked", "last_eliciting_at", "loss", "next_number", "probes", "received", "sent", "skipped",
        "unacknowledged_acks",
    )  # fmt: skip

    def __init__(self, kind: SpaceKind) -> None:
        self.kind = kind
        self.can_seal = False
        """True while there are keys to seal handshake packets with."""
        self.can_open = False
        """True while there are keys to open handshake packets with."""
        self._sealer: Sealer | Callable[[], Sealer] | None = None
        self._opener: Opener | Callable[[], Opener] | None = None
        self.keys: ApplicationKeys | None = None
        """The application space's; the others have `sealer` and `opener`."""
        self.discarded = False
        self.received = ReceivedNumbers()
        self.next_number = 0
        self.largest_acked = -1
        self.sent = SentPackets()
        self.loss = LossDetector(self.sent)
        self.last_eliciting_at = 0.0
        self.probes = 0
        """Packets to send whatever the congestion window says (RFC 9002 section 6.2.4)."""
        self.crypto_out = SendBuffer()
        self.crypto_in = Assembler()
        self.skipped: tuple[int, ...] = ()
        """Packet numbers that were never used: who acknowledges one has not seen what it acknowledges."""
        self.unacknowledged_acks = 0
        """Packets without an ack-eliciting frame since the last one with."""

    @property
    def can_send(self) -> bool:
        """True while there are keys to seal with."""
        return self.can_seal or self.keys is not None

    def seal_with(self, make: Callable[[], Sealer]) -> None:
        """Seal with what `make` gives; it is called when there is something to seal."""
        self._sealer, self.can_seal = make, True

    def open_with(self, make: Callable[[], Opener]) -> None:
        """Open with what `make` gives; it is called when there is something to open."""
        self._opener, self.can_open = make, True

    @property
    def sealer(self) -> Sealer:
        """What seals the space's packets, while it `can_seal`."""
        if not isinstance(self._sealer, Sealer):
            assert self._sealer is not None
            self._sealer = self._sealer()
        return self._sealer

    @property
    def opener(self) -> Opener:
        """What opens the space's packets, while it `can_open`."""
        if not isinstance(self._opener, Opener):
            assert self._opener is not None
            self._opener = self._opener()
        return self._opener

    @property
    def crypto_pending(self) -> bool:
        """True if handshake bytes wait to be sent."""
        out = self.crypto_out
        return out.end > out.sent or bool(out.lost)

    @property
    def wants_to_send(self) -> bool:
        """True if an acknowledgement, a probe or handshake bytes may be due."""
        out = self.crypto_out
        return self.received.eliciting > 0 or self.probes > 0 or out.end > out.sent or bool(out.lost)

    def take_crypto(self, room: int) -> tuple[int, memoryview | bytes] | None:
        """The next handshake bytes that wait, at most `room`, and their offset; they go into a packet now."""
        out = self.crypto_out
        if out.lost:
            offset, stop = out.lost[0]
            length = min(stop - offset, room)
            out.lost.remove(offset, offset + length)
        else:
            offset = out.sent
            length = min(out.end - offset, room)
            if not length:
                return None
            out.sent = offset + length
        return offset, out.peek(offset, length)

    def discard(self) -> None:
        """Drop keys and all state (RFC 9001 section 4.9)."""
        if self.discarded:
            return
        self._sealer = self._opener = self.keys = None
        self.can_seal = self.can_open = False
        self.discarded = True
        self.sent.clear()
        self.loss.due = None
        self.received.close()
        out = self.crypto_out
        out.clear()
        out.start = out.sent = out.end
        if self.crypto_in.gaps:
            self.crypto_in = Assembler(self.crypto_in.end)
        self.probes = 0
