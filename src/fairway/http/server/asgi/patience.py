"""How long an application may be kept waiting for one request's body.

Only time counts in which the application waits for the client, so that a slow application is nobody's fault but its
own. A client that sends a byte now and then is always in time for the next byte: therefore there is a rate as well.
"""

from __future__ import annotations

import math

from fairway.http.server.asgi.limits import BODY_GRACE_S, Limits


class Patience:
    """What is left of it, for one request."""

    __slots__ = ("_rate", "_timeout", "_waited", "received")

    def __init__(self, limits: Limits) -> None:
        self._timeout = limits.read_timeout_s
        self._rate = limits.min_body_rate
        self._waited = 0.0
        self.received = 0
        """Bytes of the body so far."""

    def left(self, waiting_s: float) -> float:
        """Seconds that the client still has for its next bytes, once it was waited for so long; endless is infinity."""
        left = math.inf if self._timeout is None else self._timeout - waiting_s
        if self._rate:
            left = min(left, BODY_GRACE_S + self.received / self._rate - self._waited - waiting_s)
        return left

    def took(self, count: int, waited_s: float) -> None:
        """So many bytes came after so long."""
        self.received += count
        self._waited += waited_s
