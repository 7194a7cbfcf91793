"""How much of a peer is taken in, and what was counted of it."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.net.exchange import limits


class Bucket:
    """So much a second, and so much at once; what is taken beyond that has to be waited for."""

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level = burst
        self._at: float | None = None

    def take(self, amount: float, now: float) -> None:
        """Take `amount`, whether it is there or not."""
        elapsed = 0.0 if self._at is None else max(now - self._at, 0.0)
        self._level = min(self._burst, self._level + elapsed * self._rate) - amount
        self._at = now

    @property
    def debt_s(self) -> float:
        """Seconds until what was taken is made up for; 0 if it is."""
        return max(-self._level, 0.0) / self._rate


class Pace:
    """How fast a peer is read."""

    __slots__ = ("_bytes", "_work")

    def __init__(self) -> None:
        self._bytes = Bucket(limits.BYTES_PER_S, limits.BYTES_BURST)
        self._work = Bucket(limits.WORK_PER_S, limits.WORK_BURST)

    def took(self, size: int, work: int, now: float) -> float:
        """So many bytes, and so many messages and changes in them, were read: seconds for which no more should be."""
        self._bytes.take(size, now)
        self._work.take(work, now)
        return max(self._bytes.debt_s, self._work.debt_s)


@dataclass(slots=True)
class Counters:
    """What was counted of one peer, over all its sessions."""

    sessions: int = 0
    messages: int = 0
    changes: int = 0
    refused: int = 0
    """Announcements of what its certificate does not allow."""
    over_limit: int = 0
    """Announcements beyond the number that is held of one peer."""
    unknown: int = 0
    """Messages of types that this version does not know."""
    resyncs: int = 0
    """Tables asked for since something was missing."""
    faults: int = 0
    """Sessions that ended by the peer's fault."""
    paused_s: float = 0.0
    """How long it was left unread as it sent too fast."""
