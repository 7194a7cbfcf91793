"""Content codings applied here: gzip by the standard library, br where the brotli package is installed."""

from __future__ import annotations

import importlib
import os
import zlib
from collections.abc import Callable
from typing import Any

from fairway.http.server.files.open_file import Identity, identity_of, read_exactly

try:
    _brotli: Any = importlib.import_module("brotli")
except ImportError:
    _brotli = None

APPLIED = ("gzip",) if _brotli is None else ("br", "gzip")

# What is kept may cost more than what is made for one client. br at 5 is as fast as gzip at 6, and smaller.
_WHOLE = {"br": 5, "gzip": 6}
_STREAMED = {"br": 4, "gzip": 4}


class Compressor:
    """One stream of a coding: `update` with each piece, `finish` once."""

    def __init__(self, coding: str, level: int | None = None) -> None:
        level = _STREAMED[coding] if level is None else level
        self.update: Callable[[bytes], bytes]
        self.finish: Callable[[], bytes]
        if coding == "br":
            brotli = _brotli.Compressor(quality=level)
            self.update, self.finish = brotli.process, brotli.finish
        else:
            deflate = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # 16: with gzip's header, its time 0
            self.update, self.finish = deflate.compress, deflate.flush


def compressed_file(descriptor: int, size: int, coding: str) -> tuple[bytes, Identity]:
    """The whole file compressed, and its identity after it was read. For a thread."""
    data = read_exactly(descriptor, 0, size)
    identity = identity_of(os.fstat(descriptor))
    compressor = Compressor(coding, _WHOLE[coding])
    return compressor.update(data) + compressor.finish(), identity


def compressed_chunk(compressor: Compressor, descriptor: int, offset: int, count: int, last: bool) -> bytes:
    """The next piece of a stream, from `count` bytes of the file at `offset`; may be empty. For a thread."""
    data = compressor.update(read_exactly(descriptor, offset, count))
    return data + compressor.finish() if last else data
