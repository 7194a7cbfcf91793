"""What the rooms of one HTTP/3 connection share; nothing here decides."""

from __future__ import annotations

import contextlib

from fairway.http3 import frames
from fairway.http3.events import Event
from fairway.http3.fields import Fields
from fairway.http3.message import Arriving, Leaving, Message
from fairway.http3.priorities import Priority
from fairway.http3.qpack import FieldCoder
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
        self.coder = FieldCoder()
        self.messages: dict[int, Message] = {}
        """Streams of requests and of WebTransport sessions that are not over."""
        self.events: list[Event] = []
        self.requests = 0
        """Requests that the peer has begun."""
        self.next_request_id = 0
        """The lowest request stream that the client has not begun."""
        self.control_id = self.encoder_id = self.decoder_id = -1
        """Our unidirectional streams, once the handshake is complete."""
        self.goaway_sent: int | None = None
        self.goaway_received: int | None = None

    @property
    def webtransport(self) -> bool:
        """True if streams of WebTransport sessions may arrive: we said that we take them."""
        return self.local.webtransport

    def forget_if_over(self, message: Message) -> None:
        """Drop a stream on which nothing can happen any more."""
        if message.arriving is Arriving.ENDED and message.leaving is Leaving.ENDED:
            self.messages.pop(message.stream_id, None)

    # A stream may be gone in QUIC before its last events were told here; then there is nothing left to do to it.

    def reset(self, stream_id: int, code: int) -> None:
        """Give up sending."""
        with contextlib.suppress(UsageError, ConnectionClosed):
            self.quic.reset(stream_id, code)

    def stop(self, stream_id: int, code: int) -> None:
        """Ask the peer to send no more."""
        with contextlib.suppress(UsageError, ConnectionClosed):
            self.quic.stop_sending(stream_id, code)

    def prioritize(self, stream_id: int, priority: Priority) -> None:
        """Order our side of a stream among the others."""
        with contextlib.suppress(UsageError):
            self.quic.set_priority(stream_id, priority.urgency, priority.incremental)

    def send_fields(self, stream_id: int, fields: Fields, *, data: bytes = b"", end: bool = False) -> None:
        """Write a HEADERS frame, what the peer's decoder needs for it, and perhaps a DATA frame."""
        coder = self.coder
        payload = frames.encode(frames.HEADERS, coder.encode(stream_id, fields))
        if data:
            payload += frames.encode_header(frames.DATA, len(data)) + data
        if coder.encoder_out and self.encoder_id >= 0:
            out, coder.encoder_out = coder.encoder_out, b""
            self.quic.write(self.encoder_id, out, whole=True)
        self.quic.write(stream_id, payload, end=end, whole=True)
