"""One request stream: which frames may come, which may go (RFC 9114 section 4.1), and how long the body is."""

from __future__ import annotations

from enum import Enum

from fairway.http3.errors import MessageError


class Arriving(Enum):
    """What the peer's side of a request stream is at."""

    FIELDS = "awaiting fields"
    BODY = "in the body"
    TRAILERS = "after the trailers"
    ENDED = "ended"
    TUNNEL = "bytes that are not HTTP"

    __hash__ = object.__hash__  # each member is one object, and the tables are asked often


ARRIVING_TRANSITIONS: dict[Arriving, frozenset[Arriving]] = {
    Arriving.FIELDS: frozenset({Arriving.BODY, Arriving.ENDED, Arriving.TUNNEL}),
    Arriving.BODY: frozenset({Arriving.TRAILERS, Arriving.ENDED}),
    Arriving.TRAILERS: frozenset({Arriving.ENDED}),
    Arriving.TUNNEL: frozenset({Arriving.ENDED}),
    Arriving.ENDED: frozenset(),
}


class Leaving(Enum):
    """What our side of a request stream is at."""

    FIELDS = "fields come next"
    BODY = "body or trailers come next"
    ENDED = "ended"
    TUNNEL = "bytes that are not HTTP"

    __hash__ = object.__hash__  # each member is one object, and the tables are asked often


LEAVING_TRANSITIONS: dict[Leaving, frozenset[Leaving]] = {
    Leaving.FIELDS: frozenset({Leaving.BODY, Leaving.ENDED}),
    Leaving.BODY: frozenset({Leaving.ENDED}),
    Leaving.TUNNEL: frozenset({Leaving.ENDED}),
    Leaving.ENDED: frozenset(),
}


class Message:
    """A request and its response, or a stream of a WebTransport session, on one QUIC stream."""

    __slots__ = ("abandoned", "arriving", "awaited", "begun_at", "blocked", "buffer", "expected", "held", "idle_frames",
                 "interim", "leaving", "method", "prefix", "prefix_sent", "protocol", "received", "remaining", "sent",
                 "session_id", "skipping", "stopped", "stream_id", "taken", "tunnel")  # fmt: skip

    def __init__(
        self,
        stream_id: int,
        arriving: Arriving = Arriving.FIELDS,
        leaving: Leaving = Leaving.FIELDS,
        *,
        method: bytes = b"",
        protocol: bytes | None = None,
    ) -> None:
        self.stream_id = stream_id
        self.arriving = arriving
        self.leaving = leaving
        self.method = method
        self.protocol = protocol
        """What an extended CONNECT asks for."""
        self.tunnel = False
        """True after CONNECT: only DATA may follow (RFC 9114 section 4.4)."""
        self.session_id: int | None = None
        """The WebTransport session that the stream belongs to."""
        self.prefix = self.prefix_sent = 0
        """Bytes that say so, and that are no content, where the peer opened the stream, and where we did."""
        self.stopped: int | None = None
        """The code with which the peer stopped our side before it was known what the stream is."""
        self.taken = 0
        """Bytes of content of a session's stream that were read, or that nobody will read."""
        self.sent = 0
        """Bytes of content that were written on it."""
        self.blocked = False
        """True while the fields wait for the QPACK encoder stream."""
        self.buffer = b""
        """Bytes read from the stream and not yet parsed."""
        self.remaining = 0
        """Bytes of the current DATA frame that the application has not read."""
        self.skipping = 0
        """Bytes of an unknown frame that are passed over."""
        self.awaited = 0
        """Bytes of a frame that must be in `buffer` before it can be handled."""
        self.held = 0
        """Bytes of a field section that count against MAX_UNDECODED_FIELDS."""
        self.begun_at = 0.0
        """When the peer opened the stream."""
        self.abandoned = False
        """True once it was counted among the requests that the client gave up."""
        self.idle_frames = 0
        self.interim = 0
        self.expected: int | None = None
        """Length of the body as content-length has it."""
        self.received = 0

    def arrive(self, state: Arriving) -> None:
        """The peer's side goes on."""
        assert state in ARRIVING_TRANSITIONS[self.arriving], (self.arriving, state)
        self.arriving = state

    def leave(self, state: Leaving) -> None:
        """Our side goes on."""
        assert state in LEAVING_TRANSITIONS[self.leaving], (self.leaving, state)
        self.leaving = state

    @property
    def over(self) -> bool:
        """True if neither side can go on."""
        return self.arriving is Arriving.ENDED and self.leaving is Leaving.ENDED

    def count_body(self, length: int) -> None:
        """A DATA frame of so many bytes begins; `MessageError` if the body gets longer than it said."""
        self.received += length
        if self.expected is not None and self.received > self.expected:
            raise MessageError(
                f"a body of more than the {self.expected} bytes of its content-length", section="RFC 9114 section 4.1.2"
            )

    def check_body(self) -> None:
        """The body has ended; `MessageError` if it is shorter than it said."""
        if self.expected is not None and self.received != self.expected:
            raise MessageError(
                f"a body of {self.received} bytes where content-length says {self.expected}",
                section="RFC 9114 section 4.1.2",
            )
