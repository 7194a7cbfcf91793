"""A connection that speaks HTTP/3: hands the core's events to the streams, tasks and waiters they are for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from fairway.aio.driver import Outlet
from fairway.aio.http3.deliveries import Deliveries
from fairway.aio.http3.errors import RequestError
from fairway.aio.http3.sessions import Sessions
from fairway.aio.http3.stream import HttpStream
from fairway.aio.lifecycle import Lifecycle
from fairway.aio.signal import Signal
from fairway.http3 import DEFAULT_SETTINGS, H3Code, Http3Connection, Settings
from fairway.http3 import events as http_events
from fairway.quic import Connection, ConnectionClosed
from fairway.quic import events as quic_events


class HttpConnection(Lifecycle):
    """What client and server connections share: bodies, ends, and the peer's settings."""

    def __init__(
        self,
        core: Connection,
        outlet: Outlet,
        loop: asyncio.AbstractEventLoop,
        *,
        is_client: bool,
        settings: Settings = DEFAULT_SETTINGS,
    ) -> None:
        super().__init__(core, outlet, loop, is_client=is_client)
        self.http = Http3Connection(core, is_client=is_client, settings=settings)
        self._streams: dict[int, HttpStream] = {}
        self._given_up: list[HttpStream] = []
        """Streams that the peer ended in one direction, while events are told."""
        self.deliveries = Deliveries(core)
        """What we ended and the peer has not acknowledged."""
        self.available = Signal()
        """Fires when the peer allows more streams."""
        self.sessions = Sessions(self)

    # What the peer said of itself

    @property
    def peer_settings(self) -> Settings | None:
        """The peer's settings, once they have arrived."""
        return self.http.peer_settings

    async def wait_settings(self) -> Settings:
        """Wait for the peer's settings."""
        while (settings := self.http.peer_settings) is None:
            await self.wait(self.changed)
        return settings

    # Ends

    def close(self, code: int = H3Code.H3_NO_ERROR, reason: str = "", *, linger: bool = True) -> None:
        """As `Lifecycle.close`, without an error if no other code is given."""
        super().close(code, reason, linger=linger)

    @property
    def clean(self) -> bool:
        """True if the connection ended, and without an error."""
        return self.closing is not None and (
            self.closing.clean or (self.closing.application and self.closing.code == H3Code.H3_NO_ERROR)
        )

    @property
    def undelivered(self) -> bool:
        """Whether streams that were ended are not yet acknowledged."""
        return bool(self.deliveries)

    async def wait_acknowledged(self) -> None:
        """Wait until the peer has all that was sent on streams that were ended."""
        while self.deliveries:
            await self.wait(self.deliveries.all_made)

    # For streams

    def forget(self, stream: HttpStream) -> None:
        """The application is done with a stream."""
        self._streams.pop(stream.stream_id, None)
        self.sessions.forget(stream.stream_id)

    def forget_if_over(self, stream: HttpStream) -> None:
        """Nothing can happen on a stream any more, if that is so: it is not known here from now on."""
        if self.http.is_over(stream.stream_id):
            self.forget(stream)

    def adopt(self, stream: HttpStream) -> None:
        """Events of this stream go to it."""
        self._streams[stream.stream_id] = stream

    def fail_streams(self, chosen: Callable[[HttpStream], bool], error: RequestError) -> None:
        """End the streams that fit."""
        for stream in [known for known in self._streams.values() if chosen(known)]:
            stream.fail(error)
            self.forget(stream)

    def may_become_session(self, stream_id: int) -> bool:
        """True if a request on this stream asks for a session."""
        stream = self._streams.get(stream_id)
        return stream is not None and getattr(stream, "wants_session", False)

    @property
    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def _streams_available(self, event: quic_events.StreamsAvailable) -> None:
        self.available.fire()

    # Events

    def dispatch(self) -> None:
        """Tell streams and tasks what happened."""
        handlers = self.on_event
        for event in self.http.events(self._loop.time()):
            handler = handlers.get(type(event))
            if handler is not None:
                handler(self, event)
        if self._given_up:  # not before: more may have been told of them
            given_up, self._given_up = self._given_up, []
            for stream in given_up:
                self.forget_if_over(stream)

    def _handshake_completed(self, event: quic_events.HandshakeCompleted) -> None:
        self.handshake = event
        self.changed.fire()
        self.available.fire()

    def _settings_received(self, event: http_events.SettingsReceived) -> None:
        self.changed.fire()

    def _body_readable(self, event: http_events.BodyReadable) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.readable.fire()

    def _trailers_received(self, event: http_events.TrailersReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.trailers = event.fields

    def _stream_writable(self, event: quic_events.StreamWritable) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.writable.fire()

    def _stream_finished(self, event: quic_events.StreamFinished) -> None:
        self.deliveries.settle(event.stream_id)

    def _message_failed(self, event: http_events.MessageFailed) -> None:
        stream = self._streams.pop(event.stream_id, None)
        if stream is not None:
            stream.fail(RequestError(event.code, f"the peer's message is malformed: {event.reason}"))

    def _stream_aborted(self, event: http_events.StreamAborted) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.failure = stream.failure or RequestError(event.code, "the peer gave the stream up")
            if self.http.is_over(event.stream_id):
                stream.fail(stream.failure)
            self._given_up.append(stream)
            stream.readable.fire()
        else:
            self.sessions.stream_given_up(event.stream_id)

    def _reading_stopped(self, event: http_events.ReadingStopped) -> None:
        self.deliveries.settle(event.stream_id)
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.stopped = stream.stopped or RequestError(event.code, "the peer no longer reads the stream")
            self._given_up.append(stream)
            stream.writable.fire()

    def _terminated(self, event: quic_events.ConnectionTerminated) -> None:
        error = ConnectionClosed(event.closing)
        for stream in list(self._streams.values()):
            stream.fail(error)
        self._streams.clear()
        self.sessions.connection_lost()
        self.deliveries.settle_all()
        self.available.fire()
        self.changed.fire()

    on_event: ClassVar[dict[type[Any], Callable[[Any, Any], None]]] = {
        quic_events.HandshakeCompleted: _handshake_completed,
        quic_events.StreamWritable: _stream_writable,
        quic_events.StreamFinished: _stream_finished,
        quic_events.ObserverFailed: Lifecycle.observer_failed,
        quic_events.ConnectionTerminated: _terminated,
        **Lifecycle.on_common_event,
        quic_events.StreamsAvailable: _streams_available,
        http_events.TunnelStreamOpened: lambda connection, event: connection.sessions.opened(event),
        http_events.DatagramReceived: lambda connection, event: connection.sessions.datagram(event),
        http_events.SettingsReceived: _settings_received,
        http_events.BodyReadable: _body_readable,
        http_events.TrailersReceived: _trailers_received,
        http_events.MessageFailed: _message_failed,
        http_events.StreamAborted: _stream_aborted,
        http_events.ReadingStopped: _reading_stopped,
    }
    """What each event does; subclasses add theirs."""
