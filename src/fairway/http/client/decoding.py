"""Content codings of responses (RFC 9110 section 8.4), undone piece by piece."""

from __future__ import annotations

import importlib
import importlib.util
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

PIECE = 1 << 20
"""Bytes that come out at a time, however few went in."""


FEED = 4096
"""Bytes that go in at a time: what is left of them is copied for each member of a gzip body, and for each piece."""


class DecodingError(ValueError):
    """The body is not what its content-encoding says."""


class Decoder(Protocol):
    """Undoes one coding."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """What `data` brings, in pieces of bounded size."""

    def finish(self) -> None:
        """`DecodingError` if the body ended too early."""


class _Plain:
    def decode(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        """Every end is an end."""


class _Gzip:
    def __init__(self) -> None:
        self._state = zlib.decompressobj(wbits=31)
        self._begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), FEED):
            yield from self._decode(data[at : at + FEED])

    def _decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._state.eof:  # RFC 1952 section 2.2: several members may follow each other
                self._state = zlib.decompressobj(wbits=31)
            try:
                out = self._state.decompress(data, PIECE)
            except zlib.error as error:
                raise DecodingError(f"the body is no gzip: {error}") from None
            self._begun = True
            if out:
                yield out
            data = self._state.unused_data if self._state.eof else self._state.unconsumed_tail

    def finish(self) -> None:
        if self._begun and not self._state.eof:
            raise DecodingError("the gzip body is cut short")


class _Brotli:
    def __init__(self) -> None:
        brotli: Any = importlib.import_module("brotli")
        self._error: type[Exception] = brotli.error
        self._state: Any = brotli.Decompressor()
        self._begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        try:
            out = self._state.process(data, output_buffer_limit=PIECE)
            while out or not self._state.can_accept_more_data():
                if out:
                    yield out
                out = self._state.process(b"", output_buffer_limit=PIECE)
        except self._error as error:
            raise DecodingError(f"the body is no brotli: {error}") from None

    def finish(self) -> None:
        if self._begun and not self._state.is_finished():
            raise DecodingError("the brotli body is cut short")


def accepted() -> str:
    """The value of accept-encoding: what `decoder` can undo here."""
    return "br, gzip" if importlib.util.find_spec("brotli") else "gzip"


def decoder(coding: str) -> Decoder:
    """What undoes a content-encoding. `DecodingError` for one that was not asked for."""
    name = coding.strip().lower()
    if name in ("", "identity"):
        return _Plain()
    if name in ("gzip", "x-gzip"):
        return _Gzip()
    if name == "br" and "br" in accepted():
        return _Brotli()
    raise DecodingError(f"the server chose the coding {coding[:40]!r}, which was not offered")
