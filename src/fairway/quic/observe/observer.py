"""What an observer of a connection is told, and what stands between it and the connection.

A connection without observers builds nothing for them: each place that tells something is one `is None` test for a
whole batch. Where there is one, it gets the plain payloads of a batch of packets, and takes apart what it cares for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from fairway.quic.errors import Closing
from fairway.quic.events import HandshakeCompleted, ObserverFailed
from fairway.quic.recovery.sent import Run
from fairway.quic.spaces import SpaceKind

if TYPE_CHECKING:
    from fairway.quic.state import ConnectionState


class DropReason(Enum):
    """Why a packet that arrived was not taken in; the values are qlog's triggers of packet_dropped."""

    REJECTED = "rejected"
    UNSUPPORTED = "unsupported"
    INVALID = "invalid"
    DUPLICATE = "duplicate"
    UNKNOWN_CONNECTION = "connection_unknown"
    NOT_OPENED = "decryption_failure"
    NO_KEYS = "key_unavailable"


class ObservedPacket(NamedTuple):
    """A packet without its protection; `size` are the bytes that it takes on the wire."""

    number: int
    payload: bytes
    size: int


class Observer:
    """Is told what happens on one connection. Every method does nothing until it is overridden.

    `now` is the caller's clock, in seconds. What it is given is the connection's own: to be read, not changed, and
    not kept.
    """

    def started(self, state: ConnectionState, original_destination: bytes, now: float) -> None:
        """The connection begins; `original_destination` is the client's first Destination Connection ID.

        `state` is all that the connection knows, and stays true while it lives.
        """

    def sent(self, space: SpaceKind, packets: Sequence[ObservedPacket], now: float) -> None:
        """A batch of packets was built and sealed."""

    def received(self, space: SpaceKind, packets: Sequence[ObservedPacket], now: float) -> None:
        """Packets were opened, none of them a duplicate; their frames are acted on after this."""

    def dropped(self, reason: DropReason, size: int, now: float) -> None:
        """A packet of `size` bytes (for some reasons the rest of its datagram) was not taken in."""

    def acknowledged(self, space: SpaceKind, runs: Sequence[Run], now: float) -> None:
        """Packets are acknowledged for the first time."""

    def lost(self, space: SpaceKind, runs: Sequence[Run], by_number: int, now: float) -> None:
        """Packets are declared lost: those up to number `by_number` by reordering, later ones by time."""

    def spuriously_lost(self, space: SpaceKind, first: int, last: int, now: float) -> None:
        """Packets that were declared lost are acknowledged after all."""

    def handshake_completed(self, event: HandshakeCompleted, now: float) -> None:
        """Keys are agreed and the peer is authenticated as configured."""

    def closed(self, closing: Closing, now: float) -> None:
        """The connection ended, by us or by the peer; its closing or draining period may follow."""

    def settled(self, now: float) -> None:
        """A call into the connection is over: its state (window, round trip, phase, keys) is worth a look."""


Observe = Callable[[], Sequence[Observer]]
"""Gives the observers of a new connection."""


def nobody() -> Sequence[Observer]:
    """No observers."""
    return ()


class Watch:
    """The observers of one connection, as the connection sees them.

    An observer that raises is taken off and the connection goes on: whoever looks must not be able to break what he
    looks at. `ObserverFailed` among the connection's events says so.
    """

    def __init__(self, state: ConnectionState, observers: Sequence[Observer]) -> None:
        self._state = state
        self._observers = list(observers)

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for observer in tuple(self._observers):
            try:
                tell(observer)
            except Exception as error:
                self._take_off(observer, error)

    def _take_off(self, observer: Observer, error: Exception) -> None:
        state = self._state
        self._observers.remove(observer)
        if not self._observers:
            state.watch = None
        events = state.events
        if state.closing is None:
            events.append(ObserverFailed(observer, error))
        elif events:  # nothing follows the last event of all
            events.insert(len(events) - 1, ObserverFailed(observer, error))

    def started(self, original_destination: bytes, now: float) -> None:
        """As `Observer.started`."""
        self._tell(lambda observer: observer.started(self._state, original_destination, now))

    def sent(self, space: SpaceKind, first: int, payloads: Sequence[bytes], overhead: int, now: float) -> None:
        """Packets from number `first` on, each `overhead` bytes longer than its payload, were sealed."""
        packets = [ObservedPacket(first + i, data, len(data) + overhead) for i, data in enumerate(payloads)]
        self._tell(lambda observer: observer.sent(space, packets, now))

    def received(self, space: SpaceKind, packets: Sequence[ObservedPacket], now: float) -> None:
        """As `Observer.received`."""
        if packets:
            self._tell(lambda observer: observer.received(space, packets, now))

    def dropped(self, reason: DropReason, size: int, now: float) -> None:
        """As `Observer.dropped`."""
        self._tell(lambda observer: observer.dropped(reason, size, now))

    def acknowledged(self, space: SpaceKind, runs: Sequence[Run], now: float) -> None:
        """As `Observer.acknowledged`."""
        self._tell(lambda observer: observer.acknowledged(space, runs, now))

    def lost(self, space: SpaceKind, runs: Sequence[Run], by_number: int, now: float) -> None:
        """As `Observer.lost`."""
        self._tell(lambda observer: observer.lost(space, runs, by_number, now))

    def spuriously_lost(self, space: SpaceKind, first: int, last: int, now: float) -> None:
        """As `Observer.spuriously_lost`."""
        self._tell(lambda observer: observer.spuriously_lost(space, first, last, now))

    def handshake_completed(self, event: HandshakeCompleted, now: float) -> None:
        """As `Observer.handshake_completed`."""
        self._tell(lambda observer: observer.handshake_completed(event, now))

    def closed(self, closing: Closing, now: float) -> None:
        """As `Observer.closed`."""
        self._tell(lambda observer: observer.closed(closing, now))

    def settled(self, now: float) -> None:
        """As `Observer.settled`."""
        self._tell(lambda observer: observer.settled(now))
