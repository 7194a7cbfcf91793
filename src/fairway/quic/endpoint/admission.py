"""Whether a newcomer is let in, and how often strangers are answered."""

from __future__ import annotations

from fairway.quic.limits import (
    MAX_CONNECTIONS,
    MAX_PENDING_HANDSHAKES,
    RETRY_FROM_PENDING,
    VERSION_NEGOTIATION_PER_SECOND,
)


class Admission:
    """Counts connections and answers against `limits`."""

    def __init__(
        self,
        max_connections: int = MAX_CONNECTIONS,
        max_pending: int = MAX_PENDING_HANDSHAKES,
        answers_per_second: int = VERSION_NEGOTIATION_PER_SECOND,
        retry_from: int = RETRY_FROM_PENDING,
    ) -> None:
        self._max_connections = max_connections
        self._max_pending = max_pending
        self._answers_per_second = answers_per_second
        self._retry_from = retry_from
        self._loaded = False
        self._second = 0.0
        self._answers = 0
        self.refused = 0
        """Newcomers that were not let in."""

    def refusal(self, connections: int, pending: int) -> str | None:
        """Of what there are too many for one more connection; None if it may begin its handshake."""
        if connections < self._max_connections and pending < self._max_pending:
            return None
        self.refused += 1
        return "connections" if connections >= self._max_connections else "handshakes"

    def doubts(self, pending: int) -> bool:
        """True while so many handshakes are pending that newcomers must prove their address first (section 8.1.2)."""
        if pending >= self._retry_from:
            self._loaded = True
        elif 2 * pending < self._retry_from:
            self._loaded = False
        return self._loaded

    def may_answer(self, now: float) -> bool:
        """True if a stranger's packet may be answered with Version Negotiation or INVALID_TOKEN."""
        if now - self._second >= 1.0:
            self._second, self._answers = now, 0
        self._answers += 1
        return self._answers <= self._answers_per_second
