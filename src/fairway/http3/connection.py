"""One HTTP/3 connection without I/O, over a `fairway.quic.Connection` that somebody else turns.

    http = Http3Connection(quic, is_client=False)
    for event in http.events():      # instead of quic.events(); after quic.receive and quic.handle_timeout
        ...
    http.respond(stream_id, fields)  # and then quic.transmit, until it gives None

The rooms do the work: `dispatch` acts on QUIC's events, `receive` parses request streams, `control` the peer's other
streams, `qpack` field sections, `fields` says what is well-formed. This class only passes on, and sends.
"""

from __future__ import annotations

import contextlib

from fairway.http3 import frames
from fairway.http3.dispatch import EventHandlers
from fairway.http3.errors import H3Code, Http3Error
from fairway.http3.events import Event, MessageFailed, StreamAborted
from fairway.http3.fields import Fields, check_own_request, check_response, check_trailers, checked, section_size
from fairway.http3.limits import MAX_FIELD_SECTION, QPACK_BLOCKED_STREAMS, QPACK_TABLE_CAPACITY
from fairway.http3.message import Arriving, Leaving, Message
from fairway.http3.receive import RequestReceiver
from fairway.http3.settings import Settings
from fairway.http3.state import Http3State
from fairway.http3.tunnel_calls import TunnelCalls
from fairway.http3.webtransport import PROTOCOLS, check_capsules
from fairway.quic import Connection, ConnectionClosed, UsageError
from fairway.quic import events as quic_events

ALPN = "h3"

FRAME_HEADER = 9
"""Bytes that the header of a DATA frame may take: type and length."""

SMALL_BODY = 64 * 1024
"""Bytes of body that may go with the fields, in one write."""

LAST_REQUEST_ID = (1 << 62) - 4
"""GOAWAY with it announces the end without refusing anything yet (RFC 9114 section 5.2)."""

_UNIDIRECTIONAL = 0x02

_CUT = (MessageFailed, StreamAborted)
"""Events after which a body will not be whole."""

DEFAULT_SETTINGS = Settings(
    qpack_max_table_capacity=QPACK_TABLE_CAPACITY,
    max_field_section_size=MAX_FIELD_SECTION,
    qpack_blocked_streams=QPACK_BLOCKED_STREAMS,
)


