"""How connections end: idle timeout, immediate close, draining (RFC 9000 section 10)."""

from __future__ import annotations

from fairway.quic.errors import ClosedBy, Closing
from fairway.quic.events import ConnectionTerminated
from fairway.quic.frames import PING, ConnectionClose
from fairway.quic.state import ConnectionState, Phase
from fairway.quic.timers import Timer

CLOSE_PROBES = 3  # PTOs that closing and draining last: section 10.2


# Looking a member of an enum up costs ten times what a name of the module does.
_IDLE = Timer.IDLE
_KEEP_ALIVE = Timer.KEEP_ALIVE
_CLOSE = Timer.CLOSE
_CLOSING = Phase.CLOSING
_DRAINING = Phase.DRAINING
_CLOSED = Phase.CLOSED


def idle_timeout_s(state: ConnectionState) -> float | None:
    """The timeout that holds: the lesser of both sides', at least three PTOs; None for none (section 10.1)."""
    ours, theirs = state.local_parameters.max_idle_timeout_ms, state.peer_parameters.max_idle_timeout_ms
    least_ms = ours if not theirs or 0 < ours < theirs else theirs  # 0 is a side without a timeout
    return max(least_ms / 1000, 3 * state.probe_timeout_s) if least_ms else None


def restart_idle(state: ConnectionState, now: float) -> None:
    """Something was received, or an ack-eliciting packet sent after that: the idle period begins anew."""
    timeout = idle_timeout_s(state)
    state.timers.set(_IDLE, None if timeout is None else now + timeout)
    keep_alive = state.configuration.keep_alive_s
    if keep_alive is not None and state.handshake_complete:
        state.timers.set(_KEEP_ALIVE, now + keep_alive)


def heard_from_peer(state: ConnectionState, now: float) -> None:
    """A genuine packet arrived."""
    state.sent_since_receive = False
    restart_idle(state, now)


def keep_alive(state: ConnectionState) -> None:
    """The keep-alive timer fired."""
    state.control[(PING, 0)] = None


def close(state: ConnectionState, closing: Closing, now: float) -> None:
    """Begin to close on our side: CONNECTION_CLOSE goes out, and again in answer to what still arrives."""
    if not state.is_open:
        return
    state.close_pending = True
    _end(state, _CLOSING, closing, now)


def closed_by_peer(state: ConnectionState, frame: ConnectionClose, now: float) -> None:
    """CONNECTION_CLOSE arrived: drain, send nothing more (section 10.2.2)."""
    if state.phase is _CLOSING:
        state.close_pending = False
        state.go(_DRAINING)
        return
    if state.is_open:
        reason = frame.reason.decode("utf-8", "replace")
        closing = Closing(ClosedBy.PEER, frame.code, reason, frame.frame_type, frame.application)
        _end(state, _DRAINING, closing, now)


def abandon(state: ConnectionState, closing: Closing, now: float) -> None:
    """End at once and silently (idle timeout, version negotiation, the network gone)."""
    if state.is_open:
        _end(state, _CLOSED, closing, now)
        state.timers.clear_all()


def _release(state: ConnectionState) -> None:
    """Let go of what is of no use any more now, not when the draining period ends."""
    if state.phase is _CLOSING:  # what still arrives is answered
        for space in state.spaces:
            space.sent.clear()
        return
    if state.application.keys is not None:
        state.counters.key_updates = state.application.keys.updates
    for space in state.spaces:
        space.discard()


def _end(state: ConnectionState, phase: Phase, closing: Closing, now: float) -> None:
    state.go(phase)
    state.closing = closing
    state.timers.clear_all()
    state.timers.set(_CLOSE, now + CLOSE_PROBES * state.probe_timeout_s)
    state.kept = ()
    _release(state)
    state.events.append(ConnectionTerminated(closing))
    if state.watch is not None:
        state.watch.closed(closing, now)
