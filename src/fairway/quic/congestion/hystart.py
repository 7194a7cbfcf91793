"""HyStart++ (RFC 9406): leave slow start when the round-trip time rises, before anything is lost."""

from __future__ import annotations

MIN_RTT_THRESHOLD_S = 0.004  # section 4.3
MAX_RTT_THRESHOLD_S = 0.016
MIN_RTT_DIVISOR = 8
N_RTT_SAMPLE = 8
CSS_GROWTH_DIVISOR = 4
CSS_ROUNDS = 5
_NEVER = float("inf")


class HyStart:
    """Follows rounds of slow start; tells how fast to grow and when to stop."""

    __slots__ = (
        "_css_baseline", "_css_rounds", "_last_round_min", "_last_sent", "_round_end", "_round_min", "_samples",
        "conservative",
    )  # fmt: skip

    def __init__(self) -> None:
        self._round_end = -1
        self._last_sent = -1
        self._last_round_min = _NEVER
        self._round_min = _NEVER
        self._samples = 0
        self._css_baseline = _NEVER
        self._css_rounds = 0
        self.conservative = False
        """True in conservative slow start."""

    def on_sent(self, last_number: int) -> None:
        """Packets up to `last_number` left."""
        self._last_sent = last_number
        if self._round_end < 0:
            self._round_end = last_number

    def on_acked(self, largest: int, rtt_s: float) -> bool:
        """Everything up to `largest` was acknowledged with this RTT; True if slow start is to end."""
        self._round_min = min(self._round_min, rtt_s)
        self._samples += 1
        if self._samples >= N_RTT_SAMPLE:
            if self.conservative:
                if self._round_min < self._css_baseline:  # the rise was a passing one
                    self._css_baseline = _NEVER
                    self.conservative = False
            elif self._round_min != _NEVER and self._last_round_min != _NEVER:
                rise = min(max(MIN_RTT_THRESHOLD_S, self._last_round_min / MIN_RTT_DIVISOR), MAX_RTT_THRESHOLD_S)
                if self._round_min >= self._last_round_min + rise:
                    self._css_baseline = self._round_min
                    self._css_rounds = 0
                    self.conservative = True
        if largest >= self._round_end:
            return self._end_round()
        return False

    def _end_round(self) -> bool:
        self._round_end = self._last_sent + 1  # the next packet to be sent
        self._last_round_min, self._round_min = self._round_min, _NEVER
        self._samples = 0
        if self.conservative:
            self._css_rounds += 1
            return self._css_rounds >= CSS_ROUNDS
        return False

    def growth(self, size: int) -> float:
        """Bytes that the window grows by for `size` acknowledged bytes."""
        return size / CSS_GROWTH_DIVISOR if self.conservative else size
