"""What every connection has, whatever its streams are for: a handshake, an end, and tasks that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

from fairway.aio.driver import Driver, Outlet
from fairway.aio.moving import Mover
from fairway.aio.signal import Signal
from fairway.quic import Closing, Connection, ConnectionClosed, UsageError
from fairway.quic import events as quic_events


class Lifecycle(Driver):
    """The part of a connection that `connect` and `serve` deal with."""

    __slots__ = ("changed", "early", "handshake", "is_client", "mover")

    def __init__(self, core: Connection, outlet: Outlet, loop: asyncio.AbstractEventLoop, *, is_client: bool) -> None:
        super().__init__(core, outlet, loop)
        self.is_client = is_client
        self.handshake: quic_events.HandshakeCompleted | None = None
        """What was agreed: ALPN, cipher suite, certificates; None before."""
        self.early: bool | None = None
        """0-RTT: whether early data was accepted; None while that is open, or where there was none."""
        self.changed = Signal()
        self.mover: Mover | None = None
        """What moves a client's connection; a server's has none."""

    @property
    def ready(self) -> bool:
        """True once streams may be used: with early data before the handshake is complete."""
        return self.handshake is not None or self.core.early

    @property
    def alpn(self) -> str | None:
        """The application protocol that was agreed."""
        return None if self.handshake is None else self.handshake.alpn

    @property
    def peer_certificates(self) -> tuple[bytes, ...]:
        """The peer's certificate chain in DER, the leaf first."""
        return () if self.handshake is None else self.handshake.peer_certificates

    @property
    def closing(self) -> Closing | None:
        """How the connection ended; None while it has not."""
        return self.core.closing

    @property
    def peer_address(self) -> Any:
        """The peer's address."""
        return self.core.path.address

    @property
    def local_address(self) -> Any:
        """The address of the socket that a client's connection uses now; None for a server's."""
        return None if self.mover is None else self.mover.local_address

    async def migrate(self, local_address: tuple[str, int] | None = None) -> None:
        """Move a client's connection to a new socket: bound to this host and port, or where the route leads.

        The new path is probed first. Raises `MigrationError` if the server does not answer there (the connection stays
        where it was), `OSError` if there is no such address, `UsageError` if moving is not allowed.
        """
        if self.mover is None:
            raise UsageError("a server's connection cannot move: only clients do")
        await self.mover.migrate(local_address)

    def statistics(self) -> dict[str, float | int]:
        """Figures about the connection as it is now."""
        return self.core.statistics()

    async def wait_connected(self) -> None:
        """Wait for the handshake; `ConnectionClosed` if it fails."""
        if self.is_client and self.core.early:
            self.wake()  # nothing more is to go with the ClientHello
        while self.handshake is None:
            await self.wait(self.changed)

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self.core.ping()
        self.wake()

    def update_keys(self) -> bool:
        """Go over to new keys now (RFC 9001 section 6); by itself that is done before the old ones wear out.

        False if it may not be yet: the handshake is not confirmed, or the peer has not acknowledged the last update.
        """
        updated = self.core.update_keys(self._loop.time())
        if updated:
            self.ping()  # the peer follows what carries the new phase
        return updated

    def close(self, code: int = 0, reason: str = "", *, linger: bool = True) -> None:
        """End the connection at once; what was not acknowledged may be lost.

        With `linger` what the peer still sends is answered for a while, as it may not have heard of the end.
        """
        if self._woken:
            self._transmit()
        self.core.close(self._loop.time(), code, reason)
        if linger:
            self.flush()
        else:
            self._transmit_last()

    def shut_down(self) -> None:
        """The server stops: tell the peer, if the protocol has a way to."""

    def observer_failed(self, event: quic_events.ObserverFailed) -> None:
        """Something that looked on has failed: say so; the connection goes on."""
        message = f"an observer of a QUIC connection failed and was taken off: {event.observer!r}"
        self._loop.call_exception_handler({"message": message, "exception": event.error, "connection": self})

    async def wait_closed(self) -> Closing:
        """Wait until the connection has ended; give how."""
        while self.core.closing is None:
            await self.changed.wait()
        return self.core.closing

    @property
    def undelivered(self) -> bool:
        """Whether `wait_acknowledged` would wait."""
        return False

    # Events

    def early_accepted(self, event: quic_events.EarlyDataAccepted) -> None:
        """What was sent early has arrived, or will."""
        self.early = True

    def early_rejected(self, event: quic_events.EarlyDataRejected) -> None:
        """What was sent early is sent again."""
        self.early = False

    def _path_told(self, event: quic_events.PathValidated | quic_events.PathFailed) -> None:
        if self.mover is not None:
            self.mover.told(event)

    def _preferred_address_offered(self, event: quic_events.PreferredAddressOffered) -> None:
        if self.mover is not None:
            self.mover.invited(event)

    on_common_event: ClassVar[dict[type[Any], Callable[[Any, Any], None]]] = {
        quic_events.EarlyDataAccepted: early_accepted,
        quic_events.EarlyDataRejected: early_rejected,
        quic_events.PathValidated: _path_told,
        quic_events.PathFailed: _path_told,
        quic_events.PreferredAddressOffered: _preferred_address_offered,
    }
    """What events do that every connection has; subclasses have them in their tables."""

    async def wait_acknowledged(self) -> None:
        """Wait until the peer has all that was sent on streams that were ended."""

    async def wait(self, signal: Signal) -> None:
        """Wait for a signal; `ConnectionClosed` if the connection has ended. Callers look again after it."""
        if self.core.closing is not None:
            raise ConnectionClosed(self.core.closing)
        await signal.wait()

    def process(self) -> None:
        """Tell the application what happened and send what is due.

        When a client's handshake completes, the application comes first: what it sends at once goes with the Finished.
        """
        waiting = self.handshake is None
        self.dispatch()
        if waiting and self.is_client and self.handshake is not None:
            self.wake()
        else:
            self.flush()


AnyConnection = TypeVar("AnyConnection", bound=Lifecycle)
Made = TypeVar("Made", bound=Lifecycle, covariant=True)


class MakeConnection(Protocol[Made]):
    """What makes the connections of a client or a server: for bare QUIC, or for a protocol over it."""

    def __call__(self, core: Connection, outlet: Outlet, loop: asyncio.AbstractEventLoop, *, is_client: bool) -> Made:
        """One connection for a core."""
