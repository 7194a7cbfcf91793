"""`serve`: an HTTP/3 server that runs a handler for each request."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Unpack

from fairway.aio.driver import Outlet
from fairway.aio.http3.connection import HttpConnection
from fairway.aio.http3.errors import RequestError
from fairway.aio.http3.stream import HttpStream
from fairway.aio.http3.webtransport import Session, taking_datagrams
from fairway.aio.options import ServeOptions
from fairway.aio.server import Listener
from fairway.aio.signal import Signal
from fairway.http3 import ALPN, DEFAULT_SETTINGS, Fields, H3Code, RequestReceived, Settings
from fairway.http3.limits import MAX_SESSIONS, REQUEST_TIMEOUT_S
from fairway.http3.session_protocols import available, choice
from fairway.http3.webtransport import PROTOCOL, session_protocol, session_response, with_webtransport
from fairway.quic import Connection, ConnectionClosed, QuicConfiguration, UsageError
from fairway.quic.events import ConnectionTerminated

SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})  # RFC 9110 section 9.2.1
TOO_EARLY: Fields = [(b":status", b"425")]  # RFC 8470 section 5.2: the client asks again after the handshake

RequestHandler = Callable[["Request"], Awaitable[None]]


class Request(HttpStream):
    """A client's request, and the way to answer it."""

    __slots__ = ("early", "ended", "fields", "responded", "session_version")

    connection: ServerConnection

    def __init__(self, connection: ServerConnection, event: RequestReceived) -> None:
        super().__init__(connection, event.stream_id)
        self.fields = event.fields
        """Pseudo-fields first: `:method`, `:scheme`, `:authority`, `:path`."""
        self.early = connection.core.early
        """True if it came in 0-RTT and the handshake is not complete: it may be a replay (RFC 8470 section 3)."""
        self.ended = event.ended
        """True if there is no body."""
        self.responded = False
        """True once the final response was begun."""
        self.session_version = session_protocol(event.fields)
        """Which WebTransport it asks for a session of (`:protocol`); None if it asks for none."""

    def field(self, name: bytes) -> bytes | None:
        """The first value of a field."""
        return next((value for known, value in self.fields if known == name), None)

    def inform(self, fields: Fields) -> None:
        """Send an interim response: `:status` 1xx, for example 103 with links."""
        if self.stopped is not None:
            raise self.stopped
        self.connection.http.respond(self.stream_id, fields)
        self.connection.wake()

    def respond(self, fields: Fields, data: bytes = b"", *, end: bool = False) -> None:
        """Send the final response's fields, `:status` first; a small body (64 KiB at most) may go with them."""
        if self.stopped is not None:
            raise self.stopped
        self.connection.http.respond(self.stream_id, fields, data=data, end=end)
        self.responded = True
        if end:
            self.connection.deliveries.expect(self.stream_id)
        self.connection.wake()

    @property
    def wants_session(self) -> bool:
        """True if the client asks for a WebTransport session."""
        return self.session_version is not None

    @property
    def origin(self) -> str | None:
        """The `origin` field: which web site's page asks, for a browser says so; None if it is not there."""
        value = self.field(b"origin")
        return None if value is None else value.decode("ascii", "replace")

    @property
    def session_protocols(self) -> list[str]:
        """The application's protocols that a client offers for its session, the best first."""
        return available(self.fields)

    def accept_session(self, fields: Fields | None = None, *, protocol: str | None = None) -> Session:
        """Grant the WebTransport session that was asked for; look at `origin` before.

        `protocol` is one of `session_protocols`, if the application chooses among them.
        `UsageError` if none was asked for, or the server was not started with `webtransport=True`.
        """
        version = self.session_version
        if version is None:
            raise UsageError("the request asks for no WebTransport session: see `wants_session`")
        if not self.connection.takes_sessions:
            raise UsageError("the server was started without webtransport=True")
        if protocol is not None and protocol not in self.session_protocols:
            raise UsageError(f"the client offers no protocol {protocol!r}: see `session_protocols`")
        self.respond(session_response([*choice(protocol), *(fields or [])], protocol=version))
        session = self.connection.sessions.begin(self, version)
        session.protocol = protocol
        return session


