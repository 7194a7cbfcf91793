"""The peer's unidirectional streams (RFC 9114 section 6.2): its control stream, its QPACK streams, and unknown ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairway.http3 import frames
from fairway.http3.errors import H3Code, Http3Error
from fairway.http3.events import (
    GoawayReceived,
    PriorityUpdated,
    SettingsReceived,
    StreamAborted,
    TunnelStreamOpened,
)
from fairway.http3.frames import CancelPush, Goaway, MaxPushId, PriorityUpdate
from fairway.http3.limits import (
    CONTROL_FRAMES_FREE,
    CONTROL_FRAMES_PER_REQUEST,
    MAX_CONTROL_PAYLOAD,
    MAX_SETTINGS_BYTES,
)
from fairway.http3.message import Arriving, Leaving, Message
from fairway.http3.priorities import Priority
from fairway.http3.receive import RequestReceiver, check_session_id, server_stream
from fairway.http3.settings import Settings
from fairway.http3.state import Http3State
from fairway.wire import WireError, decode_varint

_NAMES = {
    frames.CONTROL_STREAM: "the control stream",
    frames.QPACK_ENCODER_STREAM: "the QPACK encoder stream",
    frames.QPACK_DECODER_STREAM: "the QPACK decoder stream",
}
_SECTIONS = {
    frames.CONTROL_STREAM: "RFC 9114 section 6.2.1",
    frames.QPACK_ENCODER_STREAM: "RFC 9204 section 4.2",
    frames.QPACK_DECODER_STREAM: "RFC 9204 section 4.2",
}


class PeerStreams:
    """Reads the peer's unidirectional streams and acts on their frames. `Http3Error` ends the connection."""

    def __init__(self, state: Http3State, receiver: RequestReceiver) -> None:
        self._state = state
        self._receiver = receiver
        self._undetermined: dict[int, bytes] = {}
        """Streams whose type has not arrived whole, and what has."""
        self._kinds: dict[int, int] = {}
        """The critical streams."""
        self._buffer = b""
        self._skipping = 0
        self._frames = 0
        self._max_push_id = -1

    def opened(self, stream_id: int) -> None:
        """The peer opened a stream."""
        self._undetermined[stream_id] = b""

    def readable(self, stream_id: int) -> None:
        """Bytes or the end have arrived on a stream that the peer opened."""
        quic = self._state.quic
        kind = self._kinds.get(stream_id)
        if kind is None and stream_id not in self._undetermined:
            return
        data = quic.read(stream_id)
        if kind is None:
            self._determine(stream_id, self._undetermined.pop(stream_id) + data)
            kind = self._kinds.get(stream_id)
        elif data:
            _FEED[kind](self, data)
        if kind is not None and quic.at_end(stream_id):
            raise self._closed(kind)

    def gone(self, stream_id: int) -> None:
        """The peer reset a stream."""
        kind = self._kinds.get(stream_id)
        if kind is not None:
            raise self._closed(kind)
        self._undetermined.pop(stream_id, None)

    def _closed(self, kind: int) -> Http3Error:
        return Http3Error(H3Code.H3_CLOSED_CRITICAL_STREAM, f"{_NAMES[kind]} was closed", section=_SECTIONS[kind])

    def _determine(self, stream_id: int, data: bytes) -> None:
        """The stream's type is its first integer."""
        try:
            kind, after = decode_varint(data, 0)
        except WireError:
            if not self._state.quic.at_end(stream_id):
                self._undetermined[stream_id] = data
            return
        if kind in _FEED:
            if kind in self._kinds.values():
                raise Http3Error(
                    H3Code.H3_STREAM_CREATION_ERROR, f"a second time {_NAMES[kind]}", section=_SECTIONS[kind]
                )
            self._kinds[stream_id] = kind
            if data[after:]:
                _FEED[kind](self, data[after:])
        elif kind == frames.PUSH_STREAM:
            self._push()
        elif kind == frames.WEBTRANSPORT_UNI_STREAM and self._state.webtransport:
            self._tunnel(stream_id, data, after)
        else:
            self._state.stop(stream_id, H3Code.H3_STREAM_CREATION_ERROR)

    def _push(self) -> None:
        if self._state.is_client:
            raise Http3Error(H3Code.H3_ID_ERROR, "a push, though none was allowed", section="RFC 9114 section 4.6")
        raise Http3Error(
            H3Code.H3_STREAM_CREATION_ERROR, "a push stream from a client", section="RFC 9114 section 6.2.2"
        )

    def _tunnel(self, stream_id: int, data: bytes, after: int) -> None:
        """A unidirectional stream of a WebTransport session, whose ID comes next."""
        try:
            session_id, after = decode_varint(data, after)
        except WireError:
            if not self._state.quic.at_end(stream_id):
                self._undetermined[stream_id] = data
            return
        check_session_id(session_id)
        message = Message(stream_id, Arriving.TUNNEL, Leaving.ENDED)
        message.session_id = session_id
        message.prefix = after
        message.buffer = data[after:]
        self._state.messages[stream_id] = message
        self._state.events.append(TunnelStreamOpened(session_id, stream_id))
        self._state.sessions.opened(message)
        self._state.sessions.arrived(message)

    # The QPACK streams

    def _feed_encoder(self, data: bytes) -> None:
        for stream_id in self._state.coder.feed_encoder(data):
            self._receiver.unblocked(stream_id)

    def _feed_decoder(self, data: bytes) -> None:
        self._state.coder.feed_decoder(data)

    # The control stream

    def _feed_control(self, data: bytes) -> None:
        buffer = self._buffer + data
        at = 0
        while at < len(buffer):
            if self._skipping:
                passed = min(self._skipping, len(buffer) - at)
                self._skipping -= passed
                at += passed
                continue
            header = frames.decode_header(buffer, at)
            if header is None:
                break
            kind, length, after = header
            self._check(kind, length)
            decode = frames.DECODERS.get(kind)
            if decode is None:
                self._skipping = length
                at = after
                self._count()
                continue
            if len(buffer) < after + length:
                break
            frame = decode(buffer[after : after + length])
            at = after + length
            self._count()
            _HANDLERS[type(frame)](self, frame)
        self._buffer = buffer[at:]

    def _check(self, kind: int, length: int) -> None:
        """The rules that hold for a frame before its payload is there."""
        if self._state.peer is None and kind != frames.SETTINGS:
            raise Http3Error(
                H3Code.H3_MISSING_SETTINGS,
                f"{frames.name(kind)} before SETTINGS",
                section="RFC 9114 section 6.2.1",
            )
        if kind in frames.REQUEST_ONLY or kind in frames.RESERVED or (kind == frames.SETTINGS and self._state.peer):
            raise self._unexpected(kind)
        if self._state.is_client and kind in (
            frames.MAX_PUSH_ID,
            frames.PRIORITY_UPDATE,
            frames.PRIORITY_UPDATE_PUSH,
        ):
            raise self._unexpected(kind)
        if kind in frames.ONE_INTEGER and length > 8:
            raise frames.wrong_length(kind)
        if kind in frames.DECODERS and length > (
            MAX_SETTINGS_BYTES if kind == frames.SETTINGS else MAX_CONTROL_PAYLOAD
        ):
            raise Http3Error(H3Code.H3_EXCESSIVE_LOAD, f"{frames.name(kind)} of {length} bytes")

    def _unexpected(self, kind: int) -> Http3Error:
        return Http3Error(
            H3Code.H3_FRAME_UNEXPECTED,
            f"{frames.name(kind)} on the control stream, from a {'server' if self._state.is_client else 'client'}",
            section=frames.section(kind),
        )

    def _count(self) -> None:
        self._frames += 1
        if self._frames > CONTROL_FRAMES_FREE + CONTROL_FRAMES_PER_REQUEST * self._state.requests:
            raise Http3Error(H3Code.H3_EXCESSIVE_LOAD, f"{self._frames} frames on the control stream")

    def _settings(self, settings: Settings) -> None:
        state = self._state
        state.peer = settings
        if state.is_client and not state.may_tunnel and any(stream_id & 3 == 1 for stream_id in state.messages):
            raise server_stream("a bidirectional stream, before its settings,")
        state.coder.use(settings)
        state.events.append(SettingsReceived(settings))

    def _goaway(self, goaway: Goaway) -> None:
        state, identifier = self._state, goaway.identifier
        if state.is_client and identifier & 3:
            raise _bad_id(f"GOAWAY names stream {identifier}, which is no request", "RFC 9114 section 7.2.6")
        if state.goaway_received is not None and identifier > state.goaway_received:
            raise _bad_id("GOAWAY names more than the one before", "RFC 9114 section 5.2")
        state.goaway_received = identifier
        state.events.append(GoawayReceived(identifier))
        if state.is_client:
            for message in [known for known in state.messages.values() if known.stream_id >= identifier]:
                if message.method:
                    state.abort(message, H3Code.H3_REQUEST_CANCELLED)
                    state.events.append(StreamAborted(message.stream_id, H3Code.H3_REQUEST_REJECTED))

    def _max_push(self, frame: MaxPushId) -> None:
        if frame.identifier < self._max_push_id:
            raise _bad_id("MAX_PUSH_ID went down", "RFC 9114 section 7.2.7")
        self._max_push_id = frame.identifier

    def _cancel_push(self, frame: CancelPush) -> None:
        raise _bad_id(f"CANCEL_PUSH of push {frame.identifier}, which was not promised", "RFC 9114 section 7.2.3")

    def _priority(self, frame: PriorityUpdate) -> None:
        """RFC 9218 section 7.2: takes effect now, or when the request comes."""
        state, stream_id = self._state, frame.identifier
        if frame.push:
            raise _bad_id(f"a priority of push {stream_id}, which was not promised", "RFC 9218 section 7.2")
        if stream_id & 3 or stream_id >> 2 >= state.quic.stream_limit_for_peer():
            raise _bad_id(f"a priority of stream {stream_id}, which is no request", "RFC 9218 section 7.2")
        priority = Priority.parse(frame.value)
        message = state.messages.get(stream_id)
        if message is not None and message.arriving is not Arriving.FIELDS:
            if message.leaving in (Leaving.FIELDS, Leaving.BODY):
                state.prioritize(stream_id, priority)
                state.events.append(PriorityUpdated(stream_id, priority))
        elif message is not None or stream_id >= state.next_request_id:
            state.expect_priority(stream_id, priority)


_FEED: dict[int, Callable[[PeerStreams, bytes], None]] = {
    frames.CONTROL_STREAM: PeerStreams._feed_control,
    frames.QPACK_ENCODER_STREAM: PeerStreams._feed_encoder,
    frames.QPACK_DECODER_STREAM: PeerStreams._feed_decoder,
}

_HANDLERS: dict[type[Any], Callable[[PeerStreams, Any], None]] = {
    Settings: PeerStreams._settings,
    Goaway: PeerStreams._goaway,
    MaxPushId: PeerStreams._max_push,
    CancelPush: PeerStreams._cancel_push,
    PriorityUpdate: PeerStreams._priority,
}


def _bad_id(reason: str, section: str) -> Http3Error:
    return Http3Error(H3Code.H3_ID_ERROR, reason, section=section)
