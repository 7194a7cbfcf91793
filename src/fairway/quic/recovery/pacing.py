"""Spreading what the congestion window allows over the round trip (RFC 9002 section 7.7).

A token bucket: it fills at 1.25 times the window per smoothed RTT and holds what may leave at once.
"""

from __future__ import annotations

RATE_FACTOR = 1.25  # section 7.7: a little above the window, so that pacing does not underuse it
BURST_PACKETS = 10  # section 7.7: bursts of at most the initial window
TIMER_SLACK_S = 0.002
"""Event loops wake this late; the bucket must hold what the rate gives meanwhile."""

MIN_WAIT_S = 0.0001
"""No timer is set for less."""


class Pacer:
    """How much may be sent now, and when the next batch may be."""

    __slots__ = ("_rate", "_tokens", "_updated")

    def __init__(self) -> None:
        self._tokens = -1.0
        self._rate = 0.0
        self._updated = 0.0

    def budget(self, now: float, window: int, rtt_s: float, packet_size: int) -> int:
        """Bytes that may leave now."""
        rate = self._rate = RATE_FACTOR * window / max(rtt_s, 1e-6)
        capacity = max(BURST_PACKETS * packet_size, rate * TIMER_SLACK_S)
        if self._tokens < 0 and self._updated == 0.0:
            self._tokens = capacity
        else:
            self._tokens = min(self._tokens + (now - self._updated) * rate, capacity)
        self._updated = now
        return int(self._tokens + 0.5)  # rounding must not hold back a packet that is due

    def spend(self, size: int) -> None:
        """Account for bytes that left."""
        self._tokens -= size

    def next_at(self, packet_size: int) -> float:
        """When a batch may leave again: not for one packet at a time where the rate is high."""
        if self._rate <= 0:
            return self._updated
        wanted = max(packet_size, self._rate * TIMER_SLACK_S / 2)
        return self._updated + max((wanted - self._tokens) / self._rate, MIN_WAIT_S)
