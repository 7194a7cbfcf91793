"""What an endpoint counts: plain numbers, bounded in kind however many connections there were."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from operator import add, itemgetter

from fairway.quic.errors import ClosedBy, Closing, ErrorCode

SUMMED = (
    "streams_opened_locally",
    "streams_opened_by_peer",
    "bytes_sent",
    "bytes_received",
    "bytes_lost",
    "stream_bytes_retransmitted",
    "packets_sent",
    "packets_received",
    "packets_lost",
    "packets_spuriously_lost",
    "packets_dropped",
    "probe_timeouts",
    "key_updates",
    "datagrams_sent",
    "datagrams_lost",
    "datagrams_received",
    "datagrams_dropped",
)
"""Figures of a connection that only grow, and so may be added over connections."""

_summed = itemgetter(*SUMMED)

RTT_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper bounds of the buckets of `EndpointStatistics.rtt_counts`; a last one is without bound."""


class EndpointStatistics:
    """Counts over an endpoint's life. What it says of connections that are over is here; `totals` adds the others."""

    def __init__(self) -> None:
        self.accepted = 0
        """Connections that a first packet seemed to ask for."""
        self.unheard = 0
        """Of those, the ones whose first packet did not open: nothing was kept of them."""
        self.refused: Counter[str] = Counter()
        """First packets that were not let in, by why: too many `connections`, too many of that `address`, too many
        `handshakes`, `closing`."""
        self.version_negotiations = 0
        """Version Negotiation packets sent."""
        self.retries = 0
        """Retry packets sent."""
        self.invalid_tokens = 0
        """Handshakes refused for a token of a Retry that was not or no longer good."""
        self.handshakes_completed = 0
        self.handshakes_failed: Counter[str] = Counter()
        """Connections that ended before their handshake was complete, by `reason`."""
        self.closed: Counter[str] = Counter()
        """Connections that ended after it, by `reason`."""
        self._ended_sums = [0] * len(SUMMED)
        """The figures of `SUMMED`, added over connections that are over."""
        self.rtt_counts = [0] * (len(RTT_BOUNDS_S) + 1)
        """Connections that ended, by their last smoothed round-trip time: see `RTT_BOUNDS_S`."""
        self.rtt_sum_s = 0.0

    def ended(self, figures: Mapping[str, float], closing: Closing | None, completed: bool) -> None:
        """A connection is over; `figures` are its statistics, `completed` says whether its handshake was."""
        (self.closed if completed else self.handshakes_failed)[reason(closing)] += 1
        self._ended_sums = list(map(add, self._ended_sums, _summed(figures)))
        if figures["minimum_rtt_s"] > 0:
            rtt_s = figures["smoothed_rtt_s"]
            self.rtt_counts[bisect_left(RTT_BOUNDS_S, rtt_s)] += 1
            self.rtt_sum_s += rtt_s

    def totals(self, living: Iterable[Mapping[str, float]]) -> dict[str, int]:
        """The figures of `SUMMED` over all connections: those that are over, and these of the `living`."""
        sums = map(sum, zip(self._ended_sums, *map(_summed, living), strict=True))
        return dict(zip(SUMMED, map(int, sums), strict=True))


def reason(closing: Closing | None) -> str:
    """How a connection ended, in one of a bounded number of words, whatever the peer sends."""
    if closing is None:
        return "forgotten"
    if closing.by not in (ClosedBy.LOCAL, ClosedBy.PEER):
        return closing.by.name.lower()
    if closing.application:
        return "no_error" if not closing.code else "application_error"
    if 0x100 <= closing.code <= 0x1FF:
        return f"crypto_error_{closing.code:#x}"
    try:
        return ErrorCode(closing.code).name.lower()
    except ValueError:
        return "unknown"
