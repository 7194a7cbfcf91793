"""One request stream as an application uses it, whichever side it is on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fairway.aio.signal import Signal
from fairway.http3 import Fields, H3Code

if TYPE_CHECKING:
    from fairway.aio.http3.connection import HttpConnection


class HttpStream:
    """Body bytes in and out. `send` waits while the peer or the network is slower; so does `receive`."""

    __slots__ = ("__weakref__", "connection", "failure", "readable", "stopped", "stream_id", "trailers", "writable")

    def __init__(self, connection: HttpConnection, stream_id: int) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.readable = Signal()
        self.writable = Signal()
        self.trailers: Fields | None = None
        """Fields after the body; known once the body was read to its end."""
        self.failure: Exception | None = None
        """Why no more can be received."""
        self.stopped: Exception | None = None
        """Why no more can be sent."""

    async def receive(self, limit: int = -1) -> bytes:
        """Bytes of the body, at least one and at most `limit`; b"" at the end.

        Raises `RequestError` if the message was given up, `ConnectionClosed` if the connection ended.
        """
        connection, http, stream_id = self.connection, self.connection.http, self.stream_id
        while True:
            data = http.read(stream_id, limit)
            if http.has_events:
                connection.dispatch()
            if data:
                connection.wake()
                return data
            if http.at_end(stream_id) and self.failure is None:
                connection.forget_if_over(self)
                return b""
            if self.failure is not None:
                raise self.failure
            await connection.wait(self.readable)

    async def receive_all(self, limit: int = 1 << 30) -> bytes:
        """The whole body; `ValueError` if it is more than `limit` bytes."""
        parts: list[bytes] = []
        total = 0
        while data := await self.receive():
            total += len(data)
            if total > limit:
                raise ValueError(f"the body has more than {limit} bytes")
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.receive():
            yield data

    async def send(self, data: bytes | bytearray | memoryview, *, end: bool = False) -> None:
        """Send all of `data` as body, and with `end` the end; returns when everything has its place in the buffer.

        Raises `RequestError` if the peer no longer reads, `ConnectionClosed` if the connection ended.
        """
        connection = self.connection
        view: bytes | memoryview = data if isinstance(data, bytes) else memoryview(data).cast("B")
        while True:
            if self.stopped is not None:
                raise self.stopped
            taken = connection.http.send_data(self.stream_id, view, end=end)
            connection.wake()
            if taken == len(view):
                if end:
                    connection.deliveries.expect(self.stream_id)
                    connection.forget_if_over(self)
                return
            view = memoryview(view)[taken:]
            await connection.wait(self.writable)

    def send_trailers(self, fields: Fields) -> None:
        """Send the fields after the body; they end the message."""
        if self.stopped is not None:
            raise self.stopped
        self.connection.http.send_trailers(self.stream_id, fields)
        self.connection.deliveries.expect(self.stream_id)
        self.connection.wake()

    def stop_reading(self, code: int = H3Code.H3_NO_ERROR) -> None:
        """Read no more of the body; the peer is asked to stop."""
        if self.connection.closing is None:
            self.connection.http.stop_reading(self.stream_id, code)
            self.connection.wake()

    def abort(self, code: int = H3Code.H3_REQUEST_CANCELLED) -> None:
        """Give up both directions."""
        if self.connection.closing is None:
            self.connection.http.abort(self.stream_id, code)
            self.connection.wake()
        self.connection.forget(self)

    def fail(self, error: Exception) -> None:
        """Nothing more can happen on the stream: wake everyone who waits."""
        self.failure = self.failure or error
        self.stopped = self.stopped or error
        self.readable.fire()
        self.writable.fire()
