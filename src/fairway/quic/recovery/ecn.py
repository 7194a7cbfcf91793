"""Explicit congestion notification with validation (RFC 9000 section 13.4, appendix A.4; RFC 9002 section 7.1).

1-RTT packets are marked ECT(0): the first few of a path, then, once acknowledgements report their marks, all. Counts
that cannot be true end it: a network that clears marks, or a peer that lies, gets none.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairway.quic.recovery.sent import Run

NOT_ECT, ECT_1, ECT_0, CE = 0, 1, 2, 3  # RFC 3168 section 5: the low bits of the IP header's field

TESTING_PACKETS = 10  # RFC 9000 appendix A.4

GIVE_UP_TIMEOUTS = 3
"""Probe timeouts in a row after which packets are not marked any more: the path may drop those that are."""

Counts = tuple[int, int, int]
"""ECT(0), ECT(1) and CE, as an ACK frame reports them."""

_ALWAYS = 1 << 62


class Ecn:
    """What of our packets is marked, and whether the peer's counts agree; one a connection, anew on each path."""

    __slots__ = ("_marked_from", "_marked_until", "_reported", "_resumes", "_sent", "capable", "failed")

    def __init__(self, enabled: bool = True) -> None:
        self.failed = not enabled
        """True if packets are not marked any more."""
        self.capable = False
        """True once the path was seen to carry marks and the peer to count them."""
        self._sent = 0
        self._reported: Counts = (0, 0, 0)
        self._marked_from = self._marked_until = _ALWAYS
        self._resumes = True
        """True if the packets that leave next are the first of a row that is marked."""

    def restart(self) -> None:
        """Another path: try it from the next packet on; older ones are not looked at any more."""
        self.capable = False
        self._marked_from = self._marked_until = _ALWAYS
        self._resumes = True

    def mark(self, first: int, count: int) -> int:
        """The mark for packets that leave now."""
        if self._resumes:
            self._marked_from, self._marked_until, self._resumes = first, _ALWAYS, False
        if self.failed or first >= self._marked_until:
            return NOT_ECT
        self._sent += count
        if not self.capable and self._marked_until == _ALWAYS and first + count >= self._marked_from + TESTING_PACKETS:
            self._marked_until = first + count
        return ECT_0

    def on_ack(self, acked: Sequence[Run], counts: Counts | None, *, newer: bool) -> bool:
        """An acknowledgement of `acked`; True if it reports congestion. `newer` if it raises the largest number."""
        if self.failed or not newer:  # section 13.4.2.1: reordered ones may hold older counts
            return False
        low, high = self._marked_from, self._marked_until
        marked = sum(run.count for run in acked if low <= run.first < high)
        if counts is None:
            self.failed = marked > 0
            return False
        before, self._reported = self._reported, counts
        risen = counts[0] - before[0] + counts[2] - before[2]
        shrunk = any(now < then for now, then in zip(counts, before, strict=True))
        if shrunk or risen < marked or counts[1] or counts[0] + counts[2] > self._sent:
            self.failed = True
            return False
        if risen and not self.capable:  # bare acknowledgements are counted too, though nobody acknowledges them
            self.capable = self._resumes = True
        return counts[2] > before[2]
