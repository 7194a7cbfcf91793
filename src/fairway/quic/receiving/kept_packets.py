"""Packets that came before the keys that open them: kept, if there is room, and tried again (RFC 9001 section 5.7).

What gives the keys was lost, or is on its way. Whoever sent the packets is told what has arrived, so that it need not
find out by a timeout; and the time that they are kept is no part of anybody's round trip.
"""

from __future__ import annotations

from collections.abc import Iterator

from fairway.quic.limits import MAX_STASHED_BYTES, MAX_STASHED_PACKETS
from fairway.quic.packets.headers import Buffer
from fairway.quic.state import ConnectionState, Kept


class KeptPackets:
    """The packets of one connection whose keys are still to come."""

    __slots__ = ("_state",)

    def __init__(self, state: ConnectionState) -> None:
        self._state = state

    def keep(self, buffer: Buffer, start: int, end: int, now: float) -> bool:
        """Keep a packet; False if there is no room for it."""
        state = self._state
        kept = state.kept
        size = end - start + sum(len(earlier.packet) for earlier in kept)
        fits = len(kept) < MAX_STASHED_PACKETS and size <= MAX_STASHED_BYTES
        if fits:
            state.kept = (*kept, Kept(bytes(buffer[start:end]), now - state.waited_s, state.arrival_mark))
        self.ask(now)
        return fits

    def ask(self, now: float) -> None:
        """The peer goes on, and what gives the keys is not here: an acknowledgement now tells it, if that was lost.

        Else it waits for its probe timeout, which doubles each time. Once a probe timeout of ours, whatever comes: RFC
        9002 section 6.2.3 warns of ends that answer what they cannot open.
        """
        state = self._state
        space = state.handshake if state.handshake.can_send else state.initial
        if not space.can_send or space.sent.eliciting_in_flight or space.crypto_pending:
            return
        last = max(space.last_eliciting_at, state.initial.last_eliciting_at)
        if now >= last + state.path.rtt.timeout:
            space.probes = 1

    def keys(self) -> tuple[bool, ...] | None:
        """Which kinds of packets can be opened; None if no packet waits for keys."""
        state = self._state
        if not state.kept:
            return None
        return state.initial.can_open, state.handshake.can_open, state.handshake_complete, state.early is not None

    def take(self, now: float) -> Iterator[bytes]:
        """All that is kept, to be tried again: the state says of each how long it was, and how it was marked."""
        state = self._state
        mark = state.arrival_mark
        kept, state.kept = state.kept, ()
        try:
            for one in kept:
                state.waited_s, state.arrival_mark = now - one.came_at, one.mark
                yield one.packet
        finally:
            state.waited_s, state.arrival_mark = 0.0, mark
