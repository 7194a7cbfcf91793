"""Variable-length integers (RFC 9000 section 16): the two high bits of the first byte say the length, 1, 2, 4 or 8."""

from __future__ import annotations

import struct

from fairway.wire.errors import WireError

VARINT_MAX = (1 << 62) - 1  # RFC 9000 section 16: 62 usable bits

_ONE_BYTE = tuple(bytes((value,)) for value in range(0x40))
_unpack_four = struct.Struct("!I").unpack_from
_unpack_eight = struct.Struct("!Q").unpack_from
_pack_two = struct.Struct("!H").pack
_pack_four = struct.Struct("!I").pack
_pack_eight = struct.Struct("!Q").pack


def encode_varints(*values: int) -> bytes:
    """Several integers, one after the other: at least one."""
    if min(values) >= 0 and max(values) < 0x40:  # one byte each
        return bytes(values)
    return b"".join([encode_varint(value) for value in values])


def decode_varint(buffer: bytes | bytearray | memoryview, offset: int) -> tuple[int, int]:
    """Read the integer at `offset` (not negative): its value and the offset after it. `WireError` if cut short."""
    try:
        first = buffer[offset]
        if first < 0x40:
            return first, offset + 1
        if first < 0x80:
            return (first & 0x3F) << 8 | buffer[offset + 1], offset + 2
        if first < 0xC0:
            four: int = _unpack_four(buffer, offset)[0]
            return four & 0x3FFFFFFF, offset + 4
        eight: int = _unpack_eight(buffer, offset)[0]
        return eight & VARINT_MAX, offset + 8
    except (IndexError, struct.error):
        raise WireError("a variable-length integer runs past the end") from None


def encode_varint(value: int) -> bytes:
    """Encode `value` in as few bytes as hold it. `WireError` if it is negative or above `VARINT_MAX`."""
    if 0 <= value < 0x40:
        return _ONE_BYTE[value]
    if 0 <= value < 0x4000:
        return _pack_two(value | 0x4000)
    if 0 <= value < 0x40000000:
        return _pack_four(value | 0x80000000)
    if 0 <= value <= VARINT_MAX:
        return _pack_eight(value | 0xC000000000000000)
    raise WireError(f"{value} does not fit a variable-length integer")


def varint_length(value: int) -> int:
    """How many bytes `encode_varint(value)` has. `WireError` if it is negative or above `VARINT_MAX`."""
    if 0 <= value < 0x40:
        return 1
    if 0 <= value < 0x4000:
        return 2
    if 0 <= value < 0x40000000:
        return 4
    if 0 <= value <= VARINT_MAX:
        return 8
    raise WireError(f"{value} does not fit a variable-length integer")
