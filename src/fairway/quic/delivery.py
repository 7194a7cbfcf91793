"""What becomes of what was sent: acknowledged, lost, probed for (RFC 9002 section 5 to 7, appendix A)."""

from __future__ import annotations

from collections.abc import Sequence

from fairway.quic import ack_frequency
from fairway.quic.ack_frames import ACK
from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.events import StreamFinished
from fairway.quic.frames import (
    CRYPTO,
    DATA_BLOCKED,
    DATAGRAM,
    PATH_CHALLENGE,
    PATH_RESPONSE,
    PING,
    RESET_STREAM,
    RETIRE_CONNECTION_ID,
    STREAM,
    STREAM_DATA_BLOCKED,
    STREAMS_BLOCKED_BIDI,
    STREAMS_BLOCKED_UNI,
)
from fairway.quic.handshake.handshake import confirm
from fairway.quic.recovery.ecn import GIVE_UP_TIMEOUTS, Counts
from fairway.quic.recovery.mtu import BASE_SIZE, BLACK_HOLE_TIMEOUTS, MTU_PROBE
from fairway.quic.recovery.sent import Run
from fairway.quic.spaces import PacketSpace, SpaceKind
from fairway.quic.state import ConnectionState, Phase
from fairway.quic.streams.send import SendStream
from fairway.quic.timers import Timer

PROBE_PACKETS = 2  # RFC 9002 section 6.2.4
MAX_PTO_BACKOFF = 10  # doublings of the probe timeout

# Frames whose loss matters to nobody: the next one says it anew, or nobody waits for it.
_NOT_REPEATED = frozenset(
    {PING, PATH_CHALLENGE, PATH_RESPONSE, DATAGRAM, DATA_BLOCKED, STREAM_DATA_BLOCKED, STREAMS_BLOCKED_BIDI,
     STREAMS_BLOCKED_UNI, MTU_PROBE}
)  # fmt: skip


# Looking a member of an enum up costs ten times what a name of the module does.
_APPLICATION = SpaceKind.APPLICATION
_COMPLETE = Phase.COMPLETE
_CONFIRMED = Phase.CONFIRMED
_LOSS = Timer.LOSS


