"""How a client's connection moves to another socket: when asked to, when the server would rather be reached elsewhere,
and by itself when the kernel no longer leads to the server from where the socket is."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from fairway.aio.alarms import Alarm, alarms_of
from fairway.aio.client_sockets import ClientSockets, connected
from fairway.quic import ConnectionClosed, Phase, UsageError
from fairway.quic import events as quic_events

if TYPE_CHECKING:
    from fairway.aio.lifecycle import Lifecycle

LINGER_PROBES = 3
"""Probe timeouts for which the socket that was left still takes in what is on its way."""

WATCH_S = 0.5
"""How often a connection that hears nothing looks whether the kernel would send from elsewhere."""

ID_WAIT_S = 5.0
"""How long a move waits for the server to give a connection ID for it."""


class MigrationError(OSError):
    """The peer does not answer on the new path; the connection stays where it was."""


class Mover:
    """Moves one client connection."""

    __slots__ = (
        "_alarms", "_bound", "_connection", "_heard", "_loop", "_lost", "_moving", "_outcomes", "_sockets", "_tasks",
        "_watching",
    )  # fmt: skip

    def __init__(self, connection: Lifecycle, sockets: ClientSockets, bound: str | None) -> None:
        self._connection = connection
        self._sockets = sockets
        self._bound = bound
        """The host that the application bound the socket to."""
        self._loop = asyncio.get_running_loop()
        self._outcomes: dict[Any, asyncio.Future[None]] = {}
        self._moving = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarms = alarms_of(self._loop)
        self._watching: Alarm | None = None
        self._heard = 0
        self._lost = False

    @property
    def local_address(self) -> Any:
        """The address of the socket in use."""
        return self._sockets.address(self._connection.core.path.local)

    def start(self) -> None:
        """The handshake is complete: watch from now on."""
        if self._watching is None:
            self._watching = self._alarms.set(self._loop.time() + WATCH_S, self._watch)

    def stop(self) -> None:
        """The connection is over."""
        if self._watching is not None:
            self._alarms.cancel(self._watching)
        for outcome in self._outcomes.values():
            outcome.cancel()
        for task in self._tasks:
            task.cancel()

    # On purpose

    async def migrate(self, local_address: tuple[str, int] | None, peer: Any = None) -> None:
        """Probe from a new socket, then move; see `Lifecycle.migrate`."""
        async with self._moving:
            await self._ready(peer is not None)
            core = self._connection.core
            local = self._sockets.open(local_address, peer or core.path.address)
            outcome = self._outcomes[local] = self._loop.create_future()
            try:
                core.probe_path(self._loop.time(), local, peer)
                self._connection.flush()
                await outcome
                self._move(local)
            except BaseException:
                core.forget_path(local)
                self._sockets.close(local)
                raise
            finally:
                del self._outcomes[local]
            self._bound = None if local_address is None else local_address[0]

    async def _ready(self, invited: bool) -> None:
        """Wait until the handshake is confirmed and there is a connection ID for another path."""
        connection = self._connection
        core = connection.core
        async with asyncio.timeout(ID_WAIT_S):
            while core.closing is None and (  # noqa: ASYNC110 - no event tells of a connection ID that arrives
                core.phase is not Phase.CONFIRMED or not (invited or core.spare_connection_ids)
            ):
                await asyncio.sleep(max(core.path.rtt.smoothed / 2, 0.005))
        if core.closing is not None:
            raise ConnectionClosed(core.closing)

    def _move(self, local: int) -> None:
        core = self._connection.core
        old = core.path.local
        core.migrate(self._loop.time(), local)
        self._connection.flush()
        self._loop.call_later(LINGER_PROBES * core.path.rtt.timeout, self._leave, old)

    def _leave(self, local: Any) -> None:
        if self._connection.core.path.local != local:
            self._connection.core.forget_path(local)
            self._sockets.close(local)
            self._connection.wake()

    def told(self, event: quic_events.PathValidated | quic_events.PathFailed) -> None:
        """The core knows what becomes of a path."""
        outcome = self._outcomes.get(event.local)
        if outcome is None or outcome.done():
            return
        if isinstance(event, quic_events.PathFailed):
            outcome.set_exception(MigrationError(f"no path from there to {event.address}: {event.reason}"))
        else:
            outcome.set_result(None)

    def invited(self, event: quic_events.PreferredAddressOffered) -> None:
        """The server would rather be reached elsewhere: go there if it answers, by the family in use first."""
        offers = [event.ipv4, event.ipv6]
        if ":" in str(self._connection.core.path.address):
            offers.reverse()
        peer = offers[0] or offers[1]
        if peer is not None:
            task = self._loop.create_task(self._accept(peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _accept(self, peer: tuple[str, int]) -> None:
        with contextlib.suppress(OSError, UsageError, ConnectionClosed):  # it stays where it works
            await self.migrate(None, peer)

    # By itself

    def failed(self, local: Any) -> None:
        """The kernel refuses to send from this socket."""
        if local == self._connection.core.path.local:
            self._look()

    def _watch(self) -> None:
        core = self._connection.core
        self._watching = None
        if core.closing is not None:
            return
        self._watching = self._alarms.set(self._loop.time() + WATCH_S, self._watch)
        heard, self._heard = self._heard, core.path.bytes_received
        if heard == self._heard:
            self._look()

    def _look(self) -> None:
        """Where would a new socket send from? If from elsewhere, or if the way has just come back, act."""
        connection, core = self._connection, self._connection.core
        here = self._sockets.address(core.path.local)
        if here is None or self._moving.locked() or core.closing is not None:
            return
        try:
            fresh = self._fresh()
        except OSError:  # no way at all: look again soon
            self._lost = True
            return
        if fresh[0] == here[0]:
            if self._lost:
                core.network_returned()
                connection.wake()
            self._lost = False
            return
        self._lost = False
        with contextlib.suppress(OSError, UsageError):
            local = self._sockets.open(None, core.path.address)
            old = core.path.local
            core.migrate(self._loop.time(), local)
            self._leave(old)
            self._bound = None

    def _fresh(self) -> Any:
        """The address that the kernel would send from now; `OSError` if it would not."""
        peer = self._connection.core.path.address
        if self._bound is not None:
            with contextlib.suppress(OSError):  # the application's choice holds as long as the address is there
                return _source((self._bound, 0), peer)
        return _source(None, peer)


def _source(local_address: tuple[str, int] | None, peer: Any) -> Any:
    with connected(local_address, peer) as sock:
        return sock.getsockname()