class Http3Connection(TunnelCalls):
    """A client's or a server's end. A caller's mistake is `UsageError`; a peer's closes the connection or a stream."""

    def __init__(self, quic: Connection, *, is_client: bool, settings: Settings = DEFAULT_SETTINGS) -> None:
        super().__init__(Http3State(quic, settings, is_client=is_client))
        self._quic = quic
        self._receiver = RequestReceiver(self._state)
        self._handlers = EventHandlers(self._state, self._receiver)

    # What arrives

    def events(self, now: float) -> list[Event]:
        """What happened since the last call, in order; takes the events of the QUIC connection."""
        state = self._state
        state.now = now
        for event in self._quic.events():
            self._handlers.handle(event)
        if state.coder.decoder_out and state.decoder_id >= 0:
            self._send_acknowledgements()
        if state.failure is not None:
            self._close(state.failure, now)
        events, state.events = state.events, []
        return events

    def read(self, stream_id: int, limit: int = -1) -> bytes:
        """Bytes of a body, up to `limit`; b"" if none are there, or at the end (see `at_end`).

        Reading is what lets the peer send more. Trailers are an event that comes after the last byte was read.
        """
        message = self._state.messages.get(stream_id)
        if message is None:
            return b""
        try:
            return self._receiver.read(message, limit)
        except Http3Error as error:
            self._state.failure = error  # `events` closes: it knows the time
            return b""

    def at_end(self, stream_id: int) -> bool:
        """True if the whole body was read, or the stream is gone.

        Never true before `events` has told a MessageFailed or StreamAborted: a body that was cut is not a whole one.
        """
        state = self._state
        message = state.messages.get(stream_id)
        if message is not None and message.arriving is not Arriving.ENDED:
            return False
        return state.failure is None and not any(
            type(event) in _CUT and event.stream_id == stream_id  # type: ignore[union-attr]
            for event in state.events
        )

    def is_over(self, stream_id: int) -> bool:
        """True if nothing can happen on the stream any more, in either direction."""
        return stream_id not in self._state.messages

    @property
    def has_events(self) -> bool:
        """True if `read` brought something that `events` will tell."""
        return bool(self._state.events) or self._state.failure is not None

    @property
    def streams_opened(self) -> int:
        """Requests that were begun; on a server the streams that the client has opened for them."""
        return self._state.requests

    def unfinished(self, since: float) -> list[int]:
        """Streams that clients opened at `since` or before, and on which no request has arrived: `abort` them."""
        return [
            message.stream_id
            for message in self._state.messages.values()
            if message.arriving is Arriving.FIELDS and message.begun_at <= since
        ]

    # What is sent

    def request(self, fields: Fields, *, data: bytes = b"", end: bool = False) -> int | None:
        """Begin a request; its stream's ID, or None while the peer allows no more streams (StreamsAvailable tells).

        A request that ends with StreamAborted and H3_REQUEST_REJECTED was not processed: it may be sent again.
        """
        state = self._state
        if not state.is_client:
            raise UsageError("a server sends no requests")
        if state.goaway_received is not None:
            raise UsageError("the server shuts down and takes no more requests: use another connection")
        line = checked(check_own_request, fields)
        if line.protocol in PROTOCOLS:
            checked(check_capsules, fields)
        if line.protocol is not None and not (state.peer and state.peer.enable_connect_protocol):
            raise UsageError("the server has not said that it takes extended CONNECT: wait for SettingsReceived")
        self._check_limits(fields, data)
        stream_id = self._quic.open_stream()
        if stream_id is None:
            return None
        state.requests += 1
        message = state.messages[stream_id] = Message(stream_id, method=line.method, protocol=line.protocol)
        self._send_fields(message, fields, data, end)
        return stream_id

    def respond(self, stream_id: int, fields: Fields, *, data: bytes = b"", end: bool = False) -> None:
        """Send a response's fields, interim (1xx) or final; up to `SMALL_BODY` bytes of body may go with final ones."""
        message = self._sending(stream_id)
        if message.leaving is not Leaving.FIELDS:
            raise UsageError(f"the response on stream {stream_id} was begun already")
        status, _ = checked(check_response, fields)
        if message.protocol in PROTOCOLS and 200 <= status < 300:
            checked(check_capsules, fields)
        self._check_limits(fields, data)
        if status < 200:
            if data or end:
                raise UsageError("an interim response has no body and does not end")
            self._state.send_fields(stream_id, fields)
            return
        self._send_fields(message, fields, data, end)

    def can_send(self, stream_id: int) -> bool:
        """True until our side of the stream was ended, or the peer stopped it (ReadingStopped)."""
        message = self._state.messages.get(stream_id)
        return message is not None and message.leaving is not Leaving.ENDED

    def _send_fields(self, message: Message, fields: Fields, data: bytes, end: bool) -> None:
        self._state.send_fields(message.stream_id, fields, data=data, end=end)
        message.leave(Leaving.ENDED if end else Leaving.BODY)
        if end:
            self._state.forget_if_over(message)

    def _check_limits(self, fields: Fields, data: bytes = b"") -> None:
        if len(data) > SMALL_BODY:
            raise UsageError(f"more than {SMALL_BODY} bytes go with send_data")
        peer = self._state.peer
        if peer is not None and peer.max_field_section_size is not None:
            size = section_size(fields)
            if size > peer.max_field_section_size:
                raise UsageError(f"a field section of {size} bytes: the peer takes {peer.max_field_section_size}")

    def send_data(self, stream_id: int, data: bytes | memoryview, *, end: bool = False) -> int:
        """Send body bytes, and with `end` the end; how many were taken, fewer if the send buffer is full.

        StreamWritable tells when there is room again; `end` counts only if everything was taken.
        """
        message = self._sending(stream_id)
        if message.leaving is Leaving.FIELDS:
            raise UsageError("the fields go before the body")
        if message.leaving is Leaving.TUNNEL:
            taken = self._send_content(message, data, end)
        else:
            taken = self._send_frame(stream_id, data, end)
        if end and taken == len(data):
            message.leave(Leaving.ENDED)
            self._state.forget_if_over(message)
        return taken

    def _send_frame(self, stream_id: int, data: bytes | memoryview, end: bool) -> int:
        length = len(data)
        if not length:
            self._quic.write(stream_id, b"", end=end)
            return 0
        room = self._quic.room(stream_id, length + FRAME_HEADER) - FRAME_HEADER
        if room < length:
            if room <= 0:
                return 0
            data, length, end = data[:room], room, False
        self._quic.write(stream_id, frames.encode_header(frames.DATA, length), whole=True)
        self._quic.write(stream_id, data, end=end, whole=True)
        return length

    def _send_content(self, message: Message, data: bytes | memoryview, end: bool) -> int:
        """Bytes of a session's stream, as many as the session's limit allows."""
        sessions = self._state.sessions
        room = sessions.room(message, len(data))
        if room < len(data):
            data, end = data[:room], False
        taken = self._quic.write(message.stream_id, data, end=end)
        sessions.sent(message, taken)
        return taken

    def send_trailers(self, stream_id: int, fields: Fields) -> None:
        """Send the fields after the body; they end the message."""
        message = self._sending(stream_id)
        if message.leaving is not Leaving.BODY:
            raise UsageError("trailers go after the body")
        checked(check_trailers, fields)
        self._check_limits(fields)
        self._state.send_fields(stream_id, fields, end=True)
        message.leave(Leaving.ENDED)
        self._state.forget_if_over(message)

    def _sending(self, stream_id: int) -> Message:
        message = self._state.messages.get(stream_id)
        if message is None or message.leaving is Leaving.ENDED:
            raise UsageError(f"nothing can be sent on stream {stream_id}: it was ended, reset or never begun")
        return message

    def abort(self, stream_id: int, code: int = H3Code.H3_REQUEST_CANCELLED) -> None:
        """Give up a stream in both directions."""
        message = self._state.messages.get(stream_id)
        if message is not None:
            self._state.abort(message, code)

    def reset(self, stream_id: int, code: int) -> None:
        """Give up sending; what the peer sends is still read."""
        message = self._state.messages.get(stream_id)
        if message is not None and message.leaving is not Leaving.ENDED:
            self._state.give_up(message, code)
            self._state.forget_if_over(message)

    def stop_reading(self, stream_id: int, code: int = H3Code.H3_NO_ERROR) -> None:
        """Read no more of a message; a server that has answered says H3_NO_ERROR (RFC 9114 section 4.1)."""
        message = self._state.messages.get(stream_id)
        if message is not None and message.arriving is not Arriving.ENDED:
            self._state.take_no_more(message)
            self._state.stop(stream_id, code)
            self._state.sessions.stopped(message)
            self._state.forget_if_over(message)

    # The connection

    @property
    def peer_settings(self) -> Settings | None:
        """The peer's settings, once they have arrived."""
        return self._state.peer

    @property
    def going_away(self) -> bool:
        """True if either side said that it shuts down."""
        return self._state.goaway_received is not None or self._state.goaway_sent is not None

    def goaway(self, *, final: bool = True) -> None:
        """Shut down gracefully: tell which requests will be processed, refuse the ones after (section 5.2).

        A server says first that an end will come (`final` False), and a round trip later which request was the last.
        """
        state = self._state
        identifier = state.next_request_id if final else LAST_REQUEST_ID
        if state.is_client:
            identifier = 0
        if self._state.control_id < 0 or (state.goaway_sent is not None and identifier >= state.goaway_sent):
            return
        state.goaway_sent = identifier
        self._quic.write(self._state.control_id, frames.Goaway(identifier).encode(), whole=True)

    def prioritize(self, stream_id: int, update: bytes) -> None:
        """Ask the server for another priority of a request (PRIORITY_UPDATE, RFC 9218 section 7)."""
        if not self._state.is_client:
            raise UsageError("a server changes priorities by itself")
        if stream_id & 3 or stream_id < 0:
            raise UsageError(f"stream {stream_id} is no request: only requests have priorities")
        if self._state.control_id >= 0:
            self._quic.write(self._state.control_id, frames.PriorityUpdate(stream_id, update).encode(), whole=True)

    def close(self, now: float, code: int = H3Code.H3_NO_ERROR, reason: str = "") -> None:
        """End the connection at once."""
        self._quic.close(now, code, reason)

    def _close(self, error: Http3Error, now: float) -> None:
        self._state.failure = None
        self._quic.close(now, error.code, str(error))
        for event in self._quic.events():
            if isinstance(event, quic_events.ConnectionTerminated):
                self._state.events.append(event)

    def _send_acknowledgements(self) -> None:
        """What decoding has left for our QPACK decoder stream."""
        state = self._state
        out, state.coder.decoder_out = state.coder.decoder_out, b""
        with contextlib.suppress(ConnectionClosed):
            if self._quic.write(state.decoder_id, out) < len(out):
                state.failure = Http3Error(H3Code.H3_EXCESSIVE_LOAD, "the QPACK decoder stream is not read")
