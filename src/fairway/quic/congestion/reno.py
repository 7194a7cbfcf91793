"""NewReno as RFC 9002 section 7 and appendix B define it."""

from __future__ import annotations

from fairway.quic.congestion.interface import (
    LOSS_REDUCTION_FACTOR,
    MINIMUM_WINDOW_PACKETS,
    initial_window,
)


class Reno:
    """Doubles each round trip until the first loss, then adds a packet each; halves on loss."""

    def __init__(self, packet_size: int) -> None:
        self._packet_size = packet_size
        self._window = initial_window(packet_size)
        self._threshold = float("inf")
        self._recovery_start = -1.0
        self._acked = 0
        self._before: tuple[int, float, float] | None = None

    @property
    def window(self) -> int:
        """Bytes that may be in flight."""
        return self._window

    @property
    def phase(self) -> str:
        """What RFC 9002 section 7.3 calls the state outside of recovery."""
        return "slow_start" if self._window < self._threshold else "congestion_avoidance"

    def on_sent(self, now: float, size: int, last_number: int) -> None:
        """Nothing depends on it."""

    def on_acked(self, now: float, size: int, sent_at: float, largest: int, rtt_s: float, limited: bool) -> None:
        """Grow, unless in recovery or held up by the application (section 7.8)."""
        if sent_at <= self._recovery_start or not limited:
            return
        if self._window < self._threshold:
            self._window += size
            return
        self._acked += size
        if self._acked >= self._window:
            self._acked -= self._window
            self._window += self._packet_size

    def on_lost(self, now: float, sent_at: float, persistent: bool) -> None:
        """Halve, once a recovery period (section 7.3.2)."""
        minimum = MINIMUM_WINDOW_PACKETS * self._packet_size
        if sent_at > self._recovery_start:
            self._before = (self._window, self._threshold, self._recovery_start)
            self._recovery_start = now
            self._window = max(int(self._window * LOSS_REDUCTION_FACTOR), minimum)
            self._threshold = self._window
            self._acked = 0
        if persistent:
            self._window = minimum
            self._recovery_start = -1.0
            self._before = None

    def on_spurious_loss(self, sent_at: float) -> None:
        """Undo the last reduction if this loss caused it."""
        if self._before is not None and sent_at <= self._recovery_start:
            window, self._threshold, self._recovery_start = self._before
            self._window = max(window, self._window)
            self._before = None

    def on_packet_size(self, size: int) -> None:
        """Never less than the new size's initial window while nothing was lost, or its minimum (section 7.2)."""
        self._packet_size = size
        least = initial_window(size) if self._recovery_start < 0 else MINIMUM_WINDOW_PACKETS * size
        self._window = max(self._window, least)
