"""Loss detection for one packet number space (RFC 9002 section 6.1 and 7.6).

Packets are lost by number (three later ones were acknowledged) or by time (9/8 of the RTT). Where a packet that was
declared lost is acknowledged after all, the loss was spurious: both thresholds widen (RFC 9002 section 6.1.1, as
RFC 8985 does for TCP) and the congestion controller is told.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from fairway.quic.recovery.rtt import GRANULARITY_S, RttEstimator
from fairway.quic.recovery.sent import Run, SentPackets

PACKET_THRESHOLD = 3  # kPacketThreshold, section 6.1.1
TIME_THRESHOLD = 9 / 8  # kTimeThreshold, section 6.1.2
PERSISTENT_CONGESTION_THRESHOLD = 3  # kPersistentCongestionThreshold, section 7.6.1

MAX_PACKET_THRESHOLD = 300
MAX_TIME_THRESHOLD = 2.0
MAX_LOST_RUNS = 256


def _last(acknowledged: tuple[int, int]) -> int:
    return acknowledged[1]


@dataclass(slots=True)
class Losses:
    """What one pass of detection found."""

    runs: list[Run] = field(default_factory=list)
    persistent: bool = False


_NO_LOSSES = Losses()
"""What a pass gives that found none: most do. Nothing is ever put into it."""


class LossDetector:
    """Which packets of `sent` are lost, and when more may become so."""

    __slots__ = ("_lost", "_period_first", "_period_last", "_period_start", "due", "packet_threshold", "sent",
                 "time_threshold")  # fmt: skip

    def __init__(self, sent: SentPackets) -> None:
        self.sent = sent
        self.due: float | None = None
        """When a packet that is still too young will be lost by time; None without such a packet."""
        self.packet_threshold = PACKET_THRESHOLD
        self.time_threshold = TIME_THRESHOLD
        self._lost: list[tuple[int, int, float]] | tuple[()] = ()
        self._period_first = self._period_last = -1
        self._period_start = 0.0

    def detect(self, largest_acked: int, now: float, rtt: RttEstimator, max_ack_delay_s: float) -> Losses:
        """Take out of `sent` what is lost now that `largest_acked` is acknowledged, and set `due`."""
        self.due = None
        runs = self.sent.runs
        if not runs or runs[0].first > largest_acked:
            return _NO_LOSSES
        losses = Losses()
        delay = max(self.time_threshold * max(rtt.latest, rtt.smoothed), GRANULARITY_S)
        lost_before = largest_acked - self.packet_threshold  # inclusive
        by_time = -1
        for run in runs:
            if run.first > largest_acked:
                break
            if run.time + delay <= now:
                by_time = min(run.last, largest_acked)
            elif run.last > lost_before:
                self.due = run.time + delay
                break
        lost = self.sent.take(runs[0].first, max(lost_before, by_time))
        if not lost:
            return losses
        remembered = [*self._lost]
        for run in lost:
            remembered.append((run.first, run.last, run.time))
            losses.persistent |= self._extends_period(run, rtt, max_ack_delay_s)
        self._lost = remembered[-MAX_LOST_RUNS:]
        losses.runs = lost
        return losses

    def _extends_period(self, run: Run, rtt: RttEstimator, max_ack_delay_s: float) -> bool:
        """Whether the unbroken row of lost packets that `run` adds to now spans persistent congestion."""
        if not run.eliciting or rtt.first_sample_at is None or run.time < rtt.first_sample_at:
            return False
        if run.first != self._period_last + 1:
            self._period_first, self._period_start = run.first, run.time
        self._period_last = run.last
        duration = (rtt.timeout + max_ack_delay_s) * PERSISTENT_CONGESTION_THRESHOLD
        if run.last > self._period_first and run.time - self._period_start > duration:
            self._period_last = -1
            return True
        return False

    @property
    def remembers(self) -> bool:
        """True while packets are remembered as lost."""
        return bool(self._lost)

    def spurious(self, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int, float]]:
        """Of the packets in inclusive `ranges`, the largest first, those declared lost: first, last, sending time.

        The work is bounded by the ranges plus the losses, not by their product.
        """
        ascending = ranges[::-1]
        found = []
        kept = []
        for low, high, time in self._lost:
            at = bisect_left(ascending, low, key=_last)
            while at < len(ascending) and ascending[at][0] <= high:
                first, last = ascending[at]
                found.append((max(low, first), min(high, last), time))
                if low < first:
                    kept.append((low, first - 1, time))
                low = last + 1
                at += 1
            if low <= high:
                kept.append((low, high, time))
        if found:
            self._lost = kept
        return found

    def widen(self, reordering: int) -> None:
        """Tolerate a reordering of so many packets from now on, and more time."""
        self.packet_threshold = min(max(self.packet_threshold, reordering + 1), MAX_PACKET_THRESHOLD)
        self.time_threshold = min(self.time_threshold * 1.125, MAX_TIME_THRESHOLD)

    def forget_lost(self, before: float) -> None:
        """Forget losses of packets sent before this time: a late acknowledgement of them tells nothing."""
        if self._lost and self._lost[0][2] < before:
            self._lost = [lost for lost in self._lost if lost[2] >= before]
