"""Numbers of streams and how many there may be (RFC 9000 section 2.1 and 4.6), for one direction of one side each."""

from __future__ import annotations


class LocalNumbers:
    """The streams that we open, up to the peer's limit."""

    __slots__ = ("limit", "next", "refused")

    def __init__(self) -> None:
        self.limit = 0
        """How many the peer lets us open in all: what STREAMS_BLOCKED says."""
        self.next = 0
        self.refused = False
        """Whether one was refused since the limit last rose."""

    def take(self) -> int | None:
        """The number of one more; None while the peer's limit allows no more."""
        number = self.next
        if number >= self.limit:
            self.refused = True
            return None
        self.next = number + 1
        return number


class PeerNumbers:
    """The streams that the peer opens, up to our limit, which keeps a window ahead of those that are finished."""

    __slots__ = ("_finished", "_window", "limit", "next")

    def __init__(self, window: int) -> None:
        self._window = window
        self._finished = 0
        self.limit = window
        """How many the peer may open in all: what MAX_STREAMS says."""
        self.next = 0

    def finish(self) -> bool:
        """One is finished; True if the limit rose, by a quarter of the window at least."""
        self._finished += 1
        limit = self._finished + self._window
        if 4 * (limit - self.limit) < self._window:
            return False
        self.limit = limit
        return True
