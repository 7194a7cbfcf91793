"""WebTransport sessions: streams and datagrams of either side, within one request's lifetime.

Sections without a name are those of draft-ietf-webtrans-http3-16.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from fairway.aio.http3.errors import RequestError
from fairway.aio.http3.stream import HttpStream
from fairway.aio.signal import Signal
from fairway.http3 import H3Code
from fairway.http3.capsules import CLOSE_SESSION, DATAGRAM, DRAIN_SESSION, FLOW_CONTROL, Capsule, CapsuleReader
from fairway.http3.errors import MessageError
from fairway.http3.limits import CAPSULES_READ, MAX_UNACCEPTED_STREAMS
from fairway.http3.webtransport import SessionClosed, check_drain, to_http_code
from fairway.quic import ConnectionClosed, QuicConfiguration
from fairway.quic.datagrams import DatagramQueue

if TYPE_CHECKING:
    from fairway.aio.http3.connection import HttpConnection

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
        """Give up sending, with the application's code: the peer's `receive` raises it as `application_code`."""
        mapped = to_http_code(code)
        self.stopped = self.stopped or RequestError(mapped, "the stream was reset here")
        if self.connection.closing is None:
            self.connection.http.reset(self.stream_id, mapped)
            self.connection.forget_if_over(self)
            self.connection.wake()
        self.writable.fire()

    def stop_reading(self, code: int = 0) -> None:
        """Read no more, with the application's code: the peer's `send` raises it as `application_code`."""
        super().stop_reading(to_http_code(code))
        self.connection.forget_if_over(self)


class Session:
    """A WebTransport session. `async with` closes it."""

    def __init__(self, stream: HttpStream) -> None:
        self.connection: HttpConnection = stream.connection
        self.session_id = stream.stream_id
        self.closed: SessionClosed | None = None
        """How the session ended; None while it has not."""
        self.protocol: str | None = None
        """The application's protocol that was agreed on, if one was."""
        self._stream = stream
        self._incoming: deque[TunnelStream] = deque()
        self._datagrams = DatagramQueue()
        self._drained = False
        self._arrived = Signal()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    # For applications

    async def open_stream(self, *, unidirectional: bool = False) -> TunnelStream:
        """Open a stream; waits while the peer allows no more. `RequestError` once the session is over."""
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
    def draining(self) -> bool:
        """True once the peer wants the session to end soon, or either side the connection (section 4.7)."""
        return self._drained or self.connection.http.going_away

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
        """The oldest datagram that arrived and was not fetched; too many of them push out the oldest.

        `RequestError` once the session is over and they are fetched.
        """
        while not self._datagrams:
            self._check()
            await self.connection.wait(self._arrived)
        return self._datagrams.pop()

    async def drain(self) -> None:
        """Ask the peer to end the session soon; until somebody closes it, it goes on (section 4.7)."""
        self._check()
        self.connection.http.send_capsule(self.session_id, Capsule(DRAIN_SESSION, b""))
        self.connection.wake()

    async def close(self, code: int = 0, reason: str = "") -> None:
        """End the session and all of its streams; a reason of more than 1024 bytes is cut.

        `UsageError` for a code of more than 32 bits.
        """
        if self.closed is None:
            closed = SessionClosed(code, reason)
            capsule = closed.capsule()
            self._over(closed)
            self._part(capsule)

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
        if len(self._incoming) >= MAX_UNACCEPTED_STREAMS:
            self.connection.http.abort(stream_id, H3Code.WT_BUFFERED_STREAM_REJECTED)
            return
        stream = TunnelStream(self, stream_id)
        self.connection.adopt(stream)
        self._incoming.append(stream)
        self._arrived.fire()

    def datagram(self, data: bytes) -> None:
        """A datagram of this session arrived."""
        self._datagrams.push(data)
        self._arrived.fire()

    def abandoned(self) -> None:
        """The request that the session was is over."""
        if self.closed is None:
            self._over(SessionClosed(reason="the session's request was given up here", clean=False))

    def connection_lost(self) -> None:
        """The connection ended: wake everyone who waits."""
        self._watcher.cancel()
        self._arrived.fire()

    def _check(self) -> None:
        if self.closed is not None:
            raise _gone(self.closed)

    async def _watch(self) -> None:
        """Read the capsules until the session's end."""
        code = None
        try:
            closed, code = await self._until_closed()
        except MessageError as error:
            closed, code = SessionClosed(reason=f"the peer broke a rule: {error}", clean=False), error.code
        except RequestError as error:
            closed, code = SessionClosed(reason=str(error), clean=False), H3Code.H3_REQUEST_CANCELLED
        except ConnectionClosed:
            return
        if self.closed is None:
            self._over(closed)
            if code is None:
                self._part(None)
            else:
                self._stream.abort(code)

    async def _until_closed(self) -> tuple[SessionClosed, H3Code | None]:
        """How the peer closed the session, and the error with which its stream must be reset (section 6)."""
        reader = CapsuleReader()
        while data := await self._stream.receive(CAPSULES_READ):
            capsules = reader.feed(data)
            for capsule in capsules:
                if capsule.kind == CLOSE_SESSION:
                    last = capsule is capsules[-1] and reader.between
                    return SessionClosed.decode(capsule.value), None if last else H3Code.H3_MESSAGE_ERROR
                if capsule.kind == DRAIN_SESSION:
                    check_drain(capsule)
                    self._drained = True
                    self._arrived.fire()
                elif capsule.kind == DATAGRAM:
                    self.datagram(capsule.value)
                elif capsule.kind in FLOW_CONTROL:
                    self.connection.http.take_capsule(self.session_id, capsule)
                    self.connection.dispatch()
        if not reader.between:
            raise MessageError("the stream ends within a capsule", section="RFC 9297 section 3.3")
        return SessionClosed(), None

    def _part(self, last: Capsule | None) -> None:
        """End the session's own stream in both directions (section 6)."""
        connection, http = self.connection, self.connection.http
        if connection.closing is None and http.can_send(self.session_id):
            if last is not None:
                http.send_capsule(self.session_id, last, end=True)
            else:
                http.send_data(self.session_id, b"", end=True)
            connection.deliveries.expect(self.session_id)
            connection.wake()
        self._stream.stop_reading(H3Code.WT_SESSION_GONE)
        connection.forget(self._stream)

    def _over(self, closed: SessionClosed) -> None:
        self.closed = closed
        if asyncio.current_task() is not self._watcher:
            self._watcher.cancel()
        if self.connection.closing is None:
            self.connection.http.end_session(self.session_id)
            self.connection.wake()
        self._incoming.clear()
        self.connection.sessions.end(self, _gone(closed))
        self._arrived.fire()


def _gone(closed: SessionClosed) -> RequestError:
    return RequestError(H3Code.WT_SESSION_GONE, f"the session is over: {closed.reason or 'closed'}")
