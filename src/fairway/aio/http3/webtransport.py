"""WebTransport sessions: streams and datagrams of either side, within one request's lifetime."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from fairway.aio.http3.errors import RequestError
from fairway.aio.http3.stream import HttpStream
from fairway.aio.signal import Signal
from fairway.http3 import H3Code
from fairway.http3.capsules import CLOSE_SESSION, CapsuleReader
from fairway.http3.errors import MessageError
from fairway.http3.webtransport import SessionClosed, to_http_code
from fairway.quic import ConnectionClosed, QuicConfiguration
from fairway.quic.datagrams import DatagramQueue

if TYPE_CHECKING:
    from fairway.aio.http3.connection import HttpConnection

MAX_UNACCEPTED_STREAMS = 256
"""Streams that the peer opened and the application did not accept; QUIC's own limit on streams is the other bound."""

MAX_DATAGRAM_FRAME = 65535
"""What `max_datagram_frame_size` says: any that fits a packet (RFC 9221 section 3 recommends it)."""

_UNIDIRECTIONAL = 0x02


def taking_datagrams(configuration: QuicConfiguration | None) -> QuicConfiguration:
    """A configuration that also takes the datagrams that sessions need."""
    configuration = configuration or QuicConfiguration()
    if configuration.max_datagram_frame_size:
        return configuration
    return replace(configuration, max_datagram_frame_size=MAX_DATAGRAM_FRAME)


class TunnelStream(HttpStream):
    """A stream of a session: bare bytes."""

    __slots__ = ("session",)

    def __init__(self, session: Session, stream_id: int) -> None:
        super().__init__(session.connection, stream_id)
        self.session = session

    @property
    def unidirectional(self) -> bool:
        """True if only the side that opened the stream sends on it."""
        return bool(self.stream_id & _UNIDIRECTIONAL)

    async def finish(self) -> None:
        """End the sending side."""
        await self.send(b"", end=True)

    def reset(self, code: int = 0) -> None:
        """Give up both directions, with an application's code of 32 bits."""
        self.abort(to_http_code(code))


class Session:
    """A WebTransport session. `async with` closes it."""

    def __init__(self, stream: HttpStream) -> None:
        self.connection: HttpConnection = stream.connection
        self.session_id = stream.stream_id
        self.closed: SessionClosed | None = None
        """How the session ended; None while it has not."""
        self._stream = stream
        self._incoming: deque[TunnelStream] = deque()
        self._datagrams = DatagramQueue()
        self._arrived = Signal()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    # For applications

    async def open_stream(self, *, unidirectional: bool = False) -> TunnelStream:
        """Open a stream; waits while the peer allows no more."""
        while True:
            self._check()
            stream_id = self.connection.http.open_tunnel_stream(self.session_id, unidirectional=unidirectional)
            self.connection.wake()
            if stream_id is not None:
                stream = TunnelStream(self, stream_id)
                self.connection.adopt(stream)
                return stream
            await self.connection.wait(self.connection.available)

    async def accept_stream(self) -> TunnelStream:
        """The next stream that the peer opened; `RequestError` once the session is over."""
        while not self._incoming:
            self._check()
            await self.connection.wait(self._arrived)
        return self._incoming.popleft()

    async def incoming_streams(self) -> AsyncIterator[TunnelStream]:
        """Streams that the peer opens, until the session ends."""
        while True:
            try:
                stream = await self.accept_stream()
            except (RequestError, ConnectionClosed):
                return
            yield stream

    @property
    def max_datagram_size(self) -> int:
        """Bytes of the largest datagram that can be sent now."""
        return self.connection.http.max_datagram_size(self.session_id)

    def send_datagram(self, data: bytes) -> bool:
        """Send a datagram, unreliably; False if it was dropped since too many wait to be sent already."""
        self._check()
        accepted = self.connection.http.send_datagram(self.session_id, data)
        self.connection.wake()
        return accepted

    async def receive_datagram(self) -> bytes:
        """The oldest datagram that arrived and was not fetched; too many of them push out the oldest."""
        while not self._datagrams:
            self._check()
            await self.connection.wait(self._arrived)
        return self._datagrams.pop()

    async def close(self, code: int = 0, reason: str = "") -> None:
        """End the session and all of its streams."""
        if self.closed is None:
            self._over(SessionClosed(code, reason))
            with contextlib.suppress(RequestError, ConnectionClosed):
                await self._stream.send(SessionClosed(code, reason).encode(), end=True)

    async def wait_closed(self) -> SessionClosed:
        """Wait for the session's end; `ConnectionClosed` if it was the connection's."""
        while self.closed is None:
            await self.connection.wait(self._arrived)
        return self.closed

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # For the connection

    def arrived(self, stream_id: int) -> None:
        """The peer opened a stream of this session."""
        if self.closed is not None or len(self._incoming) >= MAX_UNACCEPTED_STREAMS:
            self.connection.http.abort(stream_id, H3Code.H3_EXCESSIVE_LOAD)
            return
        stream = TunnelStream(self, stream_id)
        self.connection.adopt(stream)
        self._incoming.append(stream)
        self._arrived.fire()

    def datagram(self, data: bytes) -> None:
        """A datagram of this session arrived."""
        self._datagrams.push(data)
        self._arrived.fire()

    def connection_lost(self) -> None:
        """The connection ended: wake everyone who waits."""
        self._arrived.fire()

    def _check(self) -> None:
        if self.closed is not None:
            raise RequestError(self.closed.code, f"the session is over: {self.closed.reason or 'closed'}")

    async def _watch(self) -> None:
        """Read the capsules until the session's own stream ends."""
        reader = CapsuleReader()
        closed = SessionClosed()
        try:
            while data := await self._stream.receive():
                for capsule in reader.feed(data):
                    if capsule.kind == CLOSE_SESSION:
                        closed = SessionClosed.decode(capsule.value)
        except MessageError as error:
            self._stream.abort(error.code)
        except RequestError as error:
            closed = SessionClosed(error.code, error.reason)
        except ConnectionClosed:
            return
        if self.closed is None:
            self._over(closed)
            with contextlib.suppress(Exception):
                await self._stream.send(b"", end=True)

    def _over(self, closed: SessionClosed) -> None:
        self.closed = closed
        if self.connection.closing is None:
            self.connection.http.end_session(self.session_id)
            self.connection.wake()
        self.connection.end_session(self, RequestError(closed.code, "the session is over"))
        self._arrived.fire()
