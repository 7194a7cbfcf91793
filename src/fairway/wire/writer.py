"""Writing fields one after the other."""

from __future__ import annotations

from fairway.wire.errors import WireError
from fairway.wire.varint import encode_varint


class Writer:
    """Collects big-endian fields; `WireError` if a value does not fit its field. Every method returns the writer."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def _integer(self, value: int, length: int) -> Writer:
        try:
            self._parts.append(value.to_bytes(length, "big"))
        except OverflowError:
            raise WireError(f"{value} does not fit {length} bytes") from None
        return self

    def _vector(self, data: bytes, width: int) -> Writer:
        try:
            self._parts += (len(data).to_bytes(width, "big"), data)
        except OverflowError:
            raise WireError(f"{len(data)} bytes do not fit a length of {width} bytes") from None
        return self

    def u8(self, value: int) -> Writer:
        """One byte."""
        return self._integer(value, 1)

    def u16(self, value: int) -> Writer:
        """Two bytes."""
        return self._integer(value, 2)

    def u24(self, value: int) -> Writer:
        """Three bytes."""
        return self._integer(value, 3)

    def u32(self, value: int) -> Writer:
        """Four bytes."""
        return self._integer(value, 4)

    def u64(self, value: int) -> Writer:
        """Eight bytes."""
        return self._integer(value, 8)

    def varint(self, value: int) -> Writer:
        """One variable-length integer (RFC 9000 section 16)."""
        self._parts.append(encode_varint(value))
        return self

    def raw(self, data: bytes) -> Writer:
        """Bytes as they are."""
        self._parts.append(data)
        return self

    def vector8(self, data: bytes) -> Writer:
        """Bytes preceded by their length in one byte."""
        return self._vector(data, 1)

    def vector16(self, data: bytes) -> Writer:
        """Bytes preceded by their length in two bytes."""
        return self._vector(data, 2)

    def vector24(self, data: bytes) -> Writer:
        """Bytes preceded by their length in three bytes."""
        return self._vector(data, 3)

    def finish(self) -> bytes:
        """Everything written."""
        return b"".join(self._parts)
