"""The WebTransport sessions of a connection: which stand, and what arrives before they do."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from fairway.aio.http3.errors import RequestError
from fairway.aio.http3.stream import HttpStream
from fairway.aio.http3.webtransport import Session
from fairway.http3 import H3Code
from fairway.http3 import events as http_events
from fairway.http3.limits import MAX_WAITING_DATAGRAMS, MAX_WAITING_TUNNEL_STREAMS

if TYPE_CHECKING:
    from fairway.aio.http3.connection import HttpConnection


class Sessions:
    """Hands streams and datagrams to the sessions they are of, or keeps them a while for sessions that may come."""

    def __init__(self, connection: HttpConnection) -> None:
        self._connection: HttpConnection = weakref.proxy(connection)  # neither is to wait for the garbage collector
        self._standing: dict[int, Session] = {}
        self._streams: dict[int, tuple[int, float]] = {}
        """Streams of sessions that do not stand yet: whose they are, and since when."""
        self._datagrams: deque[tuple[int, bytes]] = deque(maxlen=MAX_WAITING_DATAGRAMS)
        """Datagrams of sessions that were asked for, and whose they are."""

    def __len__(self) -> int:
        return len(self._standing)

    def get(self, session_id: int) -> Session | None:
        """A session that stands."""
        return self._standing.get(session_id)

    @property
    def waiting(self) -> bool:
        """True if streams wait for their session."""
        return bool(self._streams)

    def begin(self, stream: HttpStream, protocol: bytes) -> Session:
        """A request became a session; streams and datagrams that came before it are its first."""
        session_id = stream.stream_id
        self._connection.http.begin_session(session_id, protocol=protocol)
        session = self._standing[session_id] = Session(stream)
        for stream_id, (wanted, _) in list(self._streams.items()):
            if wanted == session_id:
                del self._streams[stream_id]
                session.arrived(stream_id)
        for data in self._take_datagrams(session_id):
            session.datagram(data)
        return session

    def end(self, session: Session, error: RequestError) -> None:
        """A session is over: so are its streams."""
        self._standing.pop(session.session_id, None)
        self._connection.fail_streams(lambda stream: getattr(stream, "session", None) is session, error)

    def forget(self, session_id: int) -> None:
        """This request becomes no session any more: nobody waits for it."""
        if self._streams:
            self.refuse(lambda wanted, _: wanted == session_id, H3Code.WT_SESSION_GONE)
        if self._datagrams:
            self._take_datagrams(session_id)

    def opened(self, event: http_events.TunnelStreamOpened) -> None:
        """The peer opened a stream of a session."""
        http = self._connection.http
        session = self._standing.get(event.session_id)
        if session is not None:
            session.arrived(event.stream_id)
        elif http.cannot_begin(event.session_id):
            http.abort(event.stream_id, H3Code.WT_SESSION_GONE)
        elif len(self._streams) < MAX_WAITING_TUNNEL_STREAMS:
            self._streams[event.stream_id] = event.session_id, self._connection.now
        else:
            http.abort(event.stream_id, H3Code.WT_BUFFERED_STREAM_REJECTED)

    def refuse(self, refused: Callable[[int, float], bool], code: int) -> None:
        """Give up the waiting streams whose session's ID and time of arrival fit."""
        for stream_id, waiting in list(self._streams.items()):
            if refused(*waiting):
                del self._streams[stream_id]
                if self._connection.closing is None:
                    self._connection.http.abort(stream_id, code)
                    self._connection.wake()

    def stream_given_up(self, stream_id: int) -> None:
        """The peer gave up a stream, whose session may not stand yet."""
        if self._streams.pop(stream_id, None) is not None:
            self._connection.http.abort(stream_id, H3Code.WT_BUFFERED_STREAM_REJECTED)

    def datagram(self, event: http_events.DatagramReceived) -> None:
        """A datagram of a request arrived."""
        session = self._standing.get(event.stream_id)
        if session is not None:
            session.datagram(event.data)
        elif self._connection.may_become_session(event.stream_id):
            self._datagrams.append((event.stream_id, event.data))

    def _take_datagrams(self, session_id: int) -> list[bytes]:
        taken = [data for known, data in self._datagrams if known == session_id]
        if taken:
            kept = [waiting for waiting in self._datagrams if waiting[0] != session_id]
            self._datagrams.clear()
            self._datagrams.extend(kept)
        return taken

    def connection_lost(self) -> None:
        """The connection ended, and its sessions with it."""
        for session in list(self._standing.values()):
            session.connection_lost()
        self._standing.clear()
        self._streams.clear()
        self._datagrams.clear()
