"""Path validation (RFC 9000 section 8.2): does the peer answer on this path, and to full-sized datagrams?"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from fairway.quic.limits import MAX_CHALLENGES_SENT

CHALLENGE_LENGTH = 8
TIMEOUT_PROBES = 3
"""Probe timeouts after which a path is given up (section 8.2.4)."""


class PathValidation:
    """One attempt: what was asked, when to ask again, when to give up."""

    __slots__ = ("_data", "_small", "_wait_s", "deadline", "due", "sent_at")

    def __init__(self, now: float, probe_timeout_s: float, timeout_s: float) -> None:
        self._data: list[bytes] = []
        self._small: set[bytes] = set()
        self._wait_s = probe_timeout_s
        self.due: float | None = now
        """When the next PATH_CHALLENGE is to be sent; None for no more of them."""
        self.deadline = now + timeout_s
        """When the path counts as dead."""
        self.sent_at = now

    def challenge(self, random: Callable[[int], bytes], now: float) -> bytes:
        """Data for one more PATH_CHALLENGE that leaves now; each has its own (section 8.2.1)."""
        data = random(CHALLENGE_LENGTH)
        self._data.append(data)
        self.sent_at = now
        self.due = now + self._wait_s if len(self._data) < MAX_CHALLENGES_SENT else None
        self._wait_s *= 2
        return data

    def sent_small(self, data: bytes) -> None:
        """The datagram with this challenge could not be padded: its answer proves the address, not the size."""
        self._small.add(data)

    def is_answered_by(self, data: bytes) -> bool:
        """Whether a PATH_RESPONSE answers one of our challenges."""
        return any(hmac.compare_digest(sent, data) for sent in self._data)

    def proves_size(self, data: bytes) -> bool:
        """Whether the challenge that this answers was in a full-sized datagram."""
        return data not in self._small

    def sample_s(self, data: bytes, now: float) -> float | None:
        """The round trip that an answer measures: only the last challenge's time is known."""
        return now - self.sent_at if self._data and data == self._data[-1] else None

    def next_after(self, now: float) -> float:
        """When something must happen besides what is due already."""
        return self.deadline if self.due is None or self.due <= now else min(self.due, self.deadline)
