"""What the rooms of one HTTP/3 connection share; nothing here decides."""

from __future__ import annotations

import contextlib

from fairway.http3 import frames
from fairway.http3.errors import FieldsTooLargeError, H3Code, Http3Error
from fairway.http3.events import Event, MessageFailed
from fairway.http3.fields import Fields
from fairway.http3.limits import ABANDONED_FREE, MAX_EARLY_PRIORITIES, MAX_FIELD_SECTION, MAX_UNDECODED_FIELDS
from fairway.http3.message import Arriving, Leaving, Message
from fairway.http3.priorities import Priority
from fairway.http3.qpack import FieldCoder
from fairway.http3.sessions import Sessions
from fairway.http3.settings import Settings
from fairway.quic import Connection, ConnectionClosed, UsageError


class Http3State:
    """One connection's streams, settings and undelivered events."""

    def __init__(self, quic: Connection, local: Settings, *, is_client: bool) -> None:
        self.quic = quic
        self.is_client = is_client
        self.local = local
        self.peer: Settings | None = None
        """The peer's settings, once they have arrived."""
        self.coder = FieldCoder(local)
        self.field_limit = MAX_FIELD_SECTION if local.max_field_section_size is None else local.max_field_section_size
        """Bytes of a field section that we take."""
        self.messages: dict[int, Message] = {}
        """Streams of requests and of WebTransport sessions that are not over."""
        self.sessions = Sessions(self)
        """What limits the streams of WebTransport sessions."""
        self.events: list[Event] = []
        self.failure: Http3Error | None = None
        """What ends the connection, found outside `events`, which knows the time and closes."""
        self.now = 0.0
        self.early_priorities: dict[int, Priority] = {}
        """What PRIORITY_UPDATE said about requests that have not begun."""
        self.requests = 0
        """Requests that the client has begun."""
        self.next_request_id = 0
        """The lowest request stream that the client has not begun."""
        self.control_id = self.encoder_id = self.decoder_id = -1
        """Our unidirectional streams, once the handshake is complete."""
        self._held = 0
        self._abandoned = 0
        self.goaway_sent: int | None = None
        self.goaway_received: int | None = None

    @property
    def webtransport(self) -> bool:
        """True if streams of WebTransport sessions may arrive: we said that we take them."""
        return self.local.webtransport

    @property
    def may_tunnel(self) -> bool:
        """True if the server may open bidirectional streams: both sides speak WebTransport, as far as is known yet."""
        return self.local.webtransport and (self.peer is None or self.peer.webtransport)

    def forget_if_over(self, message: Message) -> None:
        """Drop a stream on which nothing can happen any more."""
        if message.arriving is Arriving.ENDED and message.leaving is Leaving.ENDED:
            if self.messages.pop(message.stream_id, None) is not None and self.local.limits_sessions:
                self.sessions.over(message)
            self.early_priorities.pop(message.stream_id, None)

    def abort(self, message: Message, code: int) -> None:
        """Give up a stream in both directions, and forget it."""
        if message.arriving is not Arriving.ENDED:
            self.take_no_more(message)
            self.stop(message.stream_id, code)
            self.sessions.stopped(message)
        if message.leaving is not Leaving.ENDED:
            self.give_up(message, code)
        self.forget_if_over(message)

    def give_up(self, message: Message, code: int) -> None:
        """Send no more on a stream."""
        message.leaving = Leaving.ENDED
        self.sessions.gave_up(message, self.reset(message.stream_id, code))

    def fail(self, message: Message, error: Http3Error) -> None:
        """Give up one stream (RFC 9114 section 4.1.2); a server answers 431 to fields that are too many."""
        stream_id = message.stream_id
        if message.arriving is not Arriving.ENDED:
            self.take_no_more(message)
        code = error.code
        if isinstance(error, FieldsTooLargeError) and not self.is_client and message.leaving is Leaving.FIELDS:
            with contextlib.suppress(UsageError, ConnectionClosed):
                self.send_fields(stream_id, [(b":status", b"431"), (b"content-length", b"0")], end=True)
            code = H3Code.H3_NO_ERROR  # the answer is complete, and did not need the rest (section 4.1)
        elif message.leaving is not Leaving.ENDED:
            self.reset(stream_id, error.code)
        self.stop(stream_id, code)
        message.leaving = Leaving.ENDED
        self.forget_if_over(message)
        self.events.append(MessageFailed(stream_id, error.code, str(error)))
        self.count_abandoned(message)

    def take_no_more(self, message: Message) -> None:
        """Nothing of what the peer sends on the stream is wanted any more."""
        if message.session_id is not None:
            self.sessions.arrived(message)  # while QUIC still knows the stream
        if message.arriving not in (Arriving.TUNNEL, Arriving.ENDED):
            self.coder.cancel(message.stream_id)
        message.arriving = Arriving.ENDED
        message.blocked = False
        message.buffer = b""
        message.remaining = message.skipping = message.awaited = 0
        self.hold(message, 0)

    def hold(self, message: Message, size: int) -> None:
        """So many bytes of a field section that cannot be decoded yet are kept; `Http3Error` if it is too much."""
        self._held += size - message.held
        message.held = size
        if size and self._held > MAX_UNDECODED_FIELDS:
            raise Http3Error(H3Code.H3_EXCESSIVE_LOAD, f"{self._held} bytes of field sections that are not complete")

    def count_abandoned(self, message: Message) -> None:
        """A request ended before it was answered, by the client's doing; `Http3Error` if too many do."""
        if self.is_client or message.abandoned or message.session_id is not None:
            return
        message.abandoned = True
        self._abandoned += 1
        if self._abandoned > ABANDONED_FREE + self.requests // 2:
            raise Http3Error(
                H3Code.H3_EXCESSIVE_LOAD, f"{self._abandoned} requests given up", section="RFC 9114 section 10.5"
            )

    def expect_priority(self, stream_id: int, priority: Priority) -> None:
        """Keep the priority of a request that has not arrived; what is past the limit is forgotten."""
        early = self.early_priorities
        if len(early) < MAX_EARLY_PRIORITIES or stream_id in early:
            early[stream_id] = priority

    # A stream may be gone in QUIC before its last events were told here; then there is nothing left to do to it.

    def reset(self, stream_id: int, code: int) -> int | None:
        """Give up sending; the stream's final size, None if it is gone."""
        with contextlib.suppress(UsageError, ConnectionClosed):
            return self.quic.reset(stream_id, code)
        return None

    def stop(self, stream_id: int, code: int) -> None:
        """Ask the peer to send no more."""
        with contextlib.suppress(UsageError, ConnectionClosed):
            self.quic.stop_sending(stream_id, code)

    def prioritize(self, stream_id: int, priority: Priority) -> None:
        """Order our side of a stream among the others."""
        with contextlib.suppress(UsageError):
            self.quic.set_priority(stream_id, priority.urgency, priority.incremental)

    def send_instructions(self) -> None:
        """Write what the peer's decoder needs; a peer that takes none of it must not make us keep more and more."""
        out = self.coder.encoder_out
        if not out or self.encoder_id < 0:
            return
        self.coder.encoder_out = b""
        if self.quic.room(self.encoder_id, len(out)) < len(out):
            self.failure = Http3Error(H3Code.H3_EXCESSIVE_LOAD, "the QPACK encoder stream is not read")
        self.quic.write(self.encoder_id, out, whole=True)

    def send_fields(self, stream_id: int, fields: Fields, *, data: bytes = b"", end: bool = False) -> None:
        """Write a HEADERS frame, what the peer's decoder needs for it, and perhaps a DATA frame."""
        payload = frames.encode(frames.HEADERS, self.coder.encode(stream_id, fields))
        if data:
            payload += frames.encode_header(frames.DATA, len(data)) + data
        if self.coder.encoder_out:
            self.send_instructions()
        self.quic.write(stream_id, payload, end=end, whole=True)
