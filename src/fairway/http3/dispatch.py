"""What the events of the QUIC connection mean for HTTP/3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairway.http3 import frames
from fairway.http3.control import PeerStreams
from fairway.http3.errors import H3Code, Http3Error, MessageError
from fairway.http3.events import DatagramReceived, ReadingStopped, StreamAborted
from fairway.http3.grease import Grease
from fairway.http3.message import Arriving, Leaving, Message
from fairway.http3.receive import RequestReceiver, server_stream
from fairway.http3.state import Http3State
from fairway.quic import ConnectionClosed
from fairway.quic import events as quic_events
from fairway.wire import WireError, decode_varint, encode_varint

_SERVER_INITIATED = 0x01
_UNIDIRECTIONAL = 0x02


class EventHandlers:
    """Acts on each event; those that are none of HTTP's business come through as they are."""

    def __init__(self, state: Http3State, receiver: RequestReceiver) -> None:
        self._state = state
        self._receiver = receiver
        self._peer_streams = PeerStreams(state, receiver)

    def handle(self, event: Any) -> None:
        """Act on one event; nothing is acted on any more once the peer was found wrong (`state.failure`)."""
        state = self._state
        handler = _ON_EVENT.get(type(event))
        if handler is None:
            state.events.append(event)
        elif state.failure is None:
            try:
                handler(self, event)
            except Http3Error as error:
                state.failure = error
            except ConnectionClosed:
                pass  # an event that comes later says so

    def _handshake_completed(self, event: quic_events.HandshakeCompleted) -> None:
        self._state.events.append(event)
        if self._state.control_id < 0:
            self._open_streams()

    def _early_accepted(self, event: quic_events.EarlyDataAccepted) -> None:
        """A server answers early requests at once: what their answers refer to must not come after the handshake."""
        self._state.events.append(event)
        if not self._state.is_client:
            self._open_streams()

    def _open_streams(self) -> None:
        """The control stream and those of QPACK (RFC 9114 section 6.2)."""
        opened = [self._state.quic.open_stream(unidirectional=True) for _ in range(3)]
        if None in opened:
            raise Http3Error(
                H3Code.H3_GENERAL_PROTOCOL_ERROR,
                "the peer allows no three unidirectional streams",
                section="RFC 9114 section 6.2",
            )
        state = self._state
        state.control_id, state.encoder_id, state.decoder_id = (stream or 0 for stream in opened)
        grease = Grease(self._state.quic.random)
        settings = frames.encode(frames.SETTINGS, state.local.encode(grease.setting())) + grease.frame()
        for stream_id, kind, first in (
            (state.control_id, frames.CONTROL_STREAM, settings),
            (state.encoder_id, frames.QPACK_ENCODER_STREAM, b""),
            (state.decoder_id, frames.QPACK_DECODER_STREAM, b""),
        ):
            self._state.quic.set_priority(stream_id, 0)
            self._state.quic.write(stream_id, encode_varint(kind) + first, whole=True)
        stream = grease.stream()
        if stream and (extra := self._state.quic.open_stream(unidirectional=True)) is not None:
            self._state.quic.write(extra, stream, end=True, whole=True)

    def _opened(self, event: quic_events.StreamOpened) -> None:
        stream_id, state = event.stream_id, self._state
        if stream_id & _UNIDIRECTIONAL:
            self._peer_streams.opened(stream_id)
            return
        if state.is_client:
            if not state.may_tunnel:
                raise server_stream("a bidirectional stream")
        else:
            state.requests += 1
            state.next_request_id = stream_id + 4
            if state.goaway_sent is not None and stream_id >= state.goaway_sent:
                state.reset(stream_id, H3Code.H3_REQUEST_REJECTED)
                state.stop(stream_id, H3Code.H3_REQUEST_REJECTED)
                return
        message = state.messages[stream_id] = Message(stream_id)
        message.begun_at = state.now

    def _readable(self, event: quic_events.StreamReadable) -> None:
        message = self._state.messages.get(event.stream_id)
        if message is not None:
            self._receiver.readable(message)
        elif event.stream_id & _UNIDIRECTIONAL:
            self._peer_streams.readable(event.stream_id)

    def _reset(self, event: quic_events.StreamResetReceived) -> None:
        stream_id = event.stream_id
        self._state.quic.acknowledge_reset(stream_id)
        message = self._state.messages.get(stream_id)
        self._state.sessions.discarded(stream_id, event.final_size)
        if message is None:
            self._peer_streams.gone(stream_id)
            return
        state = self._state
        if message.arriving is Arriving.ENDED:
            return
        if self._unheard(message):
            return
        state.take_no_more(message)
        if message.session_id is not None:
            state.sessions.reset(message, event.final_size)
        state.events.append(StreamAborted(stream_id, event.code))
        state.forget_if_over(message)
        if message.leaving is not Leaving.ENDED:
            state.count_abandoned(message)

    def _unheard(self, message: Message) -> bool:
        """True if a request was given up before it arrived: it ends here, and nobody hears of it (section 4.1.1)."""
        if self._state.is_client or message.arriving is not Arriving.FIELDS:
            return False
        self._state.abort(message, H3Code.H3_REQUEST_REJECTED)
        self._state.count_abandoned(message)
        return True

    def _stopped(self, event: quic_events.StopSendingReceived) -> None:
        stream_id = event.stream_id
        if stream_id in (self._state.control_id, self._state.encoder_id, self._state.decoder_id):
            control = stream_id == self._state.control_id
            raise Http3Error(
                H3Code.H3_CLOSED_CRITICAL_STREAM,
                "the peer does not read a critical stream",
                section="RFC 9114 section 6.2.1" if control else "RFC 9204 section 4.2",
            )
        message = self._state.messages.get(stream_id)
        if message is None or message.leaving is Leaving.ENDED:
            self._state.events.append(ReadingStopped(stream_id, event.code))  # what was sent will not all be delivered
            return
        by_peer = bool(stream_id & _SERVER_INITIATED) == self._state.is_client
        if by_peer and self._state.webtransport and message.arriving is Arriving.FIELDS:
            message.stopped = event.code  # it may be a session's stream, which says so in bytes that are on the way
            return
        if self._unheard(message):
            return
        self._state.give_up(message, event.code)  # QUIC has done so already, and says how much was sent
        self._state.events.append(ReadingStopped(stream_id, event.code))
        self._state.forget_if_over(message)
        self._state.count_abandoned(message)

    def _discarded(self, event: quic_events.StreamDiscarded) -> None:
        self._state.sessions.discarded(event.stream_id, event.final_size)

    def _datagram(self, event: quic_events.DatagramReceived) -> None:
        """RFC 9297 section 2.1; what belongs to no open stream is dropped."""
        try:
            quarter, after = decode_varint(event.data, 0)
        except WireError:
            quarter, after = -1, 0
        if not 0 <= quarter < 1 << 60:
            raise Http3Error(
                H3Code.H3_DATAGRAM_ERROR, "a datagram that names no stream", section="RFC 9297 section 2.1"
            )
        if not self._state.is_client and quarter >= self._state.quic.stream_limit_for_peer():
            raise Http3Error(
                H3Code.H3_ID_ERROR, "a datagram of a stream that there cannot be", section="RFC 9297 section 2.1"
            )
        message = self._state.messages.get(quarter << 2)
        if message is None or message.arriving is Arriving.ENDED:
            return
        if message.method and message.protocol is None:
            reason = f"a datagram of a {message.method.decode()} request"
            self._state.fail(message, MessageError(reason, code=H3Code.H3_DATAGRAM_ERROR, section="RFC 9297 section 2"))
        elif self._state.is_client or message.arriving is not Arriving.FIELDS:
            self._state.events.append(DatagramReceived(quarter << 2, event.data[after:]))


_ON_EVENT: dict[type[Any], Callable[[EventHandlers, Any], None]] = {
    quic_events.HandshakeCompleted: EventHandlers._handshake_completed,
    quic_events.EarlyDataAccepted: EventHandlers._early_accepted,
    quic_events.StreamOpened: EventHandlers._opened,
    quic_events.DatagramReceived: EventHandlers._datagram,
    quic_events.StreamReadable: EventHandlers._readable,
    quic_events.StreamResetReceived: EventHandlers._reset,
    quic_events.StreamDiscarded: EventHandlers._discarded,
    quic_events.StopSendingReceived: EventHandlers._stopped,
}
