"""The Range field (RFC 9110 section 14) and bodies of several ranges (14.6). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fairway.http.server.files.limits import MAX_FIELD_BYTES, MAX_RANGES

Span = tuple[int, int]  # first byte, byte after the last

_RANGE = re.compile(rb"([0-9]{0,600})-([0-9]{0,600})")  # Python may be told to read no numbers of 640 digits


def parse_ranges(value: bytes, size: int) -> list[Span] | None:
    """The spans asked for, in ascending order, overlapping and adjacent ones as one; [] if none can be satisfied (416).

    None where the field is to be ignored: another unit, malformed, more than MAX_RANGES, or all of an empty file.
    """
    unit, equals, ranges = value.partition(b"=")
    if not equals or unit.strip().lower() != b"bytes" or len(value) > MAX_FIELD_BYTES:
        return None
    specs = [spec for item in ranges.split(b",") if (spec := item.strip(b" \t"))]
    if not specs or len(specs) > MAX_RANGES:
        return None
    spans = []
    for spec in specs:
        match = _RANGE.fullmatch(spec)
        if match is None or spec == b"-":
            return None
        first, last = match.groups()
        if not first:
            count = int(last)
            if count and not size:
                return None
            if count:
                spans.append((max(0, size - count), size))
        elif last and int(last) < int(first):
            return None
        elif int(first) < size:
            spans.append((int(first), min(int(last) + 1, size) if last else size))
    return coalesced(spans)


def coalesced(spans: list[Span]) -> list[Span]:
    """The same bytes as ascending spans with a gap between any two, so that no byte is sent twice (14.2)."""
    result: list[Span] = []
    for start, stop in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(stop, result[-1][1]))
        else:
            result.append((start, stop))
    return result


def content_range(span: Span | None, size: int) -> bytes:
    """The value of Content-Range: `bytes 0-4/10`, or `bytes */10` for none (14.4)."""
    return b"bytes */%d" % size if span is None else b"bytes %d-%d/%d" % (span[0], span[1] - 1, size)


@dataclass(frozen=True, slots=True)
class Multipart:
    """A multipart/byteranges body: what stands before each span, what ends it, and its length in bytes."""

    heads: list[bytes]
    end: bytes
    length: int

    @classmethod
    def of(cls, spans: list[Span], size: int, media_type: bytes, boundary: bytes) -> Multipart:
        """The frame of these spans of a representation of `size` bytes."""
        heads = [
            b"--%b\r\ncontent-type: %b\r\ncontent-range: %b\r\n\r\n" % (boundary, media_type, content_range(span, size))
            for span in spans
        ]
        heads[1:] = [b"\r\n" + head for head in heads[1:]]
        end = b"\r\n--%b--\r\n" % boundary
        length = sum(map(len, heads)) + sum(stop - start for start, stop in spans) + len(end)
        return cls(heads, end, length)
