"""Stateless reset (RFC 9000 section 10.3): to tell a peer that nobody knows its connection any more."""

from __future__ import annotations

from collections.abc import Callable

from fairway.quic.limits import STATELESS_RESETS_PER_SECOND
from fairway.quic.packets.headers import FIXED_BIT
from fairway.quic.receiving.receiver import MIN_RESET
from fairway.tls.key_schedule import hmac_digest

TOKEN_LENGTH = 16
USUAL_RESET = 43
"""Bytes of a reset, where what provoked it is longer: no valid packet is recognisable by being shorter."""


class Resets:
    """Tokens from a static key, and the datagrams that carry them, at a bounded rate.

    With the same key the tokens are the same after a restart. Servers that share a key must not be reachable with
    each other's connection IDs: whoever could ask one for the other's token could end the connection.
    """

    def __init__(self, key: bytes, random: Callable[[int], bytes], per_second: int) -> None:
        self._key = key
        self._random = random
        self._per_second = per_second
        self._second = 0.0
        self._sent = 0

    def token(self, connection_id: bytes) -> bytes:
        """The stateless reset token of one of our connection IDs."""
        return hmac_digest("sha256", self._key, connection_id)[:TOKEN_LENGTH]

    def reset(self, connection_id: bytes, size: int, now: float) -> bytes | None:
        """The answer to a packet of `size` bytes for a connection ID that nobody has; None for none.

        It is shorter than what provoked it, so two endpoints that answer each other stop (section 10.3.3).
        """
        length = min(size - 1, USUAL_RESET)
        if length < MIN_RESET:
            return None
        if now - self._second >= 1.0:
            self._second, self._sent = now, 0
        if self._sent >= self._per_second:
            return None
        self._sent += 1
        unpredictable = self._random(length - TOKEN_LENGTH)
        first = FIXED_BIT | (unpredictable[0] & 0x3F)
        return bytes((first,)) + unpredictable[1:] + self.token(connection_id)


def make_resets(key: bytes | None, random: Callable[[int], bytes]) -> Resets:
    """Resets with a key, a new one of this process if none is given."""
    return Resets(key or random(32), random, STATELESS_RESETS_PER_SECOND)
