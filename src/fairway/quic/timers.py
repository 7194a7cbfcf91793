"""The timers of a connection: one enum, one table of deadlines."""

from __future__ import annotations

from enum import Enum


class Timer(Enum):
    """What a connection waits for."""

    HANDSHAKE = "the handshake must be complete"
    IDLE = "nothing was heard from the peer (RFC 9000 section 10.1)"
    KEEP_ALIVE = "a PING keeps the connection from idling out (section 10.1.2)"
    ACK = "an acknowledgement may be delayed no longer (section 13.2.1)"
    LOSS = "a packet is lost by time, or a probe is due (RFC 9002 section 6)"
    PACING = "the next batch may leave (RFC 9002 section 7.7)"
    EARLY_KEYS = "0-RTT packets are no longer waited for (RFC 9001 section 4.9.3)"
    PATH = "a path is challenged again, or given up (RFC 9000 section 8.2)"
    CLOSE = "the closing or draining period ends (RFC 9000 section 10.2)"

    __hash__ = object.__hash__  # there is one of each, and Enum's own costs more than the rest of a look-up


class Timers:
    """Deadlines in seconds of the caller's clock."""

    __slots__ = ("_deadlines",)

    def __init__(self) -> None:
        self._deadlines: dict[Timer, float] = {}

    def set(self, timer: Timer, deadline: float | None) -> None:
        """Set or, with None, clear a timer."""
        if deadline is None:
            self._deadlines.pop(timer, None)
        else:
            self._deadlines[timer] = deadline

    def clear(self, timer: Timer) -> None:
        """Clear a timer."""
        self._deadlines.pop(timer, None)

    def clear_all(self) -> None:
        """Clear every timer."""
        self._deadlines.clear()

    def get(self, timer: Timer) -> float | None:
        """A timer's deadline."""
        return self._deadlines.get(timer)

    def next(self) -> float | None:
        """The earliest deadline."""
        return min(self._deadlines.values(), default=None)

    def expired(self, now: float) -> list[Timer]:
        """Take out and give the timers whose deadline has passed."""
        due = [timer for timer, deadline in self._deadlines.items() if deadline <= now]
        for timer in due:
            del self._deadlines[timer]
        return due
