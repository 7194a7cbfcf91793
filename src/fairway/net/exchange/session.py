"""One connection to one peer: its hello, its streams in and out, and how it ends. No I/O: bytes in, bytes out."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from fairway.net.exchange import limits
from fairway.net.exchange.errors import CloseCode, PeerFault
from fairway.net.exchange.framing import Framer
from fairway.net.exchange.messages import (
    Channel,
    Endpoint,
    Endpoints,
    Hello,
    Member,
    Members,
    Message,
    ResyncRequest,
    Revocations,
    encode,
)
from fairway.net.exchange.own import Own
from fairway.net.exchange.pace import Counters, Pace
from fairway.net.exchange.replica import TABLE_MESSAGES, Replica
from fairway.net.exchange.sending import Sender
from fairway.net.model.permit import Permit


class State(enum.Enum):
    """A session's life; see `_NEXT` for what may follow."""

    HELLO = "hello"
    """Connected; the peer has not said who it is."""
    OPEN = "open"
    """The peer's table is being kept."""
    CLOSED = "closed"


_NEXT: dict[State, frozenset[State]] = {
    State.HELLO: frozenset({State.OPEN, State.CLOSED}),
    State.OPEN: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


class Owner(Protocol):
    """The node that the session belongs to, as the session calls it."""

    def greeted(self, session: Session, hello: Hello, now: float) -> Replica:
        """The peer has said hello; gives what keeps its table. `PeerFault` if it is not wanted."""

    def moved(self, session: Session, endpoints: tuple[Endpoint, ...], now: float) -> None:
        """The peer's addresses have changed."""


class Listener(Protocol):
    """Who is told what the peer says of others."""

    def told_members(self, members: Members, now: float) -> None:
        """The peer told of others."""

    def told_revocations(self, revocations: Revocations) -> None:
        """The peer has a revocation list."""


class Incoming:
    """One stream that the peer opened."""

    __slots__ = ("_early", "_framer", "_session")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._framer = Framer()
        self._early = b""

    @property
    def channel(self) -> Channel | None:
        """What the stream is for; None before its first byte was looked at."""
        return self._framer.channel

    @property
    def unknown(self) -> int:
        """Messages of types that this version does not know."""
        return self._framer.unknown

    def receive(self, data: bytes, now: float) -> float:
        """Take in bytes of the stream; gives for how many seconds it should be left unread."""
        return self._session.receive(self, data, now)

    def messages(self, data: bytes, state: State) -> list[Message]:
        """The messages that are complete. What overtakes the peer's hello waits, but for the stream that brings it."""
        data = self._early + data
        self._early = b""
        if state is State.HELLO and self._framer.channel is None and data[:1] in _LATER:
            self._early = data
            if len(data) > limits.EARLY_BYTES:
                raise PeerFault("much data, and no hello")
            return []
        return self._framer.feed(data)


class Session:
    """One connection to an authenticated peer. `next` gives what is to be sent, `Incoming.receive` takes what comes.

    What is to be sent is made when there is room to send it: a peer that reads nothing costs nothing.
    """

    def __init__(
        self,
        owner: Owner,
        listener: Listener,
        own: Own,
        permit: Permit,
        hello: Hello,
        counters: Counters,
        *,
        observed: Endpoint,
        dialled: Endpoint | None,
    ) -> None:
        self.permit = permit
        """The peer's name, and what it may announce: what its certificate says."""
        self.dialled = dialled
        """The address that this side called; None if the peer called."""
        self.observed = observed
        """The peer's address as seen on the connection."""
        self.epoch = -1
        """The peer's, from its hello."""
        self.state = State.HELLO
        self.closing: tuple[CloseCode, str] | None = None
        """Why this side ends the session."""
        self.counters = counters
        self._owner = owner
        self._listener = listener
        self._own = own
        self._replica: Replica | None = None
        self._sender = Sender(own)
        self._extra = 0
        """Work that a message has made beyond its own, as `limits.WORK_PER_S` counts it."""
        self._pace = Pace()
        self._streams: list[Incoming] = []
        self._by_channel: dict[Channel, Incoming] = {}
        self._control: deque[Message] = deque((hello,))
        self._endpoints: tuple[Endpoint, ...] | None = None
        self._news: dict[str, Member] = {}
        self._revocations: Revocations | None = None

    @property
    def peer(self) -> str:
        """The peer's name."""
        return self.permit.node

    # What comes in

    def stream(self) -> Incoming:
        """The peer opened a stream."""
        incoming = Incoming(self)
        self._streams.append(incoming)
        if len(self._streams) > len(Channel):
            self._fail(PeerFault(f"more than {len(Channel)} streams"))
        return incoming

    def ended(self, incoming: Incoming) -> None:
        """The peer ended or reset a stream: all of them last as long as the session."""
        self._fail(PeerFault("a stream was ended"))

    def receive(self, incoming: Incoming, data: bytes, now: float) -> float:
        """Take in bytes of one stream; gives for how many seconds it should be left unread."""
        before = self._work()
        try:
            self._take(incoming, data, now)
            if self._replica is not None and self._replica.wants_table:
                self._replica.wants_table = False
                self.counters.resyncs += 1
                self._control.append(ResyncRequest())
        except PeerFault as fault:
            self._fail(fault)
            return 0.0
        pause = self._pace.took(len(data), self._work() - before, now)
        self.counters.paused_s += pause
        return pause

    def _work(self) -> int:
        counters = self.counters
        return counters.messages + counters.changes + counters.unknown + self._extra

    def _take(self, incoming: Incoming, data: bytes, now: float) -> None:
        waiting = self.state is State.HELLO
        unknown = incoming.unknown
        for message in incoming.messages(data, self.state):
            if self.state is State.CLOSED:
                return
            self.counters.messages += 1
            self._handle(message, now)
        self.counters.unknown += incoming.unknown - unknown
        channel = incoming.channel
        if channel is not None and self._by_channel.setdefault(channel, incoming) is not incoming:
            raise PeerFault(f"two streams for {channel.name.lower()}")
        if waiting and self.state is State.OPEN:
            for other in self._streams:
                if other is not incoming:
                    self._take(other, b"", now)

    def _handle(self, message: Message, now: float) -> None:
        if isinstance(message, Hello):
            self._hello(message, now)
            return
        if self._replica is None:
            raise PeerFault("a message before the hello")
        walked = self._replica.walked
        if type(message) in TABLE_MESSAGES:
            self._replica.receive(message, now)
        elif isinstance(message, ResyncRequest):
            self._sender.asked()
            self._extra += len(self._own) // limits.WALKED_AS_ONE
        elif isinstance(message, Endpoints):
            self._owner.moved(self, message.endpoints, now)
        elif isinstance(message, Members):
            self._extra += len(message.members)
            self._listener.told_members(message, now)
        elif isinstance(message, Revocations):
            self._listener.told_revocations(message)
        self._extra += (self._replica.walked - walked) // limits.WALKED_AS_ONE

    def _hello(self, hello: Hello, now: float) -> None:
        if self.state is not State.HELLO:
            raise PeerFault("a second hello")
        if hello.node != self.permit.node:
            raise PeerFault(f"{self.permit.node} calls itself {hello.node}", CloseCode.REFUSED)
        self.epoch = hello.epoch
        self._replica = self._owner.greeted(self, hello, now)
        self._become(State.OPEN)
        resume = self._sender.begin(hello.holds)
        if resume is not None:
            self._control.append(resume)

    # What goes out

    def pending(self) -> list[Channel]:
        """The channels on which there is something to say, the most urgent first."""
        return [channel for channel in _CHANNELS if self.has(channel)]

    def has(self, channel: Channel) -> bool:
        """Whether there is something to say on a channel."""
        if self.state is State.CLOSED:
            return False
        if channel is Channel.CONTROL:
            return bool(self._control) or (self._endpoints is not None and self.state is State.OPEN)
        if channel is Channel.MEMBERS:
            return self.state is State.OPEN and bool(self._news or self._revocations)
        return self._sender.pending(channel)

    def next(self, channel: Channel) -> bytes:
        """The next message on a channel that `has` one."""
        if channel is Channel.CONTROL:
            if self._control:
                return encode(self._control.popleft())
            endpoints, self._endpoints = self._endpoints, None
            return encode(Endpoints(endpoints or ()))
        if channel is Channel.MEMBERS:
            return encode(self._next_news())
        return self._sender.next(channel)

    def _next_news(self) -> Message:
        revocations, self._revocations = self._revocations, None
        if revocations is not None:
            return revocations
        batch = list(self._news.values())[:_MEMBERS_A_MESSAGE]
        for member in batch:
            del self._news[member.node]
        return Members(tuple(batch))

    def tell_members(self, members: Iterable[Member]) -> None:
        """Tell the peer of others."""
        self._news.update((member.node, member) for member in members if member.node != self.permit.node)

    def tell_revocations(self, revocations: Revocations) -> None:
        """Tell the peer the newest list."""
        self._revocations = revocations

    def tell_endpoints(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Tell the peer where we are now."""
        self._endpoints = endpoints

    # The end

    def close(self, code: CloseCode, reason: str = "") -> None:
        """End the session; the connection is to be closed with `closing`."""
        if self.state is not State.CLOSED:
            self.closing = (code, reason)
            self._become(State.CLOSED)

    def _fail(self, fault: PeerFault) -> None:
        if self.state is not State.CLOSED:
            if fault.code is not CloseCode.DUPLICATE:
                self.counters.faults += 1
            self.close(fault.code, fault.reason)

    def _become(self, state: State) -> None:
        assert state in _NEXT[self.state], f"{self.state} cannot become {state}"
        self.state = state


_CHANNELS = tuple(Channel)
_LATER = frozenset(bytes((channel,)) for channel in Channel if channel is not Channel.CONTROL)
_MEMBERS_A_MESSAGE = 32
"""A name of 63 characters and eight IPv6 addresses make 220 bytes."""
