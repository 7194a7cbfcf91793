"""Bytes and integers: variable-length integers, readers and writers, sets of ranges. It knows no protocol."""

from fairway.wire.errors import WireError
from fairway.wire.ranges import RangeSet
from fairway.wire.reader import Reader
from fairway.wire.varint import VARINT_MAX, decode_varint, encode_varint, encode_varints, varint_length
from fairway.wire.writer import Writer

__all__ = [
    "VARINT_MAX",
    "RangeSet",
    "Reader",
    "WireError",
    "Writer",
    "decode_varint",
    "encode_varint",
    "encode_varints",
    "varint_length",
]
