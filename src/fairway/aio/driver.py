"""What turns a connection's core: datagrams in, timers, datagrams out."""

from __future__ import annotations

import asyncio
from typing import Protocol

from fairway.aio.alarms import Alarm, alarms_of
from fairway.quic import Connection, Phase, Transmit
from fairway.quic.paths.path import Local

BATCHES_PER_TURN = 16
"""Buffers sent before the loop gets its turn: others must not wait for a bulk transfer."""


_OVER = (Phase.DRAINING, Phase.CLOSED)
"""Nothing is sent any more. Who has the socket or the IDs drops what still arrives, and the connection is let go
(RFC 9000 section 10.2 allows both)."""


class Outlet(Protocol):
    """Where a connection's datagrams go."""

    def send(self, transmit: Transmit, driver: Driver) -> bool:
        """Send datagrams; False if the socket is full: `driver.flush` is called when it is not."""

    def ended(self, driver: Driver) -> None:
        """Its connection is over: it sends nothing more."""


class _Nowhere:
    """The outlet of a connection that is over. Holding on to the real one, which knows its connection, would leave
    both to the garbage collector."""

    def send(self, transmit: Transmit, driver: Driver) -> bool:
        """Drop datagrams."""
        return True

    def ended(self, driver: Driver) -> None:
        """Known already."""


_NOWHERE = _Nowhere()


class Driver:
    """Feeds a connection's core and sends what it gives. Who has the core says in `dispatch` what its events mean."""

    __slots__ = ("__weakref__", "_alarm", "_alarms", "_loop", "_outlet", "_over", "_woken", "core")

    def __init__(self, core: Connection, outlet: Outlet, loop: asyncio.AbstractEventLoop) -> None:
        self.core = core
        self._outlet: Outlet = outlet
        self._loop = loop
        self._alarms = alarms_of(loop)
        self._alarm: Alarm | None = None
        self._woken = False
        self._over = False

    def dispatch(self) -> None:
        """Act on the core's events."""

    def receive(self, data: bytes, segment: int, now: float, local: Local = None, mark: int = 0) -> None:
        """Datagrams for this connection arrived on the socket of that name; `process` must follow."""
        self.core.receive(data, segment, now, None, local, mark)

    def process(self) -> None:
        """Tell the application what happened and send what is due."""
        self.dispatch()
        self.flush()

    def wake(self) -> None:
        """Something was written or read: send soon."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._flush_soon)

    def _flush_soon(self) -> None:
        if self._woken:
            self.flush()

    def flush(self) -> None:
        """Send what is due, as far as window and socket allow, and set the timer."""
        self._transmit()
        self.dispatch()
        self._arm()

    def _transmit(self) -> None:
        self._woken = False
        core, send = self.core, self._outlet.send
        now = self._loop.time()
        for _ in range(BATCHES_PER_TURN):
            transmit = core.transmit(now)
            if transmit is None:
                break
            if not send(transmit, self) or not transmit.more:
                break
        else:
            self.wake()

    def _arm(self) -> None:
        if self._over:
            return
        if self.core.phase in _OVER:
            self._end()
            return
        deadline = self.core.next_timeout()
        alarm = self._alarm
        if alarm is not None:
            if deadline is not None and alarm[0] <= deadline and self.core.closing is None:
                return  # it rings early and is set again then: cheaper than replacing it again and again
            self._alarms.cancel(alarm)
        self._alarm = None if deadline is None else self._alarms.set(deadline, self._timed_out)

    def _timed_out(self) -> None:
        self._alarm = None
        now = self._loop.time()
        deadline = self.core.next_timeout()
        if deadline is not None and deadline <= now:
            self.core.handle_timeout(now)
            if self.core.phase is Phase.CLOSED:  # nothing is sent any more
                self.dispatch()
                self._end()
            else:
                self.flush()
        else:
            self._arm()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            if self._alarm is not None:
                self._alarms.cancel(self._alarm)
                self._alarm = None
            outlet, self._outlet = self._outlet, _NOWHERE
            outlet.ended(self)

    def _transmit_last(self) -> None:
        """Send what is due a last time: what still arrives goes to nobody."""
        self._transmit()
        self.dispatch()
        self._end()

    def abort(self, reason: str) -> None:
        """The socket failed or goes away: end without sending."""
        self.core.network_failed(self._loop.time(), reason)
        self.dispatch()
        self._end()
