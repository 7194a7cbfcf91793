"""Peers that write HTTP/3 by hand: bare QUIC on one side, the real core on the other."""

from __future__ import annotations

from typing import Any

from http3_pair import HttpPair
from pylsqpack import Encoder

from fairway.http3 import DEFAULT_SETTINGS, frames
from fairway.quic import Closing
from fairway.quic.events import ConnectionTerminated, StopSendingReceived, StreamResetReceived
from fairway.wire import encode_varint

Fields = list[tuple[bytes, bytes]]
SETTINGS = frames.encode(frames.SETTINGS, DEFAULT_SETTINGS.encode())


def section(fields: Fields) -> bytes:
    """An encoded field section without the dynamic table."""
    return Encoder().encode(0, fields)[1]


def headers(fields: Fields) -> bytes:
    """A HEADERS frame."""
    return frames.encode(frames.HEADERS, section(fields))


def data(body: bytes) -> bytes:
    """A DATA frame."""
    return frames.encode(frames.DATA, body)


class RawPeer:
    """The bare side of a pair, `core`; the other side is the one under test, `tested`."""

    def __init__(self, *, client: bool, settings: bytes | None = SETTINGS, **options: Any) -> None:
        self.pair = HttpPair(raw_client=client, raw_server=not client, **options)
        self.side, self.tested = (
            (self.pair.client, self.pair.server) if client else (self.pair.server, self.pair.client)
        )
        assert self.side.core is not None
        self.core = self.side.core
        self.http = self.pair.http(self.tested)
        if settings is not None:
            self.control = self.stream(encode_varint(frames.CONTROL_STREAM) + settings)

    def open(self, *, unidirectional: bool = True) -> int:
        """A new stream."""
        stream_id = self.core.open_stream(unidirectional=unidirectional)
        assert stream_id is not None
        return stream_id

    def stream(self, content: bytes, *, end: bool = False) -> int:
        """A unidirectional stream with this in it."""
        return self.write(self.open(), content, end=end)

    def request(self, content: bytes, *, end: bool = False) -> int:
        """A bidirectional stream with this in it."""
        return self.write(self.open(unidirectional=False), content, end=end)

    def write(self, stream_id: int, content: bytes, *, end: bool = False) -> int:
        """Write, and let it arrive."""
        self.core.write(stream_id, content, end=end, whole=True)
        self.pair.run_for(0.1)
        return stream_id

    def asked(self, fields: Fields) -> int:
        """The stream of a request that the tested client has made."""
        stream_id = self.http.request(fields, end=True)
        assert stream_id is not None
        self.pair.run_for(0.1)
        return stream_id

    @property
    def closing(self) -> Closing | None:
        """How the tested side closed; None while it has not."""
        self.pair.run_for(0.1)
        told = self.tested.of(ConnectionTerminated)
        return told[0].closing if told else None  # type: ignore[union-attr]

    @property
    def code(self) -> int | None:
        """The error code with which the tested side closed the connection."""
        closing = self.closing
        assert closing is None or closing.application
        return None if closing is None else closing.code

    def resets(self) -> dict[int, int]:
        """Streams that the tested side reset, and why."""
        return {event.stream_id: event.code for event in self.side.of(StreamResetReceived)}  # type: ignore[union-attr]

    def stops(self) -> dict[int, int]:
        """Streams that the tested side no longer reads, and why."""
        return {event.stream_id: event.code for event in self.side.of(StopSendingReceived)}  # type: ignore[union-attr]
