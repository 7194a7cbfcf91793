"""A stream as an application uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from fairway.aio.signal import Signal
from fairway.quic import ConnectionClosed, StreamReset, UsageError

if TYPE_CHECKING:
    from fairway.aio.connection import QuicConnection

UNIDIRECTIONAL = 0x02
SERVER_INITIATED = 0x01


class Stream:
    """One stream. `send` waits while the peer or the network is slower than the application; so does `receive`."""

    def __init__(self, connection: QuicConnection, stream_id: int, *, early: bool = False) -> None:
        self._connection = connection
        self.stream_id = stream_id
        self.early = early
        """True if the peer opened it in a 0-RTT packet: what it asks for may be a replay. Wait for the connection's
        `wait_connected` before acting on what must not happen twice."""
        self.readable = Signal()
        self.on_readable: Callable[[], bool] | None = None
        """Called where data has arrived, before anything is sent and before any task has its turn; True if it has
        read what there was. It must not wait, and leaves the stream's end to `receive`."""
        self.writable = Signal()
        self.finished = Signal()
        self.committed = b""
        """What the peer had committed before it reset the stream, and what nobody has read."""
        self.reset_error: StreamReset | None = None
        """The peer reset the stream: it sends no more."""
        self.stop_error: StreamReset | None = None
        """The peer asked us to stop: it reads no more."""
        self.ended = False
        """True once `finish` was called."""
        self.acknowledged = False
        """True once the peer has everything, the end included."""
        self._at_end = False

    @property
    def unidirectional(self) -> bool:
        """True if only the side that opened the stream sends on it."""
        return bool(self.stream_id & UNIDIRECTIONAL)

    async def send(self, data: bytes | bytearray | memoryview, *, end: bool = False) -> None:
        """Send all of `data`, and with `end` the stream's end; returns when everything has its place in the buffer.

        Raises `StreamReset` if the peer no longer reads, `ConnectionClosed` if the connection ended. If cancelled,
        any leading part of `data` may have been sent.
        """
        view = memoryview(data)
        if view.nbytes != len(view):
            view = view.cast("B")
        while True:
            if self.stop_error is not None:
                raise self.stop_error
            accepted = self._connection.core.write(self.stream_id, view, end=end)
            self._connection.wake()
            if accepted == len(view):
                if end:
                    self._end()
                return
            view = view[accepted:]
            await self._connection.wait(self.writable)

    def finish(self) -> None:
        """End the sending side: the peer reads b"" after what was sent."""
        if not self.ended and self.stop_error is None:
            self._connection.core.write(self.stream_id, b"", end=True)
            self._end()
            self._connection.wake()

    def _end(self) -> None:
        self.ended = True
        self._connection.keep_until_acknowledged(self)

    async def wait_acknowledged(self) -> None:
        """Wait until the peer has everything that was sent, the end included."""
        while not self.acknowledged:
            if self.stop_error is not None:
                raise self.stop_error
            await self._connection.wait(self.finished)

    async def receive(self, limit: int = -1) -> bytes:
        """What has arrived, at least one byte and at most `limit`; b"" at the end.

        Raises `StreamReset` if the peer gave the stream up, `ConnectionClosed` if the connection ended. What a peer
        has committed before it gave up comes first.
        """
        core = self._connection.core
        while not self._at_end:
            if self.reset_error is not None:
                if self.committed:
                    return self._take_committed(limit)
                raise self.reset_error
            try:
                data = core.read(self.stream_id, limit)
            except UsageError:
                if not core.at_end(self.stream_id) or (self.unidirectional and self._is_ours()):
                    raise
                data = b""
            if data:
                self._connection.wake()
                return data
            if core.at_end(self.stream_id):
                self._at_end = True
                break
            await self._connection.wait(self.readable)
        return b""

    def receive_now(self) -> bytes:
        """What has arrived, for `on_readable`; b"" if nothing has, or there is no more: `receive` tells which."""
        if self._at_end or self.reset_error is not None:
            return b""
        return self._connection.core.read(self.stream_id)

    def _take_committed(self, limit: int) -> bytes:
        cut = len(self.committed) if limit < 0 else limit
        data, self.committed = self.committed[:cut], self.committed[cut:]
        return data

    async def receive_all(self, limit: int = 1 << 30) -> bytes:
        """Everything up to the end; `ValueError` if it is more than `limit` bytes."""
        parts = []
        total = 0
        while data := await self.receive():
            total += len(data)
            if total > limit:
                raise ValueError(f"stream {self.stream_id} has more than {limit} bytes")
            parts.append(data)
        return b"".join(parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.receive():
            yield data

    def commit(self) -> None:
        """What was sent so far is delivered even if the stream is reset, where the peer speaks RESET_STREAM_AT."""
        self._connection.core.commit(self.stream_id)

    def reset(self, code: int = 0) -> None:
        """Give up sending; what was not delivered is lost, but for what was committed."""
        try:
            self._connection.core.reset(self.stream_id, code)
        except (UsageError, ConnectionClosed):
            return
        self.ended = True
        self._connection.wake()

    def stop_sending(self, code: int = 0) -> None:
        """Read no more, and ask the peer to stop sending."""
        self._at_end = True
        try:
            self._connection.core.stop_sending(self.stream_id, code)
        except (UsageError, ConnectionClosed):
            return
        self._connection.wake()

    def set_priority(self, urgency: int, *, incremental: bool = True) -> None:
        """Order among the connection's streams: urgency 0 (first) to 7; not `incremental`: one after the other."""
        self._connection.core.set_priority(self.stream_id, urgency, incremental)

    def _is_ours(self) -> bool:
        return bool(self.stream_id & SERVER_INITIATED) != self._connection.is_client

    def fail(self) -> None:
        """The connection ended: wake everyone who waits."""
        self.readable.fire()
        self.writable.fire()
        self.finished.fire()
