"""The connections of a host to its peers: those that it called and those that called it, from handshake to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from fairway.aio import ConnectionClosed, QuicConnection, Server, connect, serve
from fairway.net.agent.log import say
from fairway.net.agent.peers import security
from fairway.net.agent.peers.echo import Echo
from fairway.net.agent.peers.joining import Registrar
from fairway.net.agent.peers.link import Link, endpoint_of
from fairway.net.agent.peers.options import PeerOptions
from fairway.net.agent.peers.standing import Standing
from fairway.net.agent.peers.tasks import Tasks
from fairway.net.agent.peers.watching import Watch
from fairway.net.exchange import Call, CloseCode, Endpoint, Exchange, Loss, Session, State
from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import IPAddress

_CALLS_AT_ONCE = 32
_HEARSAY_AT_ONCE = 8
_CALL_TIMEOUT_S = 3.0
_TRACE_S = 0.5
_WARN_AGAIN_S = 60.0
_WARNINGS_KEPT = 1_000
"""What was said within `_WARN_AGAIN_S`; past it no more is, or strangers would fill the disk with the log."""


class Connections:
    """One host's. `on_change` is called after whatever happened on one of them was told to the exchange."""

    def __init__(
        self,
        exchange: Exchange,
        standing: Standing,
        registrar: Registrar,
        options: PeerOptions,
        on_change: Callable[[], None],
    ) -> None:
        self.links: dict[Session, Link] = {}
        self._loop = asyncio.get_running_loop()
        self._exchange = exchange
        self._peers = exchange.peers
        self._standing = standing
        self._registrar = registrar
        self._options = options
        self._on_change = on_change
        self._echo = Echo(self._host_answers)
        self._watch = Watch(options.detection_s, self._echo, self.links.values)
        self._calling = {False: asyncio.Semaphore(_CALLS_AT_ONCE), True: asyncio.Semaphore(_HEARSAY_AT_ONCE)}
        self._called: set[tuple[Endpoint, ...]] = set()
        self._tasks = Tasks()
        self._server: Server[QuicConnection] | None = None
        self._warned: dict[tuple[str, str, str], float] = {}
        self._stopping = False

    async def start(self) -> None:
        """Listen. `OSError` if the port is taken."""
        options = self._options
        self._server = await serve(
            self._accepted,
            None if options.listen is None else str(options.listen),
            options.port,
            alpn=(security.ROUTES, security.JOIN),
            identities=(),
            tls=security.server_config(self._standing.credentials),
            configuration=security.configuration(options.detection_s, calls=False),
            reset_key=security.reset_key(self._standing.credentials),
        )
        self._tasks.begin(self._watch.run())

    async def stop(self, code: CloseCode) -> None:
        """End all of them, and tell the peers so."""
        self._stopping = True
        for session, link in list(self.links.items()):
            session.close(code, "the agent stops")
            link.kick()
        await self._tasks.stop()
        if self._server is not None:
            await self._server.close(0.0)
        self._echo.close()

    def renewed(self) -> None:
        """There is a new certificate: show it from now on."""
        if self._server is not None:
            self._server.renew(security.server_config(self._standing.credentials))

    def call(self, call: Call) -> None:
        """Call somebody, unless that is being done; who does not answer is called again when the directory says so."""
        if call.endpoints not in self._called:
            self._called.add(call.endpoints)
            self._tasks.begin(self._call(call))

    async def trace(self, ways: Sequence[tuple[IPAddress, IPAddress]]) -> list[bool]:
        """Of each address and the host behind which it lies: whether packets for the one come to the other."""
        for target, host in ways:
            self._echo.trace(target, host)
        if ways:
            await asyncio.sleep(_TRACE_S)
        return [self._echo.came_by(target, host) for target, host in ways]

    async def _accepted(self, connection: QuicConnection) -> None:
        """Somebody has called."""
        try:
            shown = security.shown(connection.peer_certificates) if connection.peer_certificates else None
        except FairwayError as error:
            self.warn("peer refused", connection.peer_address[0], error.message)
            connection.close(CloseCode.REFUSED, error.message)
            return
        if connection.alpn == security.JOIN:
            valid = shown is not None and not self._standing.revoked(shown.permit.serial)
            await self._registrar.serve(connection, shown.permit if shown is not None and valid else None)
        elif shown is None:
            self.warn("peer refused", connection.peer_address[0], "it shows no certificate")
            connection.close(CloseCode.REFUSED, "a node's certificate is needed")
        else:
            await self._exchange_with(connection, shown, None)

    async def _call(self, call: Call) -> None:
        try:
            async with self._calling[call.hearsay]:
                for endpoint in call.endpoints:
                    known = self._exchange.directory.known.get(call.name)
                    if (known is not None and known.connected) or await self._reach(endpoint, call.name):
                        return
        finally:
            self._called.discard(call.endpoints)

    async def _reach(self, endpoint: Endpoint, name: str) -> bool:
        """Call one address, where `name` is said to be if it is not empty; whether a peer has answered."""
        dialer = connect(
            str(endpoint.address),
            endpoint.port,
            alpn=security.ROUTES,
            tls=self._standing.caller,
            configuration=security.configuration(self._options.detection_s, calls=True),
            timeout=_CALL_TIMEOUT_S,
        )
        try:
            connection = await dialer
        except (OSError, TimeoutError, ConnectionClosed) as error:
            say("no connection", level="debug", address=endpoint.address, why=str(error))
            clock = security.clock_error(endpoint.address, error)
            if clock is not None:  # that takes a person: to try at once again would only cost
                self.warn("clocks differ", endpoint.address, str(clock))
                self._exchange.directory.refused(name, endpoint, self._loop.time())
            return False
        try:
            shown = security.shown(connection.peer_certificates)
        except FairwayError as error:
            self.warn("peer refused", endpoint.address, error.message)
            dialer.close()
            return False
        if name not in ("", shown.permit.node):
            self._exchange.directory.misled(name, self._loop.time())
            other = self._exchange.directory.known.get(shown.permit.node)
            if other is not None and other.connected:
                dialer.close()
                return False
        self._tasks.begin(self._exchange_and_close(connection, shown, endpoint, dialer))
        return True

    async def _exchange_and_close(
        self, connection: QuicConnection, shown: security.Shown, called: Endpoint, dialer: connect
    ) -> None:
        try:
            await self._exchange_with(connection, shown, called)
        finally:
            dialer.close()

    async def _exchange_with(self, connection: QuicConnection, shown: security.Shown, called: Endpoint | None) -> None:
        session = self._peers.connect(shown.permit, endpoint_of(connection.peer_address), called)
        link = self.links[session] = Link(connection, session, shown.expires, self._received)
        loss = Loss.SILENT
        try:
            loss = await link.run()
        finally:
            del self.links[session]
            if not self._stopping:
                self._lost(session, loss, link.reason)

    def _received(self, link: Link) -> None:
        if link.is_new and link.session.state is State.OPEN:
            link.is_new = False
            say("peer", node=link.session.peer, address=link.observed.address)
        self._on_change()  # routes first, answers then
        link.kick()

    def _lost(self, session: Session, loss: Loss, reason: str) -> None:
        peer = self._peers.get(session.peer)
        was_up = peer is not None and peer.session is session
        self._peers.lost(session, loss, self._loop.time())
        code, _ = session.closing or (CloseCode.NONE, "")
        if loss is Loss.REFUSED:
            self.warn("refused by a peer", session.peer, reason)
        elif code in (CloseCode.PROTOCOL, CloseCode.REFUSED):
            self.warn("session ended", session.peer, reason)
        elif was_up and loss is not Loss.REPLACED:
            say("peer lost", node=session.peer, state=loss.value, why=reason)
        if peer is not None and was_up and loss is Loss.SILENT:
            for version in (4, 6):
                address = peer.next_hop(version)
                if address is not None:
                    self._echo.ask(address, self._options.detection_s / 5)
        self._on_change()

    def _host_answers(self, address: IPAddress) -> None:
        self._watch.answers(address, self._loop.time())
        for peer in self._peers.away():
            if peer.loss is Loss.SILENT and address in (peer.next_hop(4), peer.next_hop(6)):
                say("peer's host answers", node=peer.name, routes="stay for a while")
                self._peers.host_answers(peer.name)
                self._on_change()

    def warn(self, event: str, who: object, why: str) -> None:
        """Say it, but the same not again and again, and only so much: whoever is refused comes back, or is many."""
        now, what = self._loop.time(), (event, str(who), why)
        if now - self._warned.get(what, float("-inf")) < _WARN_AGAIN_S:
            return
        if len(self._warned) >= _WARNINGS_KEPT:
            self._warned = {said: at for said, at in self._warned.items() if now - at < _WARN_AGAIN_S}
        if len(self._warned) < _WARNINGS_KEPT:
            self._warned[what] = now
            say(event, level="warning", who=who, why=why)
