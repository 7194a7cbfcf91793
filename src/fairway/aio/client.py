"""`connect`: a client's connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import weakref
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Generic, Unpack

from fairway.aio.client_sockets import ClientSockets
from fairway.aio.connection import QuicConnection
from fairway.aio.deadline import deadline
from fairway.aio.driver import Driver
from fairway.aio.happy_eyeballs import Address, interleave, race, resolve
from fairway.aio.keylog import keylog_to
from fairway.aio.lifecycle import AnyConnection, MakeConnection
from fairway.aio.moving import Mover
from fairway.aio.options import ConnectOptions, check_options
from fairway.aio.qlog import qlog_to
from fairway.aio.udp import UdpSocket
from fairway.quic import (
    ClosedBy,
    Connection,
    ConnectionClosed,
    KnownServer,
    QuicConfiguration,
    Transmit,
)
from fairway.quic.observe import Observe
from fairway.tls import ClientConfig
from fairway.tls.key_exchange import KeyShares

EARLY_PATIENCE_S = 0.005
"""How long a ClientHello waits for what the application says early, so that both go out together."""
TIMEOUT_S = 10.0
"""How long a handshake may take."""

LINGER_S = 5.0
"""How long leaving the context waits for what was sent to be acknowledged."""


def _now() -> datetime:
    return datetime.now(UTC)


_PREPARED: weakref.WeakSet[KeyShares] = weakref.WeakSet()


def _forget_prepared() -> None:
    """A forked child has copies of private keys that its parent will use: it must not use them too."""
    for halves in list(_PREPARED):
        halves.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_prepared)


class _Client(Generic[AnyConnection]):
    """The outlet of one client connection with a socket of its own."""

    __slots__ = (
        "_bound", "_later", "_server", "_sockets", "_tls", "connection",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        address: Any,
        tls: ClientConfig,
        configuration: QuicConfiguration,
        make: MakeConnection[AnyConnection],
        observe: Observe,
        server: KnownServer | None,
        early_data: bool,
        bound: str | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        udp = UdpSocket(sock)
        udp.connect(address)
        core = Connection.client(
            tls,
            configuration,
            now=loop.time(),
            random=os.urandom,
            clock=_now,
            address=address,
            observers=observe(),
            server=server,
            early_data=early_data,
        )
        self.connection = make(core, self, loop, is_client=True)
        self._bound = bound
        self._tls = tls
        self._server = server
        self._later: asyncio.Task[None] | None = None
        self._sockets = ClientSockets(loop, self.connection, self._error)
        self._sockets.add(udp, None)

    def begin(self) -> None:
        """Send the ClientHello; what else there is to prepare is done while the server thinks about it."""
        if self.connection.ready:  # what the application says early goes with it, and does not let it wait longer
            asyncio.get_running_loop().call_later(EARLY_PATIENCE_S, self.connection.wake)
        else:
            self.connection.flush()
        self._sockets.listen(None)
        self.connection.mover = Mover(self.connection, self._sockets, self._bound)
        halves = self._tls.halves
        if halves.prepare(os.urandom):
            _PREPARED.add(halves)

    def _error(self, error: OSError, local: int | None) -> None:
        if isinstance(error, ConnectionRefusedError):
            if self.connection.handshake is None:  # later ones may be forged: RFC 9000 section 21.1.1
                self.connection.abort(f"{error.strerror}")
        elif self.connection.mover is not None:
            self.connection.mover.failed(local)

    def connected_later(self) -> None:
        """There is early data: `connected` follows when the handshake is complete."""
        self._later = asyncio.get_running_loop().create_task(self._await_connected())

    async def _await_connected(self) -> None:
        try:
            while self.connection.handshake is None:
                await self.connection.wait(self.connection.changed)
        except ConnectionClosed:
            if self._server is not None:
                self._server.save_address(None)  # next time all addresses are tried
        else:
            self.connected()

    def connected(self) -> None:
        """The handshake is complete."""
        if self._server is not None:
            self._server.save_address(str(self.connection.peer_address[0]))
        if self.connection.mover is not None:
            self.connection.mover.start()

    def send(self, transmit: Transmit, driver: Driver) -> bool:
        """Send datagrams."""
        return self._sockets.send(transmit, driver)

    def ended(self, driver: Driver) -> None:
        """The connection is over."""
        if self.connection.mover is not None:
            self.connection.mover.stop()
            self.connection.mover = None  # it leads back to the connection
        self._sockets.close_all()

    async def wait_session(self) -> None:
        """Wait for what the server gives for the next visit, as long as that takes to come: one probe timeout.

        A server that answers early data can have said all before it has seen that the handshake is complete.
        """
        connection, server = self.connection, self._server
        if server is None or connection.handshake is None:
            return
        rtt = connection.core.path.rtt
        with contextlib.suppress(TimeoutError), deadline(rtt.timeout):
            while not server.sessions_saved and connection.closing is None:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(rtt.smoothed / 8)

    def give_up(self) -> None:
        """Tell the server that the connection is not wanted any more, and close the socket."""
        if self.connection.closing is None:
            self.connection.close(linger=False)
        else:
            self.connection.abort("the client left")


def _is_final(error: Exception) -> bool:
    """Whether the server has spoken: another of its addresses would say the same."""
    return isinstance(error, ConnectionClosed) and error.closing.by not in (
        ClosedBy.TRANSPORT,
        ClosedBy.HANDSHAKE_TIMEOUT,
        ClosedBy.IDLE,
    )


class Dialer(Generic[AnyConnection]):
    """What opens a connection: `async with` it, or await it.

    The handshake is complete when the block begins. Leaving the block waits until the peer has what was sent on
    streams that were ended, then closes.
    Of several addresses the first that completes the handshake is used (RFC 8305).
    With `early_data` the block begins at once where the server took early data before: what is sent until
    `wait_connected` returns may be replayed by others, and a failure to connect shows only when a stream is used. Of
    several addresses that where the server was last is tried first, and no other is sent early data. What the server
    rejects is sent again by itself.
    Raises `ConnectionClosed` if the handshake fails, `TimeoutError` after `timeout` seconds, `OSError` for a
    name that is not known.
    """

    def __init__(
        self,
        host: str,
        port: int,
        make: MakeConnection[AnyConnection],
        *,
        alpn: str | Sequence[str],
        **options: Unpack[ConnectOptions],
    ) -> None:
        check_options(ConnectOptions, options)
        self._resolve = options.get("resolve", resolve)
        self._host, self._port = host, port
        self._timeout = options.get("timeout", TIMEOUT_S)
        self._local_address = options.get("local_address")
        self._configuration = options.get("configuration") or QuicConfiguration()
        self._tls = options.get("tls") or ClientConfig(
            options.get("server_name") or host,
            (alpn,) if isinstance(alpn, str) else tuple(alpn),
            verify=options.get("verify", True),
            ca=options.get("ca"),
            identity=options.get("identity"),
            keylog=keylog_to(options.get("keylog")),
        )
        store = options.get("session_store")
        self._server: KnownServer | None = None
        if store is not None:
            self._server = KnownServer(store, (self._tls.server_name or host, port, self._tls.alpn))
        self._early_data = options.get("early_data", False)
        self._early_at: str | None = None
        """The address that is sent early data."""
        self._make = make
        self._observe = qlog_to(options.get("qlog"))
        self._client: _Client[AnyConnection] | None = None

    def __await__(self) -> Generator[Any, None, AnyConnection]:
        return self._connect().__await__()

    async def _connect(self) -> AnyConnection:
        with deadline(self._timeout):
            addresses = interleave(await self._resolve(self._host, self._port))
            if self._server is not None and self._early_data:
                self._early_at = self._server.address() if len(addresses) > 1 else addresses[0][4][0]
                addresses.sort(key=lambda where: where[4][0] != self._early_at)
            self._client = await race(addresses, self._try, _Client.give_up, final=_is_final)
        return self._client.connection

    async def _try(self, where: Address) -> _Client[AnyConnection]:
        family, kind, proto, _, address = where
        sock = socket.socket(family, kind, proto)
        try:
            if self._local_address is not None:
                sock.bind(self._local_address)
            client = _Client(
                sock,
                address,
                self._tls,
                self._configuration,
                self._make,
                self._observe,
                self._server,
                address[0] == self._early_at,
                None if self._local_address is None else self._local_address[0],
            )
        except OSError:
            sock.close()
            raise
        try:
            client.begin()
            if client.connection.ready:
                client.connected_later()
            else:
                await client.connection.wait_connected()
                client.connected()
        except BaseException:
            client.give_up()
            raise
        return client

    async def __aenter__(self) -> AnyConnection:
        return await self._connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client = self._client
        if client is None:
            return
        if kind is None and client.connection.undelivered:
            with contextlib.suppress(TimeoutError, ConnectionClosed), deadline(LINGER_S):
                await client.connection.wait_acknowledged()
        if kind is None:
            await client.wait_session()
        client.give_up()

    async def aclose(self) -> None:
        """Close without waiting for what was not acknowledged, but for the session that the next visit resumes."""
        if self._client is not None:
            await self._client.wait_session()
            self._client.give_up()

    def close(self) -> None:
        """Close at once, without waiting for what was not acknowledged."""
        if self._client is not None:
            self._client.give_up()


class connect(Dialer[QuicConnection]):  # noqa: N801 - used like a function
    """`async with connect(host, port, alpn=...) as connection`, or `connection = await connect(...)`.

    What else may be said is in `ConnectOptions`; how it ends, and its errors, at `Dialer`.
    """

    def __init__(self, host: str, port: int, *, alpn: str | Sequence[str], **options: Unpack[ConnectOptions]) -> None:
        super().__init__(host, port, QuicConnection, alpn=alpn, **options)
