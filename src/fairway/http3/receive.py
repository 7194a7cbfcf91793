"""Request streams as they arrive: frames, field sections, bodies.

A body stays in the QUIC stream, under its flow control, until the application reads it; only what is in front of it
is parsed ahead.
"""

from __future__ import annotations

from fairway.http3 import frames
from fairway.http3.errors import FieldsTooLargeError, H3Code, Http3Error, MessageError
from fairway.http3.events import (
    BodyReadable,
    Fields,
    InformationalReceived,
    ReadingStopped,
    RequestReceived,
    ResponseReceived,
    TrailersReceived,
    TunnelStreamOpened,
)
from fairway.http3.fields import check_request, check_response, check_size, check_trailers
from fairway.http3.limits import (
    BUFFER_READ,
    MAX_ENCODED_FIELDS,
    MAX_IDLE_FRAMES,
    MAX_INTERIM_RESPONSES,
)
from fairway.http3.message import Arriving, Leaving, Message
from fairway.http3.priorities import DEFAULT, Priority
from fairway.http3.state import Http3State
from fairway.http3.webtransport import PROTOCOLS, check_capsules

HEADER_READ = 32
"""Bytes read between two DATA frames: a frame's header, and hardly anything of what follows."""

SKIP_READ = 64 * 1024
"""Bytes of an unknown frame read at a time."""

_NO_CONTENT = (204, 304)


