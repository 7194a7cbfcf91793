"""The fast path of bulk transfer: packets whose only frame is the next piece of one stream, handed on together.

A sender fills packet after packet with one stream. Once the first packet of a row was parsed, the STREAM header of the
next is known: the offset is its last field, so as one integer it grows by the length of each piece. Where the bytes
differ from that, the packet is parsed from the start; where it is no such packet, it is left to the frames' table.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairway.quic.events import StreamReadable
from fairway.quic.frames import STREAM, STREAM_LEN, STREAM_OFF
from fairway.quic.state import ConnectionState
from fairway.quic.streams.recv import ReceiveStream

_MINIMUM = 32  # bytes of a payload whose first STREAM header surely lies within it
_MOST = 1 << 16  # bytes of one packet at most
_WIDTHS = {1: 1 << 6, 2: 1 << 14, 4: 1 << 30, 8: 1 << 62}
"""Offsets that a variable-length integer of so many bytes holds (RFC 9000 section 16)."""

_from_bytes = int.from_bytes


class Gatherer:
    """Collects the pieces of one stream until something else comes."""

    __slots__ = (
        "_expected", "_header", "_incoming", "_pieces", "_room", "_size", "_state", "_stream", "_stream_id", "_streams",
    )  # fmt: skip

    def __init__(self, state: ConnectionState) -> None:
        self._state = state
        self._streams = state.streams
        self._incoming = state.incoming
        self._stream: ReceiveStream | None = None
        self._stream_id = -1
        self._expected = 0
        self._room = 0
        self._pieces: list[bytes] = []
        self._size = 0
        """Length of the header that the next packet should have; 0 if it cannot be foretold."""
        self._header = 0

    def take(self, payloads: Sequence[bytes], index: int) -> int:
        """Take payloads from `index` on as long as they are such packets; the index of the first that is not.

        The caller must `flush` before it does anything else.
        """
        count = len(payloads)
        while index < count and self._parse(payloads[index], count - index):
            index += 1
            size = self._size
            if not size:
                continue
            header, expected, room, append = self._header, self._expected, self._room, self._pieces.append
            while index < count:
                payload = payloads[index]
                if _from_bytes(payload[:size], "big") != header:
                    break
                piece = payload[size:]
                length = len(piece)
                if expected + length > room:
                    break
                expected += length
                header += length
                append(piece)
                index += 1
            self._expected = expected
        return index

    def _parse(self, payload: bytes, left: int) -> bool:
        """Take one payload if it is the next piece of a stream; foretell the header of up to `left` further ones."""
        size = len(payload)
        if size < _MINIMUM or payload[0] & 0xF9 != STREAM:  # another frame, or the last of its stream
            return False
        kind, stream_id, at = payload[0], payload[1], 2
        if stream_id >= 0x40:
            if stream_id >= 0x80:
                return False
            stream_id = (stream_id & 0x3F) << 8 | payload[2]
            at = 3
        offset = width = 0
        if kind & STREAM_OFF:
            width = 1 << (payload[at] >> 6)
            offset = _from_bytes(payload[at : at + width], "big") & (_WIDTHS[width] - 1)
            at += width
        header = at
        if kind & STREAM_LEN:
            end = at + (1 << (payload[at] >> 6))
            length = _from_bytes(payload[at:end], "big") & ((1 << (8 * (end - at) - 2)) - 1)
            at = end
            if at + length != size:
                return False
        if offset != self._expected or stream_id != self._stream_id:
            self.flush()
            if not self._follow(stream_id, offset):
                return False
        length = size - at
        if offset + length > self._room:
            return False
        self._expected = offset + length
        self._pieces.append(payload[at:])
        # The foretold header must not outgrow its width: then the bytes would mean something else.
        foretold = not kind & STREAM_LEN and width and offset + (left + 1) * _MOST < _WIDTHS[width]
        self._size = header if foretold else 0
        self._header = _from_bytes(payload[:header], "big") + length
        return True

    def _follow(self, stream_id: int, offset: int) -> bool:
        """Make this the stream whose pieces are gathered, if the next one of it begins at `offset`."""
        stream = self._streams.for_receiving(stream_id, STREAM)
        if stream is None or not stream.in_order or stream.end != offset:
            self._stream_id = -1
            return False
        self._stream, self._stream_id, self._expected = stream, stream_id, offset
        self._room = min(stream.window.limit, offset + self._incoming.window.left)
        return True

    def flush(self) -> None:
        """Hand on what was gathered."""
        pieces, stream = self._pieces, self._stream
        self._stream_id = -1
        if not pieces or stream is None:
            return
        total = self._expected - stream.end
        stream.receive_run(pieces, total)
        self._pieces = []
        self._incoming.received(stream, total)
        if not stream.notified:
            stream.notified = True
            self._state.events.append(StreamReadable(stream.stream_id))
