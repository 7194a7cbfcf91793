"""Path MTU discovery by packets alone (RFC 8899, RFC 9000 section 14.3), with detection of black holes.

A probe is a packet of nothing but PING and PADDING. Its loss says nothing about congestion. Where the search stands:
`size` is known to pass, `_high` is not; the next probe is the ceiling itself, then a common size, then half-way.
"""

from __future__ import annotations

BASE_SIZE = 1200
"""What every path carries (RFC 9000 section 14): nothing, least of all ICMP, brings us below."""

MAX_PROBES = 2
"""Probes of one size: RFC 8899 section 5.1.2 suggests 3, where nothing else tells how much the path loses."""

COMMON_SIZE = 1452
"""Ethernet's, over IPv6: tried next where the ceiling is higher and does not pass."""

ENOUGH = 20
"""The search ends when it knows the size to this many bytes."""

BLACK_HOLE_LOSSES = 3
"""Rounds in which large packets were lost and none arrived, until the size is taken back."""

BLACK_HOLE_TIMEOUTS = 3
"""Probe timeouts in a row after which it is, too: then nothing arrives at all.

Two in a row come about in one of five transfers of 5 MB where one packet in ten is lost, three in one of fifty.
"""

RAISE_INTERVAL_S = 600.0  # section 5.1.1: PMTU_RAISE_TIMER
FIRST_PAUSE_S = 1.0
"""How long after a black hole larger packets are tried again: it may have been the whole path; doubles each time."""

MTU_PROBE = -1
"""Stands in a run's records for a probe."""

_NEVER = float("inf")


class MtuDiscovery:
    """The search on one path. Sizes are bytes of UDP payload."""

    __slots__ = ("_ceiling", "_high", "_losses", "_outstanding", "_pause_s", "_tries", "_trying", "probe_at", "size")

    def __init__(self, size: int, ceiling: int) -> None:
        self.size = size
        """Bytes of datagrams that pass, as far as is known."""
        self._ceiling = ceiling
        self._high = ceiling + 1
        self._trying = 0
        self._tries = 0
        self._outstanding = -1
        self._losses = 0
        self._pause_s = FIRST_PAUSE_S
        self.probe_at = _NEVER
        """When the next probe may leave."""
        self._go_on(0.0)

    @property
    def next_size(self) -> int:
        """Bytes of the next probe."""
        return self._trying

    def sent(self, number: int) -> None:
        """The probe left in this packet."""
        self._outstanding = number
        self.probe_at = _NEVER

    def acknowledged(self, number: int, now: float) -> bool:
        """A probe arrived; True if packets may be larger from now on."""
        if number != self._outstanding:
            return False
        self._outstanding = -1
        self.size = self._trying
        self._trying = self._losses = 0
        self._go_on(now)
        return True

    def lost(self, number: int, now: float) -> None:
        """A probe was lost: too large, or bad luck."""
        if number != self._outstanding:
            return
        self._outstanding = -1
        self._tries += 1
        if self._tries >= MAX_PROBES:
            self._high = self._trying
            self._trying = 0
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Choose the next probe, or rest if the size is known."""
        if not self._trying:
            self._tries = 0
            if self._high > self._ceiling:
                self._trying = self._ceiling
            elif self.size < COMMON_SIZE < self._high == self._ceiling:
                self._trying = COMMON_SIZE
            else:
                self._trying = (self.size + self._high) // 2
        if self.size >= self._ceiling or self._high - self.size <= ENOUGH:
            self._trying = 0
            self._high = self._ceiling + 1
            self.probe_at = now + RAISE_INTERVAL_S if self.size < self._ceiling else _NEVER
        else:
            self.probe_at = now

    def due(self, now: float) -> bool:
        """Whether a probe may leave now."""
        if self.probe_at > now:
            return False
        if not self._trying:  # the rest is over
            self._go_on(now)
        return True

    # Black holes

    @property
    def suspects(self) -> bool:
        """True while large packets were lost and none has arrived since."""
        return self._losses > 0

    def large_arrived(self) -> None:
        """A packet above the base size was acknowledged."""
        self._losses = 0

    def large_lost(self, now: float) -> bool:
        """Packets above the base size were lost; True if the path has become a black hole for them."""
        self._losses += 1
        return self._losses >= BLACK_HOLE_LOSSES and self.fall_back(now)

    def fall_back(self, now: float) -> bool:
        """Go back to the base size and search anew, later each time; True if that changes anything."""
        if self.size <= BASE_SIZE:
            return False
        self.size = BASE_SIZE
        self._losses = self._tries = self._trying = 0
        self._outstanding = -1
        self._high = self._ceiling + 1
        self.probe_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, RAISE_INTERVAL_S)
        return True