class Delivery:
    """Acts on acknowledgements, losses and probe timeouts."""

    __slots__ = ("_state",)

    def __init__(self, state: ConnectionState) -> None:
        self._state = state

    def on_ack(
        self,
        space: PacketSpace,
        ranges: Sequence[tuple[int, int]],
        delay: int,
        now: float,
        counts: Counts | None = None,
    ) -> None:
        """An ACK frame with inclusive `ranges`, the largest first, its unscaled `delay` and its ECN counts."""
        state = self._state
        largest = ranges[0][1]
        self._check(space, ranges)
        acked: list[Run] = []
        for first, last in ranges:
            acked += space.sent.take(first, last)
        if space.loss.remembers:
            self._look_for_spurious(space, ranges, now)
        newer = largest > space.largest_acked
        if newer:
            space.largest_acked = largest
        if not acked:
            if newer:  # a bare ACK, which is not remembered: what was sent before it may be lost all the same
                self._detect(space, now)
                state.loss_timer_stale = True
            return
        if state.watch is not None:
            state.watch.acknowledged(space.kind, acked, now)
        path = state.path
        newest = acked[0] if len(acked) == 1 else max(acked, key=lambda run: run.first)
        if newest.last == largest and newest.in_flight and (newest.eliciting or any(run.eliciting for run in acked)):
            self._measure(max(now - state.waited_s - newest.time, 0.0), delay, now)
        controller, rtt_s = path.controller, path.rtt.latest or path.rtt.smoothed
        mtu = path.mtu
        if mtu is not None and mtu.suspects and any(run.size > BASE_SIZE for run in acked):
            mtu.large_arrived()
        for run in acked:
            if run.in_flight:
                # The window was used if it was full while this run was in flight: section 7.8.
                limited = run.time <= state.limited_at
                controller.on_acked(now, run.size * run.count, run.time, space.largest_acked, rtt_s, limited)
            self._run_acked(space, run, now)
        if space.kind is _APPLICATION and state.ecn.on_ack(acked, counts, newer=newer):
            controller.on_lost(now, newest.time, False)  # RFC 9002 section 7.1
        keys = space.keys
        if keys is not None and keys.awaiting and largest >= keys.first_number:
            keys.awaiting = False
        self._detect(space, now)
        if state.phase is _COMPLETE and keys is not None and largest >= keys.first_number:  # no 0-RTT packet
            confirm(state)  # RFC 9001 section 4.1.2: only a server that has our last flight acknowledges these
        if self._peer_validated_us():
            state.pto_count = 0
        state.loss_timer_stale = True
        if state.asks_for_acks:
            ack_frequency.consider(state)

    def _measure(self, sample_s: float, delay: int, now: float) -> None:
        """A round trip of the path in use, and how long the peer says it took for its part (RFC 9002 section 5.3)."""
        state = self._state
        rtt = state.path.rtt
        delay_s = delay * (1 << state.peer_parameters.ack_delay_exponent) / 1e6
        if state.phase is _CONFIRMED:
            delay_s = min(delay_s, state.max_ack_delay_s)
        elif rtt.first_sample_at is None and 2 * delay_s > sample_s:
            return  # repeated, or kept for its keys: no minimum says yet how much of that may be believed
        rtt.update(sample_s, delay_s, now)

    def _check(self, space: PacketSpace, ranges: Sequence[tuple[int, int]]) -> None:
        """Only what was sent can be acknowledged (RFC 9000 section 13.1)."""
        if ranges[0][1] >= space.next_number:
            raise PeerError(
                ErrorCode.PROTOCOL_VIOLATION,
                "a packet is acknowledged that was not sent",
                frame_type=ACK,
                section="RFC 9000 section 13.1",
            )
        for skipped in space.skipped:
            for first, last in ranges:
                if first <= skipped <= last:
                    raise PeerError(
                        ErrorCode.PROTOCOL_VIOLATION,
                        "a packet number is acknowledged that was skipped",
                        frame_type=ACK,
                        section="RFC 9000 section 21.4",
                    )

    def _look_for_spurious(self, space: PacketSpace, ranges: Sequence[tuple[int, int]], now: float) -> None:
        loss = space.loss
        loss.forget_lost(now - 3 * self._state.probe_timeout_s)
        for low, high, time in loss.spurious(ranges):
            self._state.counters.packets_spuriously_lost += high - low + 1
            if self._state.watch is not None:
                self._state.watch.spuriously_lost(space.kind, low, high, now)
            loss.widen(max(space.largest_acked, ranges[0][1]) - low)
            if not loss.remembers:  # all that was lost has arrived
                self._state.path.controller.on_spurious_loss(time)

    # Acknowledged

    def _run_acked(self, space: PacketSpace, run: Run, now: float) -> None:
        if run.stream_id >= 0:
            self._stream_acked(run.stream_id, run.offset, run.length, run.fin)
        for frame in run.frames:
            kind = frame[0]
            if kind == STREAM:
                self._stream_acked(frame[1], frame[2], frame[3], bool(frame[4]))
            elif kind == ACK:
                space.received.forget_below(frame[1])
            elif kind == CRYPTO:
                space.crypto_out.acknowledged(frame[1], frame[1] + frame[2])
            elif kind == RESET_STREAM:
                pair = self._state.streams.get(frame[1])
                if pair is not None and pair.send is not None:
                    pair.send.reset_acknowledged()
                    self._state.streams.forget_if_finished(frame[1])
            elif kind == RETIRE_CONNECTION_ID:
                self._state.remote_ids.retirement_acknowledged(frame[1])
            elif kind == MTU_PROBE:
                path = self._state.path
                if path.mtu is not None and path.mtu.acknowledged(run.first, now):
                    path.resize(path.mtu.size)

    def _stream_acked(self, stream_id: int, offset: int, length: int, fin: bool) -> None:
        streams = self._state.streams
        pair = streams.get(stream_id)
        if pair is None or (stream := pair.send) is None or stream.finished:
            return
        self._state.outgoing.acknowledged(stream, offset, offset + length, fin)
        if stream.finished:
            if stream.reset_code is None:
                self._state.events.append(StreamFinished(stream_id))
            streams.forget_if_finished(stream_id)

    # Lost

    def _detect(self, space: PacketSpace, now: float) -> None:
        state = self._state
        losses = space.loss.detect(space.largest_acked, now, state.path.rtt, state.max_ack_delay_s)
        if not losses.runs:
            return
        state.counters.packets_lost += sum(run.count for run in losses.runs)
        state.counters.bytes_lost += sum(run.size * run.count for run in losses.runs)
        if state.watch is not None:
            by_number = space.largest_acked - space.loss.packet_threshold
            state.watch.lost(space.kind, losses.runs, by_number, now)
        newest = -1.0
        if state.datagrams is not None:
            state.datagrams.lost += sum(frame[1] for run in losses.runs for frame in run.frames if frame[0] == DATAGRAM)
        for run in losses.runs:
            if run.in_flight:
                newest = max(newest, run.time)
            self._repeat(space, run)
            if run.frames and run.frames[0][0] == MTU_PROBE and state.path.mtu is not None:
                state.path.mtu.lost(run.first, now)
        if newest >= 0:
            if state.path.packet_size > BASE_SIZE and any(r.in_flight and r.size > BASE_SIZE for r in losses.runs):
                self._lose_size(state.discover_mtu().large_lost(now))
            state.path.controller.on_lost(now, newest, losses.persistent)
        if losses.persistent:
            state.path.rtt.reset_minimum()

    def _lose_size(self, black_hole: bool) -> None:
        """Take packets back to the size that every path carries, if the path is a black hole for larger ones."""
        path = self._state.path
        if black_hole and path.mtu is not None:
            path.resize(path.mtu.size)

    def _repeat(self, space: PacketSpace, run: Run) -> None:
        """Queue again what a run carried, as far as it still matters (RFC 9000 section 13.3)."""
        state = self._state
        if run.stream_id >= 0:
            self._stream_lost(run.stream_id, run.offset, run.length, run.fin)
        for frame in run.frames:
            kind = frame[0]
            if kind == STREAM:
                self._stream_lost(frame[1], frame[2], frame[3], bool(frame[4]))
            elif kind == CRYPTO:
                space.crypto_out.declared_lost(frame[1], frame[1] + frame[2])
            elif kind == ACK or kind in _NOT_REPEATED:
                continue
            else:
                state.control[(kind, frame[1])] = None

    def _probe(self, space: PacketSpace) -> None:
        """Have probes sent, with what the oldest packets carried; those stay in flight (section 6.2.4)."""
        wanted = PROBE_PACKETS
        for run in space.sent.runs:
            if not run.eliciting:
                continue
            count = min(wanted, run.count)
            if run.stream_id >= 0:
                length = count * run.step
                self._stream_lost(run.stream_id, run.offset, length, run.fin and length == run.length)
            if run.frames:
                self._repeat(space, run)
            wanted -= count
            if not wanted:
                break
        space.probes = PROBE_PACKETS

    def _stream_lost(self, stream_id: int, offset: int, length: int, fin: bool) -> None:
        pair = self._state.streams.get(stream_id)
        if pair is not None and pair.send is not None:
            self._queue(pair.send, offset, length, fin)

    def _queue(self, stream: SendStream, offset: int, length: int, fin: bool) -> None:
        stream.declared_lost(offset, offset + length, fin)
        if stream.buffer.lost or stream.fin_lost:
            self._state.streams.schedule.add(stream)

    # Timers

    def settle_timer(self) -> None:
        """Set the timer for the next loss by time, or the next probe (RFC 9002 appendix A.8), if anything changed."""
        state = self._state
        if not state.loss_timer_stale:
            return
        state.loss_timer_stale = False
        if not state.is_open:
            return
        initial, handshake, application = state.initial.loss.due, state.handshake.loss.due, state.application.loss.due
        if initial is not None or handshake is not None or application is not None:
            state.timers.set(_LOSS, min(due for due in (initial, handshake, application) if due is not None))
            return
        if not state.path.validated and state.path.send_allowance < state.path.packet_size:
            state.timers.clear(_LOSS)  # nothing could be sent: section 6.2.2.1
            return
        probe = self._next_probe()
        if probe is None:
            state.timers.clear(_LOSS)
        else:
            state.timers.set(_LOSS, probe[0])

    def _next_probe(self) -> tuple[float, PacketSpace] | None:
        state = self._state
        backoff = 1 << min(state.pto_count, MAX_PTO_BACKOFF)
        timeout = state.path.rtt.timeout * backoff
        best: tuple[float, PacketSpace] | None = None
        for space in state.spaces:
            if not space.sent.eliciting_in_flight:
                continue
            at = space.last_eliciting_at + timeout
            if space.kind is _APPLICATION:
                if state.phase is not _CONFIRMED:  # section 6.2.1
                    continue
                at += state.max_ack_delay_s * backoff
            if best is None or at < best[0]:
                best = (at, space)
        if best is None and not self._peer_validated_us():
            # Section 6.2.2.1: the server may be unable to send until it hears from us.
            space = state.handshake if state.handshake.can_send else state.initial
            last = max(space.last_eliciting_at, state.initial.last_eliciting_at)
            best = (last + timeout, space)
        return best

    def _peer_validated_us(self) -> bool:
        """Whether the peer surely knows our address (RFC 9002 appendix A.8)."""
        state = self._state
        return not state.is_client or state.phase is _CONFIRMED or state.handshake.largest_acked >= 0

    def on_timeout(self, now: float) -> None:
        """The loss timer fired: packets are lost by time, or probes are due."""
        state = self._state
        due = [space for space in state.spaces if space.loss.due is not None]
        if due:
            for space in due:
                self._detect(space, now)
            state.loss_timer_stale = True
            return
        probe = self._next_probe()
        if probe is None:
            return
        space = probe[1]
        state.pto_count += 1
        state.counters.probe_timeouts += 1
        if state.pto_count >= GIVE_UP_TIMEOUTS:
            state.ecn.failed = True
        if state.pto_count >= BLACK_HOLE_TIMEOUTS and state.path.packet_size > BASE_SIZE and state.handshake_complete:
            self._lose_size(state.discover_mtu().fall_back(now))
        self._probe(space)
        if state.phase is _COMPLETE and state.application.sent.eliciting_in_flight:
            # The server may have our last flight and want only what followed it, for which there is no timer yet.
            self._probe(state.application)
        # All handshake data that is outstanding goes again, whatever the window: it is little, and one space's may wait
        # for another's (section 6.2.4).
        for other in (state.initial, state.handshake):
            if other.can_send and (other is space or other.crypto_pending or other.sent.eliciting_in_flight):
                other.probes = PROBE_PACKETS
                other.crypto_out.declared_lost(other.crypto_out.start, other.crypto_out.sent)
        space.last_eliciting_at = now
        state.loss_timer_stale = True
