"""One QUIC connection to one peer: moves bytes between its streams and the session, and says how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from fairway.aio import ClosedBy, Closing, ConnectionClosed, QuicConnection, Stream, StreamReset
from fairway.net.agent.peers import security
from fairway.net.exchange import Channel, CloseCode, Endpoint, Incoming, Loss, Session, State, limits

_URGENCY = {
    Channel.CONTROL: 0,
    Channel.WITHDRAWALS: 1,
    Channel.ANNOUNCEMENTS: 2,
    Channel.MEMBERS: 5,
    Channel.TABLE: 6,
}
"""RFC 9218: what is lower goes first, so a table never holds up a withdrawal."""


class Link:
    """`on_received` is called after whatever the peer said was taken in."""

    def __init__(
        self, connection: QuicConnection, session: Session, expires: datetime, on_received: Callable[[Link], None]
    ) -> None:
        self.connection = connection
        self.session = session
        self.expires = expires
        """When the peer's certificate does."""
        self._bytes = 0
        self._heard = asyncio.get_running_loop().time()
        self.is_new = True
        """False once it was said that there is a peer."""
        self._on_received = on_received
        self._streams: dict[Channel, Stream] = {}
        self._busy: set[Channel] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    async def run(self) -> Loss:
        """Until the connection is over; gives what became of the peer."""
        self._begin(self._accept())
        self.kick()
        deadline = self._loop.call_later(limits.HELLO_S, self._no_hello)
        try:
            closing = await self.connection.wait_closed()
        finally:
            deadline.cancel()
            for task in self._tasks:
                task.cancel()
        return _loss(self.session, closing)

    def kick(self) -> None:
        """The session may have something to say, or has ended."""
        if self.session.state is State.CLOSED:
            code, reason = self.session.closing or (CloseCode.NONE, "")
            if self.connection.closing is None:
                self.connection.close(code, reason)
            return
        said = False
        for channel in self.session.pending():
            if channel not in self._busy:
                if self._say(channel):
                    said = True
                else:
                    self._busy.add(channel)
                    self._begin(self._send(channel))
        if said:
            self.connection.flush()  # a change is on its way before the next peer's is written

    def _say(self, channel: Channel) -> bool:
        """Say on one channel what there is to say, if its stream has room for all of it now."""
        stream = self._streams.get(channel)
        if stream is None or self.connection.closing is not None or stream.stop_error is not None:
            return False
        core = self.connection.core
        while self.session.has(channel):
            if core.room(stream.stream_id, limits.MAX_MESSAGE_BYTES) < limits.MAX_MESSAGE_BYTES:
                return False
            core.write(stream.stream_id, self.session.next(channel))
        return True

    def heard(self, now: float) -> float:
        """When the connection last brought something, as far as that was looked at."""
        received = self.connection.core.path.bytes_received
        if received != self._bytes:
            self._bytes, self._heard = received, now
        return self._heard

    def forgive(self, now: float) -> None:
        """Take it as heard."""
        self._heard = now

    def give_up(self) -> None:
        """The peer's host is silent: end the connection without a word."""
        self.connection.abort("its host is silent")

    @property
    def reason(self) -> str:
        """Why it ended, if either side said so."""
        if self.session.closing is not None and self.session.closing[1]:
            return self.session.closing[1]
        return "" if self.connection.closing is None else self.connection.closing.reason

    @property
    def observed(self) -> Endpoint:
        """Where the peer is, as the connection sees it."""
        return endpoint_of(self.connection.peer_address)

    def _no_hello(self) -> None:
        if self.session.state is State.HELLO:
            self.session.close(CloseCode.PROTOCOL, "no hello in time")
            self.kick()

    async def _send(self, channel: Channel) -> None:
        """Say what there is to say on one channel; waits while the peer is slow, and holds up no other channel."""
        try:
            stream = self._streams.get(channel)
            if stream is None:
                stream = self._streams[channel] = await self.connection.open_stream(unidirectional=True)
                stream.set_priority(_URGENCY[channel], incremental=True)
                await stream.send(bytes((channel,)))
            while self.session.has(channel):
                await stream.send(self.session.next(channel))
        except (ConnectionClosed, StreamReset):
            self.connection.close(CloseCode.PROTOCOL, "a stream was stopped")
        finally:
            self._busy.discard(channel)

    async def _accept(self) -> None:
        try:
            async for stream in self.connection.incoming_streams():
                self._begin(self._receive(stream, self.session.stream()))
                self.kick()
        except ConnectionClosed:
            return

    async def _receive(self, stream: Stream, incoming: Incoming) -> None:
        reader = _Reader(self, stream, incoming)
        try:
            while self.session.state is not State.CLOSED:
                await reader.receive()
        except StreamReset:
            self.session.ended(incoming)
            self._on_received(self)
        except ConnectionClosed:
            return

    def take(self, incoming: Incoming, data: bytes) -> float:
        """Take in what has come on a stream; gives when it may be read again."""
        now = self._loop.time()
        pause_s = incoming.receive(data, now)
        self._on_received(self)
        return now + pause_s

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Reader:
    """Reads one stream: as soon as something has come, without waiting for a task's turn, unless it is to be slower."""

    def __init__(self, link: Link, stream: Stream, incoming: Incoming) -> None:
        self._link = link
        self._stream = stream
        self._incoming = incoming
        self._loop = asyncio.get_running_loop()
        self._not_before = 0.0
        self._holds = False
        stream.on_readable = self._readable

    async def receive(self) -> None:
        """The next data that `_readable` leaves, or the stream's end."""
        data = await self._stream.receive()
        self._holds = True
        if (left := self._not_before - self._loop.time()) > 0:
            await asyncio.sleep(left)
        self._holds = False
        if not data:
            self._link.session.ended(self._incoming)
        self._not_before = self._link.take(self._incoming, data)

    def _readable(self) -> bool:
        if self._holds or self._loop.time() < self._not_before or self._link.session.state is State.CLOSED:
            return False
        data = self._stream.receive_now()
        if data:
            self._not_before = self._link.take(self._incoming, data)
        return bool(data)


def endpoint_of(address: Any) -> Endpoint:
    """A socket's address; an IPv4 one may come in IPv6's clothes."""
    return _endpoint_of(str(address[0]), int(address[1]))


@lru_cache(maxsize=1024)  # every peer's is looked at several times a second
def _endpoint_of(host: str, port: int) -> Endpoint:
    parsed = ip_address(host.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return Endpoint(mapped or parsed, port)


def _loss(session: Session, closing: Closing) -> Loss:
    """What a connection's end says about the peer."""
    if closing.by is ClosedBy.PEER and closing.application:
        if closing.code == CloseCode.LEAVING:
            return Loss.LEFT
        if closing.code == CloseCode.REFUSED:
            return Loss.REFUSED
        return Loss.REPLACED if closing.code == CloseCode.DUPLICATE else Loss.RESTARTING
    if closing.by is ClosedBy.PEER and security.certificate_expired(closing):
        return Loss.REFUSED
    if closing.by is ClosedBy.LOCAL:
        code = (session.closing or (CloseCode.NONE, ""))[0]
        return Loss.LEFT if code is CloseCode.REFUSED else Loss.REPLACED
    return Loss.RESTARTING if closing.by is ClosedBy.RESET else Loss.SILENT
