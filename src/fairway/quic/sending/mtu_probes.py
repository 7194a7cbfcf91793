"""Packets that try whether a path carries larger ones: PING and PADDING, nothing else (RFC 9000 section 14.4)."""

from __future__ import annotations

from fairway.quic.frames import Ping
from fairway.quic.packets.protection import TAG_LENGTH, ApplicationKeys
from fairway.quic.recovery.mtu import MTU_PROBE, MtuDiscovery
from fairway.quic.recovery.sent import Run
from fairway.quic.state import ConnectionState, Phase

NUMBER_LENGTH = 4


class MtuProbes:
    """Builds the probes of one connection."""

    __slots__ = ("_state",)

    def __init__(self, state: ConnectionState) -> None:
        self._state = state

    def build(self, mtu: MtuDiscovery, keys: ApplicationKeys, now: float) -> bytes | None:
        """A probe that is due, if the window has room for it now."""
        state = self._state
        path, space = state.path, state.application
        if state.phase is not Phase.CONFIRMED or not mtu.due(now):
            return None
        size = mtu.next_size
        if size <= mtu.size or path.controller.window - state.bytes_in_flight < size:
            return None
        destination = state.remote_ids.current
        number = space.next_number
        space.next_number += 1
        payload = Ping().encode().ljust(size - 1 - len(destination) - NUMBER_LENGTH - TAG_LENGTH, b"\0")
        # It is not in flight for the controller, and nobody sends anything again for want of its acknowledgement.
        frames = ((MTU_PROBE, size),)
        space.sent.add(Run(number, 1, size, now, frames=frames, eliciting=False, in_flight=False))
        mtu.sent(number)
        path.pacer.spend(size)
        path.bytes_sent += size
        if state.watch is not None:
            state.watch.sent(space.kind, number, [payload], size - len(payload), now)
        return keys.sealer.seal(state.first_byte(path), destination, number, NUMBER_LENGTH, [payload])
