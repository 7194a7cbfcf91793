"""The IDs of connections that drain (RFC 9000 section 10.2): what still comes for them is dropped unseen.

A connection that drains sends nothing, so nothing else of it needs to be kept. Without its IDs, late packets would be
taken for a newcomer's, or be answered with a stateless reset.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairway.quic.limits import MAX_DRAINING_IDS


class DrainingIds:
    """Connection IDs and until when each is dropped; the oldest go if there are too many."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, connection_id: bytes) -> bool:
        return connection_id in self._until

    def add(self, connection_ids: Iterable[bytes], until: float) -> None:
        """Drop what comes for these until then."""
        for connection_id in connection_ids:
            self._until[connection_id] = until
        while len(self._until) > MAX_DRAINING_IDS:
            del self._until[next(iter(self._until))]

    def expire(self, now: float) -> None:
        """Forget those whose time is over, in the order in which they came: one may wait for another before it."""
        until = self._until
        while until:
            oldest = next(iter(until))
            if until[oldest] > now:
                return
            del until[oldest]
