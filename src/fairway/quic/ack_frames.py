# ruff: noqa: D102 - the contract of every `encode` and `decode` stands at `frames.Frame`
"""The frames about acknowledgements: ACK (RFC 9000 section 19.3), and those of draft-ietf-quic-ack-frequency-14.

By the latter a sender of data asks for fewer acknowledgements, or for one at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from fairway.quic.errors import bad_encoding
from fairway.wire import Reader, encode_varints

ACK = 0x02
ACK_ECN = 0x03
IMMEDIATE_ACK = 0x1F
ACK_FREQUENCY = 0xAF


@dataclass(frozen=True, slots=True)
class EcnCounts:
    """The counts of an ACK frame of type 0x03 (section 19.3.2)."""

    ect0: int
    ect1: int
    ce: int


@dataclass(frozen=True, slots=True)
class Ack:
    """ACK (section 19.3). `ranges` are (first, last) inclusive, the largest first; `delay` is unscaled."""

    ranges: tuple[tuple[int, int], ...]
    delay: int
    ecn: EcnCounts | None = None

    def encode(self) -> bytes:
        out = [encode_ack(self.ranges, self.delay, ecn=self.ecn is not None)]
        if self.ecn is not None:
            out.append(encode_varints(self.ecn.ect0, self.ecn.ect1, self.ecn.ce))
        return b"".join(out)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        ranges, delay = decode_ack(reader)
        ecn = None
        if frame_type == ACK_ECN:
            ecn = EcnCounts(reader.varint(), reader.varint(), reader.varint())
        return cls(tuple(ranges), delay, ecn)


def encode_ack(
    ranges: tuple[tuple[int, int], ...], delay: int, *, ecn: bool = False, counts: tuple[int, int, int] | None = None
) -> bytes:
    """An ACK frame for inclusive ranges, the largest first; with `ecn` but for its counts, or with them."""
    ecn = ecn or counts is not None
    first, largest = ranges[0]
    if largest < 64 and delay < 64 and len(ranges) == 1 and not ecn:  # a handshake's: every field is one byte
        return bytes((ACK, largest, delay, 0, largest - first))
    out = [ACK_ECN if ecn else ACK, largest, delay, len(ranges) - 1, largest - first]
    smallest = first
    for first, last in ranges[1:]:
        out += (smallest - last - 2, last - first)
        smallest = first
    return encode_varints(*out, *(counts or ()))


def decode_ack(reader: Reader) -> tuple[list[tuple[int, int]], int]:
    """What follows an ACK frame's type: its inclusive ranges, largest first, and the unscaled delay.

    The number of ranges is bounded by the packet that holds them, their values by those that were sent.
    """
    largest = reader.varint()
    delay = reader.varint()
    count = reader.varint()
    first = largest - reader.varint()
    if first < 0:
        raise bad_encoding(ACK, "an ACK range goes below packet number 0")
    ranges = [(first, largest)]
    for _ in range(count):
        last = first - reader.varint() - 2
        first = last - reader.varint()
        if first < 0:
            raise bad_encoding(ACK, "an ACK range goes below packet number 0")
        ranges.append((first, last))
    return ranges, delay


@dataclass(frozen=True, slots=True)
class AckFrequency:
    """ACK_FREQUENCY (draft-ietf-quic-ack-frequency-14 section 4): how the sender of data wants to be acknowledged."""

    sequence: int
    threshold: int
    """Ack-eliciting packets that may arrive without an acknowledgement: one more is followed by one."""
    max_delay_us: int
    reordering: int
    """How far packets may be out of order before one is sent at once; 0: that never makes one be sent."""

    def encode(self) -> bytes:
        return encode_varints(ACK_FREQUENCY, self.sequence, self.threshold, self.max_delay_us, self.reordering)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls(reader.varint(), reader.varint(), reader.varint(), reader.varint())


@dataclass(frozen=True, slots=True)
class ImmediateAck:
    """IMMEDIATE_ACK (draft-ietf-quic-ack-frequency-14 section 5)."""

    def encode(self) -> bytes:
        return bytes((IMMEDIATE_ACK,))

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls()
