"""A connection as an application uses it, and the turning of its core: timers, events, transmission."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from fairway.aio.signal import Signal
from fairway.aio.stream import Stream
from fairway.quic import Closing, Connection, ConnectionClosed, Phase, StreamReset, Transmit
from fairway.quic import events as quic_events

BATCHES_PER_TURN = 16
"""Buffers sent before the loop gets its turn: others must not wait for a bulk transfer."""


class Outlet(Protocol):
    """Where a connection's datagrams go."""

    def send(self, transmit: Transmit, connection: QuicConnection) -> bool:
        """Send datagrams; False if the socket is full: `connection.flush` is called when it is not."""

    def ended(self, connection: QuicConnection) -> None:
        """The connection is over, its draining period included."""


class QuicConnection:
    """A QUIC connection. Made by `connect` and `serve`."""

    def __init__(self, core: Connection, outlet: Outlet, loop: asyncio.AbstractEventLoop, *, is_client: bool) -> None:
        self.core = core
        self.is_client = is_client
        self.handshake: quic_events.HandshakeCompleted | None = None
        """What was agreed: ALPN, cipher suite, certificates; None before."""
        self._outlet = outlet
        self._loop = loop
        # Streams live as long as the application holds them, or until the peer has what was sent on them.
        self._streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
        self._ending: dict[int, Stream] = {}
        self._incoming: deque[Stream] = deque()
        self._arrived = Signal()
        self._available = Signal()
        self._changed = Signal()
        self._timer: asyncio.TimerHandle | None = None
        self._woken = False
        self._over = False

    # For applications

    @property
    def alpn(self) -> str | None:
        """The application protocol that was agreed."""
        return None if self.handshake is None else self.handshake.alpn

    @property
    def peer_certificates(self) -> tuple[bytes, ...]:
        """The peer's certificate chain in DER, the leaf first."""
        return () if self.handshake is None else self.handshake.peer_certificates

    @property
    def closing(self) -> Closing | None:
        """How the connection ended; None while it has not."""
        return self.core.closing

    @property
    def peer_address(self) -> Any:
        """The peer's address."""
        return self.core.path.address

    def statistics(self) -> dict[str, float | int]:
        """Figures about the connection as it is now."""
        return self.core.statistics()

    async def wait_connected(self) -> None:
        """Wait for the handshake; `ConnectionClosed` if it fails."""
        while self.handshake is None:
            await self.wait(self._changed)

    async def open_stream(self, *, unidirectional: bool = False) -> Stream:
        """Open a stream; waits while the peer allows no more."""
        while True:
            stream_id = self.core.open_stream(unidirectional=unidirectional)
            if stream_id is not None:
                stream = self._streams[stream_id] = Stream(self, stream_id)
                return stream
            self.wake()
            await self.wait(self._available)

    async def accept_stream(self) -> Stream:
        """The next stream that the peer opened."""
        while not self._incoming:
            await self.wait(self._arrived)
        return self._incoming.popleft()

    async def incoming_streams(self) -> AsyncIterator[Stream]:
        """Streams that the peer opens, until the connection ends without an error."""
        while True:
            try:
                stream = await self.accept_stream()
            except ConnectionClosed as error:
                if error.closing.clean:
                    return
                raise
            yield stream

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self.core.ping()
        self.wake()

    def close(self, code: int = 0, reason: str = "") -> None:
        """End the connection at once; what was not acknowledged may be lost."""
        self.core.close(self._loop.time(), code, reason)
        self.flush()

    async def wait_closed(self) -> Closing:
        """Wait until the connection has ended; give how."""
        while self.core.closing is None:
            await self._changed.wait()
        return self.core.closing

    async def wait_acknowledged(self) -> None:
        """Wait until the peer has all that was sent on streams that were ended."""
        for stream in list(self._ending.values()):
            try:
                await stream.wait_acknowledged()
            except StreamReset:
                continue

    # For streams and sockets

    def keep_until_acknowledged(self, stream: Stream) -> None:
        """The stream was ended: hold it while its data is on the way."""
        self._ending[stream.stream_id] = stream

    async def wait(self, signal: Signal) -> None:
        """Wait for a signal; `ConnectionClosed` if the connection has ended. Callers look again after it."""
        if self.core.closing is not None:
            raise ConnectionClosed(self.core.closing)
        await signal.wait()

    def receive(self, data: bytes, segment: int, now: float) -> None:
        """Datagrams for this connection arrived; `process` must follow."""
        self.core.receive(data, segment, now)

    def process(self) -> None:
        """Tell the application what happened and send what is due."""
        self._dispatch()
        self.flush()

    def wake(self) -> None:
        """Something was written or read: send soon."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._flush_soon)

    def _flush_soon(self) -> None:
        if self._woken:
            self.flush()

    def flush(self) -> None:
        """Send what is due, as far as window and socket allow, and set the timer."""
        self._woken = False
        core, send = self.core, self._outlet.send
        now = self._loop.time()
        for _ in range(BATCHES_PER_TURN):
            transmit = core.transmit(now)
            if transmit is None:
                break
            if not send(transmit, self):
                break
        else:
            self.wake()
        self._dispatch()
        self._arm()

    def _arm(self) -> None:
        if self._over:
            return
        if self.core.phase is Phase.CLOSED:
            self._end()
            return
        deadline = self.core.next_timeout()
        timer = self._timer
        if timer is not None:
            if deadline is not None and timer.when() <= deadline:
                return  # it fires early and is set again then: cheaper than replacing it
            timer.cancel()
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        now = self._loop.time()
        deadline = self.core.next_timeout()
        if deadline is not None and deadline <= now:
            self.core.handle_timeout(now)
            self.flush()
        else:
            self._arm()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._outlet.ended(self)

    def abort(self, reason: str) -> None:
        """The socket failed or goes away: end without sending."""
        self.core.network_failed(self._loop.time(), reason)
        self._dispatch()
        self._end()

    # Events

    def _dispatch(self) -> None:
        for event in self.core.events():
            handler = _ON_EVENT.get(type(event))
            if handler is not None:
                handler(self, event)

    def _handshake_completed(self, event: quic_events.HandshakeCompleted) -> None:
        self.handshake = event
        self._changed.fire()
        self._available.fire()

    def _stream_opened(self, event: quic_events.StreamOpened) -> None:
        stream = self._streams[event.stream_id] = Stream(self, event.stream_id)
        self._incoming.append(stream)
        self._arrived.fire()

    def _stream_readable(self, event: quic_events.StreamReadable) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.readable.fire()

    def _stream_writable(self, event: quic_events.StreamWritable) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.writable.fire()

    def _stream_finished(self, event: quic_events.StreamFinished) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.acknowledged = True
            stream.finished.fire()
        self._ending.pop(event.stream_id, None)

    def _stream_reset(self, event: quic_events.StreamResetReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.reset_error = StreamReset(event.stream_id, event.code)
            stream.readable.fire()
        self.core.acknowledge_reset(event.stream_id)

    def _stop_sending(self, event: quic_events.StopSendingReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.stop_error = StreamReset(event.stream_id, event.code, stopped=True)
            stream.writable.fire()
            stream.finished.fire()
        self._ending.pop(event.stream_id, None)

    def _streams_available(self, event: quic_events.StreamsAvailable) -> None:
        self._available.fire()

    def _terminated(self, event: quic_events.ConnectionTerminated) -> None:
        for stream in list(self._streams.values()):
            stream.fail()
        self._ending.clear()
        self._changed.fire()
        self._available.fire()
        self._arrived.fire()


_ON_EVENT: dict[type[Any], Callable[[QuicConnection, Any], None]] = {
    quic_events.HandshakeCompleted: QuicConnection._handshake_completed,
    quic_events.StreamOpened: QuicConnection._stream_opened,
    quic_events.StreamReadable: QuicConnection._stream_readable,
    quic_events.StreamWritable: QuicConnection._stream_writable,
    quic_events.StreamFinished: QuicConnection._stream_finished,
    quic_events.StreamResetReceived: QuicConnection._stream_reset,
    quic_events.StopSendingReceived: QuicConnection._stop_sending,
    quic_events.StreamsAvailable: QuicConnection._streams_available,
    quic_events.ConnectionTerminated: QuicConnection._terminated,
}
