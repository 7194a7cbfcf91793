"""What a connection does when time has passed: the table of its timers, and when the next of them is due."""

from __future__ import annotations

from collections.abc import Callable

from fairway.quic import closing as ending
from fairway.quic.delivery import Delivery
from fairway.quic.errors import ClosedBy, Closing
from fairway.quic.paths.migration import Migration
from fairway.quic.state import ConnectionState, Phase
from fairway.quic.timers import Timer


class Timeouts:
    """The deadlines of one connection, acted on."""

    __slots__ = ("_delivery", "_migration", "_state")

    def __init__(self, state: ConnectionState, delivery: Delivery, migration: Migration) -> None:
        self._state = state
        self._delivery = delivery
        self._migration = migration

    def next(self) -> float | None:
        """When something has to be done or sent at the latest; None for never."""
        self._delivery.settle_timer()
        deadline = self._state.timers.next()
        ack_at = self._state.application.received.ack_at
        if ack_at is not None and self._state.is_open and (deadline is None or ack_at < deadline):
            return ack_at
        return deadline

    def handle(self, now: float) -> None:
        """Do what is due."""
        self._delivery.settle_timer()
        for timer in self._state.timers.expired(now):
            _ON_TIMER[timer](self, now)

    def _handshake_timed_out(self, now: float) -> None:
        ending.abandon(self._state, Closing(ClosedBy.HANDSHAKE_TIMEOUT), now)

    def _idled(self, now: float) -> None:
        ending.abandon(self._state, Closing(ClosedBy.IDLE), now)

    def _keep_alive(self, now: float) -> None:
        ending.keep_alive(self._state)

    def _probe_or_lose(self, now: float) -> None:
        self._delivery.on_timeout(now)

    def _pace(self, now: float) -> None:
        """Transmission goes on by itself."""

    def _forget_early_keys(self, now: float) -> None:
        self._state.early = None

    def _probe_paths(self, now: float) -> None:
        self._migration.on_timeout(now)

    def _closed(self, now: float) -> None:
        if self._state.phase in (Phase.CLOSING, Phase.DRAINING):
            self._state.go(Phase.CLOSED)
        self._state.timers.clear_all()


_ON_TIMER: dict[Timer, Callable[[Timeouts, float], None]] = {
    Timer.HANDSHAKE: Timeouts._handshake_timed_out,
    Timer.IDLE: Timeouts._idled,
    Timer.KEEP_ALIVE: Timeouts._keep_alive,
    Timer.LOSS: Timeouts._probe_or_lose,
    Timer.PACING: Timeouts._pace,
    Timer.EARLY_KEYS: Timeouts._forget_early_keys,
    Timer.PATH: Timeouts._probe_paths,
    Timer.CLOSE: Timeouts._closed,
}
