"""`connect`: a client's HTTP/3 connection, its requests and their responses."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterable, Callable, Sequence
from types import TracebackType
from typing import Any, ClassVar, Unpack

from fairway.aio.client import Dialer
from fairway.aio.http3.connection import HttpConnection
from fairway.aio.http3.errors import RequestError
from fairway.aio.http3.stream import HttpStream
from fairway.aio.http3.webtransport import Session, taking_datagrams
from fairway.aio.options import ConnectOptions
from fairway.http3 import (
    ALPN,
    DEFAULT_SETTINGS,
    Fields,
    GoawayReceived,
    H3Code,
    InformationalReceived,
    ResponseReceived,
    Settings,
)
from fairway.http3.session_protocols import chosen, offer
from fairway.http3.webtransport import PROTOCOL, session_request, with_webtransport
from fairway.quic import ConnectionClosed, UsageError

Body = bytes | AsyncIterable[bytes]


class ClientStream(HttpStream):
    """A request that was begun, and its response. `async with` gives it up if it has not ended."""

    __slots__ = ("_sender", "informational", "response", "wants_session")

    connection: ClientConnection

    def __init__(self, connection: ClientConnection, stream_id: int) -> None:
        super().__init__(connection, stream_id)
        self.response: Fields | None = None
        """The final response's fields, once they have come."""
        self.informational: list[Fields] = []
        """Interim responses that came before."""
        self.wants_session = False
        """True if it asks for a WebTransport session."""
        self._sender: asyncio.Task[None] | None = None

    async def wait_response(self) -> Fields:
        """The final response's fields: `:status` first.

        Raises `RequestError` if the request was given up, `ConnectionClosed` if the connection ended.
        """
        while self.response is None:
            if self.failure is not None:
                raise self.failure
            await self.connection.wait(self.readable)
        return self.response

    @property
    def status(self) -> int:
        """The final response's status code; 0 before it came."""
        return 0 if self.response is None else int(self.response[0][1])

    def send_body(self, body: AsyncIterable[bytes]) -> None:
        """Send a body while the response may come already."""
        self._sender = asyncio.get_running_loop().create_task(self._send_body(body))

    async def _send_body(self, body: AsyncIterable[bytes]) -> None:
        try:
            async for part in body:
                if part:
                    await self.send(part)
            await self.send(b"", end=True)
        except (RequestError, ConnectionClosed):
            pass  # the response, or its failure, says what the server thinks
        except Exception as error:
            self.abort()
            self.fail(error)

    async def aclose(self) -> None:
        """Give up what has not ended."""
        if self._sender is not None:
            self._sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sender
        self.abort()

    async def __aenter__(self) -> ClientStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class ClientConnection(HttpConnection):
    """A connection to a server."""

    @property
    def usable(self) -> bool:
        """True if new requests may be sent."""
        return self.closing is None and not self.http.going_away

    async def begin(self, fields: Fields, data: bytes = b"", *, end: bool = False) -> ClientStream:
        """Begin a request, pseudo-fields first; waits while the server allows no more streams.

        Raises `UsageError` once the server shuts down, and for fields that HTTP/3 does not allow.
        """
        while True:
            stream_id = self.http.request(fields, data=data, end=end)
            if stream_id is not None:
                stream = ClientStream(self, stream_id)
                self._streams[stream_id] = stream
                self.wake()
                return stream
            self.wake()
            await self.wait(self.available)

    async def request(
        self, method: str, authority: str, path: str = "/", *, fields: Fields | None = None, body: Body = b""
    ) -> ClientStream:
        """Send a request and wait for the response's fields; its body is then read from what this returns."""
        head = [
            (b":method", method.encode("ascii")),
            (b":scheme", b"https"),
            (b":authority", authority.encode("ascii")),
            (b":path", path.encode("ascii")),
            *(fields or []),
        ]
        if isinstance(body, bytes):
            small = len(body) <= 1 << 16
            stream = await self.begin(head, body if small else b"", end=small)
            if not small:
                stream.send_body(_once(body))
        else:
            stream = await self.begin(head)
            stream.send_body(body)
        try:
            await stream.wait_response()
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def webtransport(
        self, authority: str, path: str = "/", *, fields: Fields | None = None, protocols: Sequence[str] = ()
    ) -> Session:
        """Ask for a WebTransport session; the connection must have been made with `webtransport=True`.

        `protocols` are those of the application that it may speak, the best first: the session's `protocol` is the
        server's choice. Raises `RequestError` if the server does not grant the session, with its status in the reason.
        """
        await self.wait_settings()
        protocol = self.http.session_protocol
        if protocol == PROTOCOL and self._asked_for_session and not self.http.sessions_limited:
            raise UsageError("the server takes one session at a time: it announces no flow control within sessions")
        fields = [*offer(protocols), *(fields or [])]
        request = session_request(authority.encode("ascii"), path.encode("ascii"), fields, protocol=protocol)
        stream = await self.begin(request)
        stream.wants_session = True
        try:
            await stream.wait_response()
            if not 200 <= stream.status < 300:
                raise RequestError(H3Code.H3_REQUEST_CANCELLED, f"the session was refused with status {stream.status}")
            chosen_protocol = chosen(stream.response or [])
            if chosen_protocol is not None and chosen_protocol not in protocols:
                stream.abort(H3Code.WT_ALPN_ERROR)  # draft-ietf-webtrans-http3-16 section 3.3
                raise RequestError(H3Code.WT_ALPN_ERROR, f"the server chose {chosen_protocol!r}, which was not offered")
        except BaseException:
            await stream.aclose()
            raise
        session = self.sessions.begin(stream, protocol)
        session.protocol = chosen_protocol
        return session

    @property
    def _asked_for_session(self) -> bool:
        return any(isinstance(stream, ClientStream) and stream.wants_session for stream in self._streams.values())

    def _response_received(self, event: ResponseReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if isinstance(stream, ClientStream):
            stream.response = event.fields
            stream.readable.fire()
            if event.ended and self.http.is_over(event.stream_id):
                self.forget(stream)

    def _informational_received(self, event: InformationalReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if isinstance(stream, ClientStream):
            stream.informational.append(event.fields)

    def _goaway_received(self, event: GoawayReceived) -> None:
        """The core gives up the requests that the server will not process: each has its own event."""
        self.available.fire()
        self.changed.fire()

    on_event: ClassVar[dict[type[Any], Callable[[Any, Any], None]]] = {
        **HttpConnection.on_event,
        ResponseReceived: _response_received,
        InformationalReceived: _informational_received,
        GoawayReceived: _goaway_received,
    }


async def _once(body: bytes) -> Any:
    yield body


class connect(Dialer[ClientConnection]):  # noqa: N801 - used like a function
    """`async with connect(host, port) as connection`, or `connection = await connect(...)`.

    `webtransport` lets sessions be asked for. What else may be said is in `ConnectOptions`.
    """

    def __init__(
        self,
        host: str,
        port: int = 443,
        *,
        settings: Settings = DEFAULT_SETTINGS,
        webtransport: bool = False,
        alpn: str | Sequence[str] = ALPN,
        **options: Unpack[ConnectOptions],
    ) -> None:
        if webtransport:
            settings = with_webtransport(settings)
            options["configuration"] = taking_datagrams(options.get("configuration"))
        super().__init__(host, port, functools.partial(ClientConnection, settings=settings), alpn=alpn, **options)
