"""Flow control (RFC 9000 section 4), once per stream and once per connection.

What is used of a window is the highest offset received, whatever was lost below it. The receiver raises its limit
when the application has read more than half the window. The connection's window is the same thing over the sums of
its streams' highest offsets and reads. A window that is read in less than two round trips doubles, up to a cap.
"""

from __future__ import annotations

AUTO_GROW_RTTS = 2.0
"""A window whose half was read within so many round trips is smaller than the path's product allows."""


class ReceiveWindow:
    """The credit that we give: `limit` is advertised, `highest` used, `consumed` read."""

    __slots__ = ("_raised_at", "cap", "consumed", "highest", "limit", "size")

    def __init__(self, size: int, cap: int) -> None:
        self.size = size
        self.cap = max(size, cap)
        self.limit = size
        self.highest = 0
        self.consumed = 0
        self._raised_at = 0.0

    @property
    def left(self) -> int:
        """Bytes that the peer may still send."""
        return self.limit - self.highest

    @property
    def wants_raise(self) -> bool:
        """True once more than half the window has been read."""
        return 2 * (self.limit - self.consumed) < self.size

    def raise_limit(self, now: float, rtt_s: float) -> int:
        """Move the limit a whole window past what was read, growing it if it was read fast; give the limit."""
        if self._raised_at and now - self._raised_at < AUTO_GROW_RTTS * rtt_s:
            self.size = min(2 * self.size, self.cap)
        self._raised_at = now
        self.limit = max(self.limit, self.consumed + self.size)
        return self.limit


class SendWindow:
    """The credit that the peer gives: `limit` is its latest, `used` what we have sent of it."""

    __slots__ = ("blocked_at", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.blocked_at = -1
        """The limit that we last told the peer we are blocked at (RFC 9000 section 4.1)."""

    @property
    def left(self) -> int:
        """Bytes that may still be sent."""
        return self.limit - self.used

    def raise_limit(self, limit: int) -> bool:
        """Take in a limit of the peer; lower ones are ignored (section 4.1). True if it rose."""
        if limit <= self.limit:
            return False
        self.limit = limit
        return True

    def should_report(self) -> bool:
        """True once per limit that holds us up."""
        if self.used < self.limit or self.blocked_at == self.limit:
            return False
        self.blocked_at = self.limit
        return True
