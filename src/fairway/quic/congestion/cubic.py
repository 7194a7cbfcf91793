"""CUBIC (RFC 9438) with HyStart++; its window is counted in packets."""

from __future__ import annotations

from fairway.quic.congestion.hystart import HyStart
from fairway.quic.congestion.interface import MINIMUM_WINDOW_PACKETS, initial_window

C = 0.4  # section 5.1
BETA = 0.7  # section 4.6
ALPHA = 3 * (1 - BETA) / (1 + BETA)  # section 4.3: as fast as Reno would be


class _Before:
    """The state that a spurious loss gives back (section 4.9)."""

    __slots__ = ("epoch", "k", "prior", "recovery_start", "threshold", "w_max", "window")

    def __init__(self, cubic: Cubic) -> None:
        self.window = cubic._window
        self.threshold = cubic._threshold
        self.prior = cubic._prior
        self.w_max = cubic._w_max
        self.k = cubic._k
        self.epoch = cubic._epoch
        self.recovery_start = cubic._recovery_start


class Cubic:
    """Grows with the cube of the time since the last reduction; reduces by 0.3 on loss."""

    __slots__ = (
        "_before", "_epoch", "_hystart", "_idle_since", "_k", "_packet_size", "_prior", "_recovery_start", "_threshold",
        "_w_est", "_w_max", "_window",
    )  # fmt: skip

    def __init__(self, packet_size: int) -> None:
        self._packet_size = packet_size
        self._window = initial_window(packet_size) / packet_size
        self._threshold = float("inf")
        self._prior = 0.0
        """The window when the threshold was last set, before that reduced it: cwnd_prior of section 4.1.2."""
        self._w_max = 0.0
        self._k = 0.0
        self._w_est = 0.0
        self._epoch: float | None = None
        self._recovery_start = -1.0
        self._idle_since: float | None = None
        self._hystart = HyStart()
        self._before: _Before | None = None

    @property
    def window(self) -> int:
        """Bytes that may be in flight."""
        return int(self._window * self._packet_size)

    @property
    def phase(self) -> str:
        """What RFC 9002 section 7.3 calls the state outside of recovery."""
        return "slow_start" if self._window < self._threshold else "congestion_avoidance"

    def on_sent(self, now: float, size: int, last_number: int) -> None:
        """Rounds of slow start are counted by packet number."""
        if self._window < self._threshold:
            self._hystart.on_sent(last_number)

    def on_acked(self, now: float, size: int, sent_at: float, largest: int, rtt_s: float, limited: bool) -> None:
        """Grow: exponentially in slow start, along the cubic function after."""
        if sent_at <= self._recovery_start:
            return
        if self._window < self._threshold:
            if self._hystart.on_acked(largest, rtt_s):
                self._threshold = self._prior = self._window
            if limited:
                self._window += self._hystart.growth(size) / self._packet_size
            return
        if not limited:
            # Section 5.8: time that the application did not use the window for does not count.
            if self._idle_since is None:
                self._idle_since = now
            return
        self._avoid_congestion(now, size / self._packet_size, rtt_s)

    def _avoid_congestion(self, now: float, acked: float, rtt_s: float) -> None:
        """Section 4.2 to 4.5."""
        if self._epoch is None:
            self._epoch = now
            self._w_est = self._window
            if self._w_max <= self._window:
                self._w_max, self._k = self._window, 0.0
            else:
                self._k = ((self._w_max - self._window) / C) ** (1 / 3)
        elif self._idle_since is not None:
            self._epoch += now - self._idle_since
        self._idle_since = None
        elapsed = now - self._epoch
        target = C * (elapsed + rtt_s - self._k) ** 3 + self._w_max
        alpha = ALPHA if self._w_est < self._prior else 1.0
        self._w_est += alpha * acked / self._window
        cubic_now = C * (elapsed - self._k) ** 3 + self._w_max
        if cubic_now < self._w_est:
            self._window = max(self._window, self._w_est)
        else:
            target = min(max(target, self._window), 1.5 * self._window)
            self._window += (target - self._window) / self._window * acked

    def on_lost(self, now: float, sent_at: float, persistent: bool) -> None:
        """Reduce once a recovery period; remember a little less than the maximum if it shrinks (section 4.7)."""
        if sent_at > self._recovery_start:
            self._before = _Before(self)
            self._recovery_start = now
            self._prior = window = self._window
            self._w_max = window * (1 + BETA) / 2 if window < self._w_max else window
            self._window = max(window * BETA, MINIMUM_WINDOW_PACKETS)
            self._threshold = self._window
            self._epoch = self._idle_since = None
        if persistent:
            self._window = MINIMUM_WINDOW_PACKETS
            self._recovery_start = -1.0
            self._epoch = None
            self._before = None

    def on_spurious_loss(self, sent_at: float) -> None:
        """Undo the last reduction if this loss caused it."""
        before = self._before
        if before is None or sent_at > self._recovery_start:
            return
        self._before = None
        self._window = max(before.window, self._window)
        self._threshold, self._w_max, self._k = before.threshold, before.w_max, before.k
        self._prior = before.prior
        self._epoch, self._recovery_start = before.epoch, before.recovery_start

    def on_packet_size(self, size: int) -> None:
        """Keep the window's bytes, but for the least that RFC 9002 section 7.2 asks for with the new size."""
        scale = self._packet_size / size
        least = initial_window(size) / size if self._recovery_start < 0 else MINIMUM_WINDOW_PACKETS
        self._window = max(self._window * scale, least)
        if self._threshold != float("inf"):
            self._threshold = max(self._threshold * scale, least)
        self._w_max *= scale
        self._epoch = None
        self._packet_size = size
