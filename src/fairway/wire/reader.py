"""Reading fields from the front of a buffer."""

from __future__ import annotations

from fairway.wire.errors import WireError
from fairway.wire.varint import decode_varint

_from_bytes = int.from_bytes


class Reader:
    """Reads big-endian fields one after the other; `WireError` where the buffer ends before a field does."""

    __slots__ = ("_data", "_end", "offset")

    def __init__(self, data: bytes | bytearray | memoryview, offset: int = 0, end: int | None = None) -> None:
        self._data = data
        self.offset = offset
        if end is None and not offset:  # the common case: all of it
            self._end = len(data)
            return
        self._end = len(data) if end is None else end
        if not 0 <= offset <= self._end <= len(data):
            raise WireError("the part to read lies outside the buffer")

    @property
    def remaining(self) -> int:
        """How many bytes are not yet read."""
        return self._end - self.offset

    # What handshakes and headers are made of goes without further calls: bytes, two of them, short varints and vectors.

    def u8(self) -> int:
        """One byte."""
        at = self.offset
        if at >= self._end:
            raise self._short(1)
        self.offset = at + 1
        return self._data[at]

    def u16(self) -> int:
        """Two bytes."""
        data, at = self._data, self.offset
        after = at + 2
        if after > self._end:
            raise self._short(2)
        self.offset = after
        return data[at] << 8 | data[at + 1]

    def u24(self) -> int:
        """Three bytes."""
        at = self._advance(3)
        return _from_bytes(self._data[at : at + 3], "big")

    def u32(self) -> int:
        """Four bytes."""
        at = self._advance(4)
        return _from_bytes(self._data[at : at + 4], "big")

    def u64(self) -> int:
        """Eight bytes."""
        at = self._advance(8)
        return _from_bytes(self._data[at : at + 8], "big")

    def varint(self) -> int:
        """One variable-length integer (RFC 9000 section 16)."""
        data, at = self._data, self.offset
        if at < self._end and data[at] < 0x40:
            self.offset = at + 1
            return data[at]
        value, after = decode_varint(data, at)
        if after > self._end:
            raise WireError("a variable-length integer runs past the end")
        self.offset = after
        return value

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        at = self.offset
        after = at + length
        if length < 0 or after > self._end:
            raise self._short(length)
        self.offset = after
        return bytes(self._data[at:after])

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self._end - self.offset)

    def vector8(self) -> bytes:
        """Bytes preceded by their length in one byte."""
        data, at, end = self._data, self.offset, self._end
        after = at + 1 + data[at] if at < end else end + 1
        if after > end:
            raise WireError(f"a vector at {at} runs past the end")
        self.offset = after
        return bytes(data[at + 1 : after])

    def vector16(self) -> bytes:
        """Bytes preceded by their length in two bytes."""
        data, at, end = self._data, self.offset, self._end
        after = at + 2 + (data[at] << 8 | data[at + 1]) if at + 2 <= end else end + 1
        if after > end:
            raise WireError(f"a vector at {at} runs past the end")
        self.offset = after
        return bytes(data[at + 2 : after])

    def vector24(self) -> bytes:
        """Bytes preceded by their length in three bytes."""
        return self.take(self.u24())

    def finish(self) -> None:
        """`WireError` unless everything has been read."""
        if self.offset != self._end:
            raise WireError(f"{self._end - self.offset} bytes follow the last field")

    def _advance(self, length: int) -> int:
        start = self.offset
        after = start + length
        if after > self._end:
            raise self._short(length)
        self.offset = after
        return start

    def _short(self, length: int) -> WireError:
        return WireError(f"a field of {length} bytes at {self.offset} runs past the end")
