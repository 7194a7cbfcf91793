"""`serve`: a server's socket, its connections, and a handler for each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Generic, Unpack

from fairway.aio.connection import QuicConnection
from fairway.aio.driver import Driver
from fairway.aio.keylog import keylog_to
from fairway.aio.lifecycle import AnyConnection, MakeConnection
from fairway.aio.options import ServeOptions, check_options
from fairway.aio.qlog import qlog_to
from fairway.aio.transport import Transport
from fairway.aio.udp import UdpSocket, bind
from fairway.aio.workers.duty import Patience
from fairway.aio.workers.group import Place
from fairway.aio.workers.relay import Relay
from fairway.aio.workers.serving import DRAIN_S, WorkersListener
from fairway.quic import Connection, ConnectionClosed, Endpoint, QuicConfiguration, StreamReset, Transmit, UsageError
from fairway.quic.endpoint.ids import Ids, ServerId
from fairway.quic.endpoint.statistics import EndpointStatistics
from fairway.quic.paths.path import Local
from fairway.tls import ServerConfig, Tickets

Handler = Callable[[QuicConnection], Awaitable[None]]
AnyHandler = Callable[[AnyConnection], Awaitable[None]]

GRACE_S = 10.0
HANDSHAKE_GRACE_S = 1.0
PREFERRED = "preferred"
"""What the socket at the preferred address is called."""

CLOSE_REASON = "the server shuts down"


def _now() -> datetime:
    return datetime.now(UTC)


class Server(Generic[AnyConnection]):
    """A running server. `close` lets handlers finish first."""

    def __init__(
        self,
        handler: AnyHandler[AnyConnection],
        endpoint: Endpoint,
        make: MakeConnection[AnyConnection],
        udp: UdpSocket,
        preferred: UdpSocket | None = None,
        place: Place | None = None,
    ) -> None:
        self._handler = handler
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._connections: dict[Connection, AnyConnection] = {}
        self._touched: dict[AnyConnection, None] = {}
        self._tasks: dict[AnyConnection, asyncio.Task[None]] = {}
        self._closed = asyncio.Event()
        self._transports: dict[Any, Transport] = {None: self._transport(udp, None)}
        if place is not None:
            self._transports[None].hear(Relay(place.inbox))
        if preferred is not None:
            self._transports[PREFERRED] = self._transport(preferred, PREFERRED)

    def _transport(self, udp: UdpSocket, local: Local) -> Transport:
        def on_buffer(data: bytes, segment: int, address: Any, now: float, mark: int) -> None:
            self._buffer(data, segment, address, now, local, mark)

        transport = Transport(udp, self._loop, on_buffer=on_buffer, on_turn=self._turn, on_error=lambda error: None)
        transport.listen()
        return transport

    @property
    def address(self) -> Any:
        """The address that the server is bound to."""
        return self._transports[None].socket.address

    @property
    def port(self) -> int:
        """The UDP port."""
        return int(self.address[1])

    @property
    def connections(self) -> list[AnyConnection]:
        """Connections that are not over."""
        return list(self._connections.values())

    @property
    def statistics(self) -> EndpointStatistics:
        """What was counted over the server's life."""
        return self._endpoint.statistics

    def renew(self, tls: ServerConfig) -> None:
        """Whoever connects from now on meets this configuration: after a certificate was renewed."""
        self._endpoint.renew(tls)

    @property
    def pending(self) -> int:
        """Connections whose handshake is not complete."""
        return self._endpoint.pending

    def _buffer(self, data: bytes, segment: int, address: Any, now: float, local: Local, mark: int) -> None:
        for core in self._endpoint.receive(data, segment, address, now, local, mark):
            connection = self._connections.get(core)
            if connection is None:
                connection = self._make(core, self, self._loop, is_client=False)
                self._connections[core] = connection
                connection.process()  # whoever else has sent meanwhile does not hold up a newcomer's answer
                if connection.ready:  # early data
                    self._serve(connection)
            else:
                self._touched[connection] = None

    def _turn(self) -> None:
        touched, self._touched = self._touched, {}
        for connection in touched:
            connection.process()
            if connection.ready:
                self._serve(connection)
        replies = self._endpoint.replies
        while replies:
            reply = replies.popleft()
            self._transports[reply.local].send_alone(reply.data, reply.address)

    def _serve(self, connection: AnyConnection) -> None:
        if connection not in self._tasks and connection.closing is None:
            task = self._tasks[connection] = self._loop.create_task(self._handle(connection))
            task.add_done_callback(lambda _: self._tasks.pop(connection))

    async def _handle(self, connection: AnyConnection) -> None:
        """Run the handler; its end is the connection's."""
        try:
            await self._handler(connection)
            with contextlib.suppress(ConnectionClosed):
                await connection.wait_acknowledged()
        except (ConnectionClosed, StreamReset):
            pass  # the peer left: the handler need not catch it
        except Exception as error:
            connection.close(1, "the handler failed")
            context = {"message": "a QUIC handler failed", "exception": error, "connection": connection}
            self._loop.call_exception_handler(context)
        finally:
            connection.close()

    def send(self, transmit: Transmit, driver: Driver) -> bool:
        """Send a connection's datagrams."""
        return self._transports[transmit.local].send(transmit, driver)

    def ended(self, driver: Driver) -> None:
        """A connection is over."""
        connection = self._connections.pop(driver.core, None)
        self._endpoint.forget(driver.core, None if connection is None else connection.statistics())

    async def wait_closed(self) -> None:
        """Wait until the server is closed."""
        await self._closed.wait()

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Accept nobody new, give handlers so long to finish, then close what is left and the socket."""
        if self._closed.is_set():
            return
        self._endpoint.accepting = False
        await self._finish_handshakes(min(grace_s, HANDSHAKE_GRACE_S))
        for connection in self.connections:
            connection.shut_down()
        tasks = [task for task in self._tasks.values() if not task.done()]
        if tasks and grace_s > 0:
            await asyncio.wait(tasks, timeout=grace_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in self.connections:
            if connection.closing is None:
                connection.close(0, CLOSE_REASON)
        for connection in self.connections:
            connection.abort(CLOSE_REASON)
        for transport in self._transports.values():
            transport.close()
        self._closed.set()

    async def _finish_handshakes(self, timeout_s: float) -> None:
        """Clients that have begun to connect are not cut off: they are told that the server goes, as the others are."""
        begun = [c for c in self.connections if c.handshake is None and c.closing is None]
        if begun and timeout_s > 0:
            waiting = asyncio.gather(*(connection.wait_connected() for connection in begun), return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waiting, timeout_s)


class Listener(Generic[AnyConnection]):
    """What starts a server: `async with` it, or await it.

    `handler(connection)` runs as a task for every connection once its handshake is complete; when it returns, the
    connection closes. Leaving the block closes the server gracefully.
    """

    def __init__(
        self,
        handler: AnyHandler[AnyConnection],
        host: str | None,
        port: int,
        make: MakeConnection[AnyConnection],
        *,
        alpn: str | Sequence[str],
        **options: Unpack[ServeOptions],
    ) -> None:
        check_options(ServeOptions, options)
        self._handler = handler
        self._host, self._port = host, port
        self._make = make
        self._options = options
        self._tls = options.get("tls") or ServerConfig(
            tuple(options["identities"]),
            (alpn,) if isinstance(alpn, str) else tuple(alpn),
            client_ca=options.get("client_ca"),
            require_client_certificate=options.get("require_client_certificate", False),
            keylog=keylog_to(options.get("keylog")),
            tickets=Tickets(early_data=options.get("early_data", False)),
        )
        self._observe = qlog_to(options.get("qlog"))
        self._server: Server[AnyConnection] | None = None

    def with_workers(self, count: int, *, drain_s: float = DRAIN_S) -> WorkersListener:
        """The same by so many processes; the kernel gives each packet to who has its connection: docs/workers.md.

        After a reload the processes before have `drain_s` seconds to end what they have begun.
        """
        if count < 1:
            raise UsageError(f"at least one worker is needed, not {count}")
        if self._options.get("preferred_address") is not None:
            raise UsageError("a preferred address and workers do not go together: its socket would be of one of them")
        return WorkersListener(self, count, Patience(self._options.get("grace_s", GRACE_S), drain_s))

    @property
    def server_id(self) -> ServerId | None:
        """Who this server is to a balancer."""
        return self._options.get("server_id")

    def bind(self) -> socket.socket:
        """The UDP socket to serve on."""
        return self._options.get("sock") or bind(self._host, self._port)

    async def at(self, place: Place) -> Server[AnyConnection]:
        """Serve as one of several workers."""
        self._options["sock"], self._options["place"] = place.udp, place
        return await self._start()

    def __await__(self) -> Generator[Any, None, Server[AnyConnection]]:
        return self._start().__await__()

    async def _start(self) -> Server[AnyConnection]:
        options = self._options
        udp = UdpSocket(self.bind())
        preferred: UdpSocket | None = None
        configuration = options.get("configuration") or QuicConfiguration()
        preferred_address = options.get("preferred_address")
        if preferred_address is not None:
            try:
                preferred = UdpSocket(bind(*preferred_address))
            except OSError:
                udp.close()
                raise
            configuration = _with_preferred(configuration, preferred.address)
        self._server = Server(
            self._handler, self._endpoint(configuration), self._make, udp, preferred, options.get("place")
        )
        return self._server

    def _endpoint(self, configuration: QuicConfiguration) -> Endpoint:
        options, tls, place = self._options, self._tls, self._options.get("place")
        token_keys, reset_key, ids = options.get("token_keys"), options.get("reset_key"), Ids(self.server_id)
        if place is not None:
            tls, ids = place.shared.tickets_of(tls), place.ids
            token_keys, reset_key = token_keys or place.shared.keys, reset_key or place.shared.reset_key
        return Endpoint(
            tls,
            configuration,
            random=os.urandom,
            clock=_now,
            observe=self._observe,
            retry=options.get("retry", False),
            token_keys=token_keys,
            token_strikes=None if place is None else place.shared.token_strikes,
            reset_key=reset_key,
            limits=options.get("limits"),
            ids=ids,
            elsewhere=None if place is None else place.elsewhere,
        )

    async def __aenter__(self) -> Server[AnyConnection]:
        return await self._start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._server.close(self._options.get("grace_s", GRACE_S) if kind is None else 0.0)


def _with_preferred(configuration: QuicConfiguration, address: Any) -> QuicConfiguration:
    where = (str(address[0]), int(address[1]))
    if ":" in where[0]:
        return replace(configuration, preferred_ipv6=where)
    return replace(configuration, preferred_ipv4=where)


class serve(Listener[QuicConnection]):  # noqa: N801 - used like a function
    """`async with serve(handler, host, port, alpn=..., identities=...) as server`, or `server = await serve(...)`.

    What else may be said is in `ServeOptions`; what the handler is for, at `Listener`.
    """

    def __init__(
        self,
        handler: Handler,
        host: str | None,
        port: int,
        *,
        alpn: str | Sequence[str],
        **options: Unpack[ServeOptions],
    ) -> None:
        super().__init__(handler, host, port, QuicConnection, alpn=alpn, **options)
