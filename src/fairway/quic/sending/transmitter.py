"""What goes out: one buffer of datagrams at a time. Nothing here parses.

Handshake packets and the 1-RTT packets that go with them come first, then probes of paths and of packet sizes, then
batches of short header packets.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairway.quic.errors import ClosedBy
from fairway.quic.frames import ConnectionClose
from fairway.quic.packets.protection import ApplicationKeys
from fairway.quic.paths.migration import Migration
from fairway.quic.paths.path import Address, Local
from fairway.quic.sending.long_packets import LongPackets
from fairway.quic.sending.mtu_probes import MtuProbes
from fairway.quic.sending.path_probes import PathProbes
from fairway.quic.sending.short_packets import ShortPackets
from fairway.quic.state import ConnectionState, Phase

MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS of Linux
DISCOVERY_FROM = 32 * 1024
"""Bytes after which larger packets are looked for: most connections never send so much."""
MIN_PACKET = 100  # less than that is not worth a packet, where an address is not validated
_CLOSING = Phase.CLOSING  # looking a member of an enum up costs ten times what a name of the module does


@dataclass(slots=True)  # not frozen: one is made for every buffer, and that would take twice the time
class Transmit:
    """Datagrams of `segment` bytes each, one after the other (the last may be shorter), for `address`."""

    data: bytes
    segment: int
    address: Address | None
    local: Local = None
    """Which of the caller's sockets sends them."""
    mark: int = 0
    """The ECN bits for their IP headers: 2 for ECT(0)."""
    more: bool = True
    """False if another call would give nothing now."""


class Transmitter:
    """Fills buffers for one connection."""

    __slots__ = ("_held", "_long", "_mtu_probes", "_probes", "_short", "_state")

    def __init__(self, state: ConnectionState, migration: Migration) -> None:
        self._state = state
        self._mtu_probes = MtuProbes(state)
        self._probes = PathProbes(state, migration)
        self._short = ShortPackets(state)
        self._long = LongPackets(state, self._short.build_within)
        self._held: bytes | None = None
        """A handshake datagram that was too long for the last buffer."""

    def transmit(self, now: float, max_segments: int = MAX_SEGMENTS) -> Transmit | None:
        """The next datagrams to send, None if there are none now."""
        state = self._state
        data: bytes | None = None
        segment = mark = 0
        if state.phase is _CLOSING:
            data = self._close(now)
        elif state.is_open:
            if not state.handshake.discarded:
                first = state.application.next_number
                data, segment = self._handshake(now, max_segments)
                if state.application.next_number != first:
                    state.ecn.restart()  # a 1-RTT packet went with others, unmarked
            if data is None and state.streams_usable:
                keys = state.application.keys
                if state.probing and keys is not None:
                    probe = self._probes.build(keys, now)
                    if probe is not None:
                        path, datagram = probe
                        mark = self._mark(1) if path is state.path else 0
                        return Transmit(datagram, len(datagram), path.address, path.local, mark)
                first = state.application.next_number
                data, segment = self._application(keys, now, max_segments)
                if data is not None:
                    mark = self._mark(state.application.next_number - first)
        if not data:
            return None
        path = state.path
        return Transmit(data, segment or len(data), path.address, path.local, mark, self._goes_on(now))

    def _goes_on(self, now: float) -> bool:
        """Whether there may be more to send now; True also where only trying can tell."""
        state = self._state
        if not state.is_open:
            return False
        if not state.handshake.discarded:
            initial, handshake = state.initial, state.handshake
            if (initial.can_seal and initial.wants_to_send) or (handshake.can_seal and handshake.wants_to_send):
                return True
        if not state.streams_usable:
            return self._held is not None
        path = state.path
        probes = path.bytes_sent > DISCOVERY_FROM and (path.mtu is None or path.mtu.probe_at <= now)
        return probes or state.probing or self._held is not None or self._short.wanted(now)

    def _mark(self, count: int) -> int:
        """The ECN bits for the last `count` packets, if they are 1-RTT packets."""
        state = self._state
        if state.ecn.failed or not state.handshake_complete:
            return 0
        return state.ecn.mark(state.application.next_number - count, count)

    def _application(self, keys: ApplicationKeys | None, now: float, max_segments: int) -> tuple[bytes | None, int]:
        """1-RTT packets, or 0-RTT packets before there are `keys`, and the length of each."""
        path = self._state.path
        size = path.packet_size
        if not path.validated:  # the peer has moved: RFC 9000 section 9.3.1
            size = min(size, path.send_allowance)
            if size < MIN_PACKET:
                self._state.application.received.wait_for_room()
                return None, 0
        elif path.bytes_sent > DISCOVERY_FROM and keys is not None:
            mtu = path.mtu or self._state.discover_mtu()
            if mtu.probe_at <= now:
                probe = self._mtu_probes.build(mtu, keys, now)
                if probe is not None:
                    return probe, len(probe)
        data, segment = self._short.build(now, max_segments, size)
        if data is not None:
            path.bytes_sent += len(data)
        return data, segment

    def _handshake(self, now: float, max_segments: int) -> tuple[bytes | None, int]:
        """Handshake datagrams of equal length, the last one perhaps shorter, and the length of each."""
        build, path = self._long.build, self._state.path
        first, self._held = self._held, None
        if first is None:
            first = build(now)
            if first is None:
                return None, 0
            path.bytes_sent += len(first)
        datagrams = [first]
        while len(datagrams) < max_segments and len(datagrams[-1]) == len(first):
            following = build(now)
            if following is None:
                break
            path.bytes_sent += len(following)
            if len(following) > len(first):
                self._held = following
                break
            datagrams.append(following)
        return b"".join(datagrams), len(first)

    def _close(self, now: float) -> bytes | None:
        state = self._state
        closing = state.closing
        if not state.close_pending or closing is None or closing.by is not ClosedBy.LOCAL:
            return None
        state.close_pending = False
        reason = closing.reason.encode()[:256]
        data = self._long.close(ConnectionClose(closing.code, closing.frame_type, reason, closing.application), now)
        if len(data) > state.path.send_allowance:  # RFC 9000 section 8.1
            return None
        state.path.bytes_sent += len(data)
        return data