class ServerConnection(HttpConnection):
    """One client's connection: a task for each of its requests."""

    def __init__(
        self,
        core: Connection,
        outlet: Outlet,
        loop: asyncio.AbstractEventLoop,
        *,
        is_client: bool,
        handler: RequestHandler,
        settings: Settings,
        outlive: bool = False,
        early_unsafe: bool = False,
        request_timeout_s: float | None = REQUEST_TIMEOUT_S,
    ) -> None:
        super().__init__(core, outlet, loop, is_client=is_client, settings=settings)
        self._handler = handler
        self._early_unsafe = early_unsafe
        self.takes_sessions = settings.webtransport
        """True if clients may ask for WebTransport sessions."""
        self._request_timeout_s = request_timeout_s
        self._streams_seen = 0
        self._patience: asyncio.TimerHandle | None = None
        """Until streams on which no request has arrived are looked at."""
        self._outlive = outlive
        self.context: Any = None
        """For the handler: what it wants to remember about the connection."""
        self.requests = 0
        """Requests that were begun."""
        self._tasks: dict[asyncio.Task[None], Request] = {}
        self._drained = Signal()
        self._leaving = False
        self._refusing = False

    @property
    def active_requests(self) -> int:
        """Requests whose handlers run."""
        return len(self._tasks)

    def dispatch(self) -> None:
        """Tell streams and tasks what happened; what the client has begun now must be whole in time."""
        super().dispatch()
        if self._patience is None and self.http.streams_opened != self._streams_seen:
            self._expect_requests()

    def _expect_requests(self) -> None:
        self._streams_seen = self.http.streams_opened
        if self._request_timeout_s is not None and self.closing is None:
            self._patience = self._loop.call_later(self._request_timeout_s / 2, self._refuse_unfinished)

    def _refuse_unfinished(self) -> None:
        """Give up streams whose request, or session, has not come in time."""
        self._patience = None
        if self.closing is not None or self._request_timeout_s is None:
            return
        now = self._loop.time()
        since = now - self._request_timeout_s
        for stream_id in self.http.unfinished(since):
            self.http.abort(stream_id, H3Code.H3_REQUEST_INCOMPLETE)
        self.sessions.refuse(lambda _, arrived: arrived <= since, H3Code.WT_BUFFERED_STREAM_REJECTED)
        if self.sessions.waiting or self.http.unfinished(now):
            self._expect_requests()
        self.wake()

    def _request_received(self, event: RequestReceived) -> None:
        self.requests += 1
        request = Request(self, event)
        if request.wants_session and self._asked_for_sessions() >= MAX_SESSIONS:
            self.http.abort(event.stream_id, H3Code.H3_REQUEST_REJECTED)
            return
        self._streams[event.stream_id] = request
        task = self._loop.create_task(self._run(request))
        self._tasks[task] = request
        task.add_done_callback(self._done)

    def _asked_for_sessions(self) -> int:
        """Sessions that stand, and requests for some."""
        return sum(other.wants_session for other in self._tasks.values())

    async def _settle_session(self, request: Request, version: bytes) -> bool:
        """Whether the client may ask for a session; else the request is given up.

        draft-ietf-webtrans-http3-16 sections 3.1 and 5.1.
        """
        await self.wait_settings()
        if not self.takes_sessions:
            return True  # a request like any other, which the handler answers
        if not self.http.takes_session(version):
            self.http.abort(request.stream_id, H3Code.H3_MESSAGE_ERROR)
        elif version == PROTOCOL and not self.http.sessions_limited and self._asked_for_sessions() > 1:
            self.http.abort(request.stream_id, H3Code.H3_REQUEST_REJECTED)
        else:
            return True
        return False

    async def _run(self, request: Request) -> None:
        """Run the handler; what it left undone is ended here."""
        code = H3Code.H3_NO_ERROR
        try:
            if request.early and not self._early_unsafe and request.field(b":method") not in SAFE_METHODS:
                request.respond(TOO_EARLY, end=True)
                return
            version = request.session_version
            if version is None or await self._settle_session(request, version):
                await self._handler(request)
        except (ConnectionClosed, RequestError):
            code = H3Code.H3_REQUEST_CANCELLED  # the client left: the handler need not catch it
        except asyncio.CancelledError:
            code = H3Code.H3_REQUEST_CANCELLED
            raise
        except Exception as error:
            if isinstance(error, ExceptionGroup) and error.split((ConnectionClosed, RequestError))[1] is None:
                code = H3Code.H3_REQUEST_CANCELLED  # the same, of a TaskGroup
                return
            code = H3Code.H3_INTERNAL_ERROR
            context = {"message": "a request's handler failed", "exception": error, "connection": self}
            self._loop.call_exception_handler(context)
        finally:
            self._finish(request, code)

    def _finish(self, request: Request, code: H3Code) -> None:
        session = self.sessions.get(request.stream_id)
        if session is not None:
            session.abandoned()
        if self.closing is None and not self.http.is_over(request.stream_id):
            if code is H3Code.H3_NO_ERROR:
                self.http.stop_reading(request.stream_id)  # RFC 9114 section 4.1: the rest was not needed
                if session is not None and self.http.can_send(request.stream_id):
                    self.http.send_data(request.stream_id, b"", end=True)
                code = H3Code.H3_INTERNAL_ERROR  # for an answer that was not ended
            self.http.abort(request.stream_id, code)
            self.wake()
        self.forget(request)

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not self._tasks:
            self._drained.fire()

    def shut_down(self) -> None:
        """Tell the client that this connection ends, and a little later which request was the last.

        RFC 9114 section 5.2.
        """
        if self.closing is None and self.handshake is not None and not self._leaving:
            self._leaving = True
            self.http.goaway(final=False)
            self.wake()
            self._loop.call_later(2 * self.core.path.rtt.smoothed, self._refuse_more)

    def _refuse_more(self) -> None:
        self._refusing = True
        if self.closing is None:
            self.http.goaway()
            self.wake()
        self._drained.fire()

    async def serve_until_over(self) -> None:
        """Run until the client leaves, or the server shuts down and all requests are answered."""
        try:
            while self._tasks or not self._refusing:
                await self.wait(self._drained)
        except ConnectionClosed:
            if not self._outlive:
                self._cancel()
            raise
        except BaseException:
            self._cancel()
            raise

    def _cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def _terminated(self, event: ConnectionTerminated) -> None:
        super()._terminated(event)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._drained.fire()

    on_event: ClassVar[dict[type[Any], Callable[[Any, Any], None]]] = {
        **HttpConnection.on_event,
        RequestReceived: _request_received,
        ConnectionTerminated: _terminated,
    }