class RequestReceiver:
    """Parses request streams and gives out their bodies. `Http3Error` ends the connection."""

    def __init__(self, state: Http3State) -> None:
        self._state = state
        self._quic = state.quic

    def readable(self, message: Message) -> None:
        """Bytes or the end have arrived."""
        if message.arriving is Arriving.FIELDS:
            if not message.blocked:
                self._guarded(message)
        elif message.arriving is not Arriving.ENDED:
            if message.session_id is not None:
                self._state.sessions.arrived(message)
            self._state.events.append(BodyReadable(message.stream_id))

    def unblocked(self, stream_id: int) -> None:
        """The QPACK encoder stream brought what a field section of this stream waited for."""
        message = self._state.messages.get(stream_id)
        if message is None or not message.blocked:
            return
        message.blocked = False
        self._state.hold(message, 0)
        try:
            self._fields(message, self._state.coder.resume(stream_id))
        except (MessageError, FieldsTooLargeError) as error:
            self._state.fail(message, error)
            return
        if message.arriving is Arriving.FIELDS:
            self._guarded(message)
        else:
            self._state.events.append(BodyReadable(stream_id))

    def read(self, message: Message, limit: int) -> bytes:
        """Body bytes, up to `limit`, all that are there if negative."""
        if message.arriving is Arriving.TUNNEL:
            return self._read_tunnel(message, limit)
        parts: list[bytes] = []
        while limit:
            if not message.remaining:
                self._guarded(message)
                if not message.remaining:
                    break
            piece = self._piece(message, limit)
            if not piece:
                break
            parts.append(piece)
            if limit > 0:
                limit -= len(piece)
        if parts and not message.remaining and message.arriving is not Arriving.ENDED:
            self._guarded(message)  # so that the end, or trailers, are known with the last bytes
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _piece(self, message: Message, limit: int) -> bytes:
        """Bytes of the current DATA frame."""
        wanted = message.remaining if limit < 0 else min(limit, message.remaining)
        buffer = message.buffer
        if buffer:
            piece = buffer[:wanted]
            message.buffer = buffer[wanted:]
        elif self._quic.at_end(message.stream_id):
            raise _cut_short(message)
        else:
            piece = self._quic.read(message.stream_id, wanted)
        message.remaining -= len(piece)
        return piece

    def _read_tunnel(self, message: Message, limit: int) -> bytes:
        data = message.buffer
        if data:
            message.buffer = b"" if limit < 0 else data[limit:]
            data = data if limit < 0 else data[:limit]
        elif not self._quic.at_end(message.stream_id):
            data = self._quic.read(message.stream_id, limit)
        if data:
            self._state.sessions.read(message, len(data))
        if not message.buffer and message.arriving is Arriving.TUNNEL and self._quic.at_end(message.stream_id):
            message.arrive(Arriving.ENDED)
            self._state.forget_if_over(message)
        return data

    # Frames

    def _guarded(self, message: Message) -> None:
        try:
            self._advance(message)
        except (MessageError, FieldsTooLargeError) as error:
            self._state.fail(message, error)

    def _advance(self, message: Message) -> None:
        """Parse frames until body bytes stand in front, or more has to arrive."""
        while message.arriving not in (Arriving.ENDED, Arriving.TUNNEL):
            if message.blocked or message.remaining:
                return
            if message.skipping:
                self._skip(message)
                if not message.skipping:
                    continue
            elif message.buffer and len(message.buffer) >= message.awaited:
                header = frames.decode_header(message.buffer)
                if header is not None and self._frame(message, *header):
                    continue
            if not self._refill(message):
                return

    def _refill(self, message: Message) -> bool:
        """Read on; False if nothing is there."""
        if self._quic.at_end(message.stream_id):
            self._end(message)
            return False
        size = HEADER_READ if message.arriving is Arriving.BODY else BUFFER_READ
        wanted = max(message.awaited - len(message.buffer), min(message.skipping, SKIP_READ))
        data = self._quic.read(message.stream_id, max(size, wanted))
        message.buffer += data
        if message.awaited and data:
            self._state.hold(message, len(message.buffer))
        return bool(data) or self._quic.at_end(message.stream_id)

    def _skip(self, message: Message) -> None:
        passed = min(message.skipping, len(message.buffer))
        message.buffer = message.buffer[passed:]
        message.skipping -= passed

    def _frame(self, message: Message, kind: int, length: int, after: int) -> bool:
        """Handle a frame that begins; False if more of it has to arrive first."""
        if message.stream_id & 1 and kind != frames.WEBTRANSPORT_STREAM:
            raise server_stream(f"{frames.name(kind)} on a bidirectional stream")
        if kind == frames.HEADERS:
            return self._headers_frame(message, length, after)
        if kind == frames.DATA:
            self._data_frame(message, length)
        elif kind == frames.WEBTRANSPORT_STREAM and self._state.webtransport:
            message.buffer = message.buffer[after:]
            self._tunnel(message, length, after)
            return True
        elif kind in frames.CONTROL_ONLY or kind in frames.RESERVED:
            raise _unexpected(kind, "on a request stream", frames.section(kind))
        elif kind == frames.PUSH_PROMISE:
            return self._push_promise(message, length, message.buffer[after : after + 1])
        else:
            message.skipping = length
            self._count_idle(message)
        message.buffer = message.buffer[after:]
        return True

    def _push_promise(self, message: Message, length: int, first: bytes) -> bool:
        """No push is allowed, but a frame too short for its ID is wrong in itself; False if that is not known yet."""
        if not self._state.is_client:
            raise _unexpected(frames.PUSH_PROMISE, "from a client", frames.section(frames.PUSH_PROMISE))
        if message.tunnel:
            raise _unexpected(frames.PUSH_PROMISE, "in a tunnel", "RFC 9114 section 4.4")
        if length and not first:
            return False
        if not length or length < 1 << (first[0] >> 6):  # an integer's first two bits are its length
            raise frames.wrong_length(frames.PUSH_PROMISE)
        raise Http3Error(H3Code.H3_ID_ERROR, "a push, though none was allowed", section="RFC 9114 section 7.2.5")

    def _data_frame(self, message: Message, length: int) -> None:
        if message.arriving is not Arriving.BODY:
            raise _unexpected(frames.DATA, f"while {message.arriving.value}", "RFC 9114 section 4.1")
        message.count_body(length)
        message.remaining = length
        if length:
            message.idle_frames = 0
        else:
            self._count_idle(message)

    def _count_idle(self, message: Message) -> None:
        message.idle_frames += 1
        if message.idle_frames > MAX_IDLE_FRAMES:
            raise Http3Error(H3Code.H3_EXCESSIVE_LOAD, f"{MAX_IDLE_FRAMES} frames in a row that bring nothing")

    def _headers_frame(self, message: Message, length: int, after: int) -> bool:
        if message.arriving is Arriving.TRAILERS or message.tunnel:
            section = "RFC 9114 section 4.4" if message.tunnel else "RFC 9114 section 4.1"
            raise _unexpected(frames.HEADERS, f"while {message.arriving.value}", section)
        if length > MAX_ENCODED_FIELDS:
            raise FieldsTooLargeError(f"a HEADERS frame of {length} bytes")
        end = after + length
        buffer = message.buffer
        if len(buffer) < end:
            message.awaited = end
            return False
        message.awaited = 0
        if message.held:
            self._state.hold(message, 0)
        message.buffer = buffer[end:]
        fields = self._state.coder.decode(message.stream_id, buffer[after:end])
        if fields is None:
            message.blocked = True
            self._state.hold(message, length)
        else:
            self._fields(message, fields)
        return True

    def _tunnel(self, message: Message, session_id: int, prefix: int) -> None:
        """The stream belongs to a WebTransport session, as its first `prefix` bytes say."""
        if message.arriving is not Arriving.FIELDS or message.idle_frames or message.method or message.interim:
            raise Http3Error(
                H3Code.H3_FRAME_ERROR,
                "the signal of a WebTransport stream, not at the stream's beginning",
                section="draft-ietf-webtrans-http3-16 section 4.3",
            )
        check_session_id(session_id)
        message.session_id = session_id
        message.prefix = prefix
        message.arrive(Arriving.TUNNEL)
        message.leaving = Leaving.TUNNEL
        self._state.events.append(TunnelStreamOpened(session_id, message.stream_id))
        self._state.sessions.opened(message)
        self._state.sessions.arrived(message)
        if message.stopped is not None:
            self._state.give_up(message, message.stopped)
            self._state.events.append(ReadingStopped(message.stream_id, message.stopped))

    def _end(self, message: Message) -> None:
        """The stream ended where a frame may begin, or within one."""
        if message.buffer or message.skipping or message.awaited:
            raise _cut_short(message)
        if message.arriving is Arriving.FIELDS:
            if self._state.is_client:
                raise MessageError("the stream ended without a response", section="RFC 9114 section 4.1")
            raise MessageError(
                "the stream ended before the request's fields",
                code=H3Code.H3_REQUEST_INCOMPLETE,
                section="RFC 9114 section 4.1",
            )
        if message.arriving is Arriving.BODY:
            message.check_body()
        message.arrive(Arriving.ENDED)
        self._state.forget_if_over(message)

    # Field sections

    def _fields(self, message: Message, fields: Fields) -> None:
        check_size(fields, self._state.field_limit)
        if message.arriving is Arriving.BODY:
            check_trailers(fields)
            message.check_body()
            message.arrive(Arriving.TRAILERS)
            self._state.events.append(TrailersReceived(message.stream_id, fields))
        elif self._state.is_client:
            self._response(message, fields)
        else:
            self._request(message, fields)

    def _request(self, message: Message, fields: Fields) -> None:
        stream_id = message.stream_id
        if message.stopped is not None:  # given up before it arrived: nobody hears of it (RFC 9114 section 4.1.1)
            self._state.abort(message, H3Code.H3_REQUEST_REJECTED)
            self._state.count_abandoned(message)
            return
        line = check_request(fields, extended_connect=self._state.local.enable_connect_protocol)
        if line.protocol in PROTOCOLS:
            check_capsules(fields)
        message.method = line.method
        message.protocol = line.protocol
        message.expected = line.content_length
        message.tunnel = line.method == b"CONNECT"
        message.arrive(Arriving.BODY)
        early = self._state.early_priorities
        priority = early.pop(stream_id, None) if early else None
        if priority is None and line.priority is not None:
            priority = Priority.parse(line.priority)
        self._state.prioritize(stream_id, priority or DEFAULT)
        ended = self._ends_here(message)
        self._state.events.append(RequestReceived(stream_id, fields, ended))
        if not ended:
            self._state.events.append(BodyReadable(stream_id))

    def _response(self, message: Message, fields: Fields) -> None:
        status, length = check_response(fields)
        if status < 200:
            message.interim += 1
            if message.interim > MAX_INTERIM_RESPONSES:
                raise MessageError(f"more than {MAX_INTERIM_RESPONSES} interim responses")
            self._state.events.append(InformationalReceived(message.stream_id, fields))
            return
        if message.method == b"CONNECT" and status < 300:
            if message.protocol in PROTOCOLS:
                check_capsules(fields)
            message.tunnel = True
            length = None  # what follows is a tunnel's (RFC 9110 section 9.3.6)
        elif message.method == b"HEAD" or status in _NO_CONTENT:
            length = 0
        message.expected = length
        message.arrive(Arriving.BODY)
        ended = self._ends_here(message)
        self._state.events.append(ResponseReceived(message.stream_id, fields, ended))
        if not ended:
            self._state.events.append(BodyReadable(message.stream_id))

    def _ends_here(self, message: Message) -> bool:
        """True if the message has no body: its end is known with its fields."""
        if message.buffer or not self._quic.at_end(message.stream_id):
            return False
        self._end(message)
        return True


def check_session_id(session_id: int) -> None:
    """`Http3Error` unless this can be the stream of a CONNECT request."""
    if session_id & 3:
        raise Http3Error(
            H3Code.H3_ID_ERROR,
            f"{session_id} is no request stream, so no session",
            section="draft-ietf-webtrans-http3-16 section 4",
        )


def server_stream(what: str) -> Http3Error:
    """A server may open no bidirectional streams but those of WebTransport sessions."""
    return Http3Error(H3Code.H3_STREAM_CREATION_ERROR, f"{what} of a server", section="RFC 9114 section 6.1")


def _unexpected(kind: int, where: str, section: str) -> Http3Error:
    return Http3Error(H3Code.H3_FRAME_UNEXPECTED, f"{frames.name(kind)} {where}", section=section)


def _cut_short(message: Message) -> Http3Error:
    return Http3Error(
        H3Code.H3_FRAME_ERROR, f"stream {message.stream_id} ends within a frame", section="RFC 9114 section 7.1"
    )
