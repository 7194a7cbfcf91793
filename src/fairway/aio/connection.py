"""A connection as an application uses it."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from fairway.aio.driver import Outlet
from fairway.aio.lifecycle import Lifecycle
from fairway.aio.signal import Signal
from fairway.aio.stream import Stream
from fairway.quic import Connection, ConnectionClosed, StreamReset
from fairway.quic import events as quic_events
from fairway.quic.datagrams import DatagramQueue


class QuicConnection(Lifecycle):
    """A QUIC connection. Made by `connect` and `serve`."""

    __slots__ = (
        "_arrived", "_available", "_datagram_arrived", "_datagrams", "_ending", "_incoming", "_streams",
    )  # fmt: skip

    def __init__(self, core: Connection, outlet: Outlet, loop: asyncio.AbstractEventLoop, *, is_client: bool) -> None:
        super().__init__(core, outlet, loop, is_client=is_client)
        # Streams live as long as the application holds them, or until the peer has what was sent on them.
        self._streams: weakref.WeakValueDictionary[int, Stream] | None = None
        self._ending: dict[int, Stream] = {}
        self._incoming: deque[Stream] = deque()
        self._datagrams: DatagramQueue | None = None
        """Made with the first datagram that arrives."""
        self._arrived = Signal()
        self._datagram_arrived = Signal()
        self._available = Signal()

    # For applications

    def statistics(self) -> dict[str, float | int]:
        """Figures about the connection as it is now."""
        figures = super().statistics()
        if self._datagrams is not None:
            figures["datagrams_dropped"] += self._datagrams.dropped
        return figures

    async def open_stream(self, *, unidirectional: bool = False) -> Stream:
        """Open a stream; waits while the peer allows no more."""
        while True:
            stream_id = self.core.open_stream(unidirectional=unidirectional)
            if stream_id is not None:
                return self._keep(Stream(self, stream_id))
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

    @property
    def max_datagram_size(self) -> int:
        """Bytes of the largest datagram that can be sent now; 0 if the peer takes none."""
        return self.core.max_datagram_size

    def send_datagram(self, data: bytes) -> bool:
        """Send `data` once, unreliably (RFC 9221); False if it was dropped since too many wait to be sent already."""
        accepted = self.core.send_datagram(data)
        self.wake()
        return accepted

    async def receive_datagram(self) -> bytes:
        """The oldest datagram that arrived and was not fetched; too many of them push out the oldest."""
        while not self._datagrams:
            await self.wait(self._datagram_arrived)
        return self._datagrams.pop()

    @property
    def undelivered(self) -> bool:
        """Whether streams that were ended are not yet acknowledged."""
        return bool(self._ending)

    async def wait_acknowledged(self) -> None:
        """Wait until the peer has all that was sent on streams that were ended."""
        for stream in list(self._ending.values()):
            try:
                await stream.wait_acknowledged()
            except StreamReset:
                continue

    def _keep(self, stream: Stream) -> Stream:
        """A new stream, by its ID from now on."""
        if self._streams is None:
            self._streams = weakref.WeakValueDictionary()
        self._streams[stream.stream_id] = stream
        return stream

    def _stream(self, stream_id: int) -> Stream | None:
        """A stream, if anybody still holds it."""
        return None if self._streams is None else self._streams.get(stream_id)

    # For streams and sockets

    def keep_until_acknowledged(self, stream: Stream) -> None:
        """The stream was ended: hold it while its data is on the way."""
        self._ending[stream.stream_id] = stream

    # Events

    def dispatch(self) -> None:
        """Tell the application what happened."""
        for event in self.core.events():
            handler = _ON_EVENT.get(type(event))
            if handler is not None:
                handler(self, event)

    def _handshake_completed(self, event: quic_events.HandshakeCompleted) -> None:
        self.handshake = event
        self.changed.fire()
        self._available.fire()

    def early_accepted(self, event: quic_events.EarlyDataAccepted) -> None:
        """What was sent early has arrived, or will; and more streams may be opened."""
        super().early_accepted(event)
        self._available.fire()

    def _stream_opened(self, event: quic_events.StreamOpened) -> None:
        self._incoming.append(self._keep(Stream(self, event.stream_id, early=event.early)))
        self._arrived.fire()

    def _stream_readable(self, event: quic_events.StreamReadable) -> None:
        stream = self._stream(event.stream_id)
        if stream is None:
            return
        if stream.on_readable is None or not stream.on_readable() or self.core.at_end(stream.stream_id):
            stream.readable.fire()

    def _stream_writable(self, event: quic_events.StreamWritable) -> None:
        stream = self._stream(event.stream_id)
        if stream is not None:
            stream.writable.fire()

    def _stream_finished(self, event: quic_events.StreamFinished) -> None:
        stream = self._stream(event.stream_id)
        if stream is not None:
            stream.acknowledged = True
            stream.finished.fire()
        self._ending.pop(event.stream_id, None)

    def _stream_reset(self, event: quic_events.StreamResetReceived) -> None:
        stream = self._stream(event.stream_id)
        if stream is not None:
            stream.committed = self.core.read(event.stream_id)
            stream.reset_error = StreamReset(event.stream_id, event.code)
            stream.readable.fire()
        self.core.acknowledge_reset(event.stream_id)

    def _stop_sending(self, event: quic_events.StopSendingReceived) -> None:
        stream = self._stream(event.stream_id)
        if stream is not None:
            stream.stop_error = StreamReset(event.stream_id, event.code, stopped=True)
            stream.writable.fire()
            stream.finished.fire()
        self._ending.pop(event.stream_id, None)

    def _streams_available(self, event: quic_events.StreamsAvailable) -> None:
        self._available.fire()

    def _datagram_received(self, event: quic_events.DatagramReceived) -> None:
        if self._datagrams is None:
            self._datagrams = DatagramQueue()
        self._datagrams.push(event.data)
        self._datagram_arrived.fire()

    def _terminated(self, event: quic_events.ConnectionTerminated) -> None:
        if self._streams is not None:
            for stream in list(self._streams.values()):
                stream.fail()
        self._ending.clear()
        self.changed.fire()
        self._available.fire()
        self._arrived.fire()
        self._datagram_arrived.fire()


_ON_EVENT: dict[type[Any], Callable[[QuicConnection, Any], None]] = {
    quic_events.HandshakeCompleted: QuicConnection._handshake_completed,
    quic_events.StreamOpened: QuicConnection._stream_opened,
    quic_events.StreamReadable: QuicConnection._stream_readable,
    quic_events.StreamWritable: QuicConnection._stream_writable,
    quic_events.StreamFinished: QuicConnection._stream_finished,
    quic_events.StreamResetReceived: QuicConnection._stream_reset,
    quic_events.StopSendingReceived: QuicConnection._stop_sending,
    quic_events.StreamsAvailable: QuicConnection._streams_available,
    quic_events.DatagramReceived: QuicConnection._datagram_received,
    quic_events.ObserverFailed: QuicConnection.observer_failed,
    quic_events.ConnectionTerminated: QuicConnection._terminated,
    **QuicConnection.on_common_event,
    quic_events.EarlyDataAccepted: QuicConnection.early_accepted,
}
