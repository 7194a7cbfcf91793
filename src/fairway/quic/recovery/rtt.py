"""Round-trip time (RFC 9002 section 5)."""

from __future__ import annotations

INITIAL_RTT_S = 0.333  # section 6.2.2
GRANULARITY_S = 0.001  # kGranularity, section 6.1.2


class RttEstimator:
    """Smoothed RTT, its variation and its minimum over one path."""

    __slots__ = ("first_sample_at", "latest", "minimum", "smoothed", "timeout", "variation")

    def __init__(self, initial_s: float = INITIAL_RTT_S) -> None:
        self.latest = 0.0
        self.minimum = 0.0
        self.smoothed = initial_s
        self.variation = initial_s / 2
        self.timeout = self.smoothed + max(4 * self.variation, GRANULARITY_S)
        """The probe timeout without the peer's max_ack_delay (section 6.2.1), in seconds."""
        self.first_sample_at: float | None = None

    def update(self, sample_s: float, ack_delay_s: float, now: float) -> None:
        """Take in a sample; `ack_delay_s` is what the peer reports, already capped by its max_ack_delay."""
        self.latest = sample_s
        if self.first_sample_at is None:
            self.first_sample_at = now
            self.minimum = sample_s
            self.smoothed = sample_s
            self.variation = sample_s / 2
            self.timeout = sample_s + max(2 * sample_s, GRANULARITY_S)
            return
        self.minimum = min(self.minimum, sample_s)
        if sample_s >= self.minimum + ack_delay_s:
            sample_s -= ack_delay_s
        self.variation = 0.75 * self.variation + 0.25 * abs(self.smoothed - sample_s)
        self.smoothed = 0.875 * self.smoothed + 0.125 * sample_s
        self.timeout = self.smoothed + max(4 * self.variation, GRANULARITY_S)

    def reset_minimum(self) -> None:
        """Forget the minimum after persistent congestion (section 5.2)."""
        self.minimum = self.latest
