"""What a client does with a connection while no application waits for it: ask nothing, or not read its answers."""

from __future__ import annotations

from fairway.aio import http3
from fairway.http.server.asgi.limits import WRITE, Limits
from fairway.http3 import H3Code


class Attendance:
    """One connection's; `look` is to be called now and then.

    An answer of up to a send buffer is out of the application's hands at once, and may still take its time: a client
    that goes on reading is not idle. One that asks for many such answers and reads none keeps them in memory, so that
    they have the time of those that are still being written.
    """

    __slots__ = ("_connection", "_idle_since", "_limits", "_requests", "_sent", "_sent_at")

    def __init__(self, connection: http3.ServerConnection, limits: Limits, now: float) -> None:
        self._connection = connection
        self._limits = limits
        self._requests = connection.requests
        self._idle_since = self._sent_at = now
        self._sent = connection.core.data_sent

    def look(self, now: float) -> None:
        """End what has used up its time."""
        connection = self._connection
        if connection.closing is not None:
            return
        unsent = connection.deliveries.unsent()
        if unsent or connection.active_requests or connection.requests != self._requests:
            self._requests = connection.requests
            self._idle_since = now
        limit = self._limits.idle_timeout_s
        if limit is not None and now - self._idle_since > limit:
            connection.close(H3Code.H3_NO_ERROR, "idle")
        elif self._is_not_read(now, unsent):
            connection.deliveries.give_up_unsent()
            connection.wake()

    def _is_not_read(self, now: float, unsent: list[int]) -> bool:
        """True once the client has had its time to take `WRITE` bytes of what waits for it."""
        sent = self._connection.core.data_sent
        if not unsent or sent - self._sent >= WRITE:
            self._sent, self._sent_at = sent, now
        limit = self._limits.write_timeout_s
        return limit is not None and now - self._sent_at > limit