def bound_to(settings: Settings, configuration: QuicConfiguration | None) -> QuicConfiguration:
    """A configuration that takes early data only from who saw these settings (RFC 9114 section 7.2.4.2)."""
    configuration = configuration or QuicConfiguration()
    return replace(configuration, early_context=configuration.early_context + settings.encode())


async def _attend(connection: ServerConnection) -> None:
    await connection.serve_until_over()


class serve(Listener[ServerConnection]):  # noqa: N801 - used like a function
    """`async with serve(handler, host, port, identities=...) as server`, or `server = await serve(...)`.

    `handler(request)` runs as a task for every request; it is cancelled when the client's connection ends, but not with
    `outlive`: then it learns of the end from what it waits for. `webtransport` lets clients ask for sessions. A stream
    on which no whole request has come within `request_timeout_s` (to twice as long) is given up; None waits for ever.
    Where the tickets of `tls` allow early data, requests that may be replays are marked (`Request.early`), and those
    that are not safe answered with 425 unless `early_unsafe`. What else may be said is in `ServeOptions`.
    """

    def __init__(
        self,
        handler: RequestHandler,
        host: str | None,
        port: int,
        *,
        settings: Settings = DEFAULT_SETTINGS,
        outlive: bool = False,
        webtransport: bool = False,
        early_unsafe: bool = False,
        request_timeout_s: float | None = REQUEST_TIMEOUT_S,
        alpn: str | Sequence[str] = ALPN,
        **options: Unpack[ServeOptions],
    ) -> None:
        if webtransport:
            settings = with_webtransport(settings)
            options["configuration"] = taking_datagrams(options.get("configuration"))
        options["configuration"] = bound_to(settings, options.get("configuration"))
        make = functools.partial(
            ServerConnection,
            handler=handler,
            settings=settings,
            outlive=outlive,
            early_unsafe=early_unsafe,
            request_timeout_s=request_timeout_s,
        )
        super().__init__(_attend, host, port, make, alpn=alpn, **options)
