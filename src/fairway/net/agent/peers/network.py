"""A host among its peers: listens, calls, and keeps one connection to each; what they tell ends up in `routes`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from fairway.aio import ConnectionClosed, QuicConnection, Server, connect, serve
from fairway.net.agent.log import LOGGER, say
from fairway.net.agent.peers import security, status
from fairway.net.agent.peers.echo import Echo
from fairway.net.agent.peers.joining import Registrar, parse_endpoint
from fairway.net.agent.peers.link import Link, endpoint_of
from fairway.net.agent.peers.options import PeerOptions
from fairway.net.agent.peers.standing import Standing
from fairway.net.agent.peers.status import PeerStatus, RouteStatus
from fairway.net.agent.peers.watching import Watch
from fairway.net.enrolment import Authority, Membership, RevocationList
from fairway.net.exchange import (
    Call,
    CloseCode,
    Conflict,
    Endpoint,
    Exchange,
    LearnedRoute,
    Loss,
    Revocations,
    Session,
    Settings,
    State,
)
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import IPAddress, IPNetwork

_CALLS_AT_ONCE = 32
_CALLS_ON_HEARSAY = 16
"""Of members that were never spoken with: they hold up no call to one that was."""
_CALL_TIMEOUT_S = 3.0
_TRACE_S = 0.5
_HOUSEKEEPING_S = 1.0
_WARN_AGAIN_S = 60.0
_WARNINGS_KEPT = 1_000


class PeerNetwork:
    """One host's part in the exchange of routes. All methods are the event loop's.

    `on_routes` is called, once for many changes, when `routes()` may give something else than before.
    """

    def __init__(
        self,
        membership: Membership,
        authority: Authority,
        options: PeerOptions,
        on_routes: Callable[[set[IPNetwork]], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._membership = membership
        self.options = options
        self._on_routes = on_routes
        self._network = membership.network()
        self._registrar = Registrar(authority, self._authority_endpoints)
        self._authority = authority
        self._standing = Standing(membership, authority)
        self.exchange = Exchange(
            self._standing.credentials.permit.node,
            self._network.identity,
            membership.next_epoch(datetime.now(UTC)),
            jitter=random.random,
            endpoints=self._endpoints(options.addresses),
            settings=Settings(options.restart_s, options.detection_s / 5, options.static_only),
        )
        self._peers = self.exchange.peers
        self._links: dict[Session, Link] = {}
        self._turns = {False: asyncio.Semaphore(_CALLS_AT_ONCE), True: asyncio.Semaphore(_CALLS_ON_HEARSAY)}
        self._calling: set[str | tuple[Endpoint, ...]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Server[QuicConnection] | None = None
        self._echo: Echo | None = None
        self._watch: Watch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._conflicts: list[Conflict] = []
        self._known_peers: list[str] = []
        self._warned: dict[tuple[str, str, str], float] = {}
        self._changed = False
        self._stopping = False

    # Life

    async def start(self) -> None:
        """Listen and begin to call. `OSError` if the port is taken."""
        options = self.options
        host = None if options.listen is None else str(options.listen)
        self._server = await serve(
            self._accepted,
            host,
            options.port,
            alpn=(security.ROUTES, security.JOIN),
            identities=(),
            tls=security.server_config(self._standing.credentials),
            configuration=security.configuration(options.detection_s, calls=False),
            reset_key=security.reset_key(self._standing.credentials),
        )
        self._echo = Echo(self._host_answers)
        self._watch = Watch(options.detection_s, self._echo, self._links.values)
        self._standing.located(map(_text, self._endpoints(options.addresses)))
        self.revoked(self._standing.stored())
        for text in (*options.peers, *self._membership.peers(), *self._authority_endpoints()):
            await self._seed(text)
        self._begin(self._housekeeping())
        self._begin(self._watch.run())
        self._act()

    async def stop(self, *, leaving: bool = False) -> None:
        """End every connection: peers keep our routes for a while, or with `leaving` let them go at once."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        for session, link in list(self._links.items()):
            session.close(CloseCode.LEAVING if leaving else CloseCode.RESTARTING, "the agent stops")
            link.kick()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.close(0.0)
        if self._echo is not None:
            self._echo.close()

    # What the host has

    def announce(self, prefixes: dict[IPNetwork, int]) -> None:
        """Announce exactly these, each with its version."""
        exchange, now = self.exchange, self._loop.time()
        news = False
        for former in exchange.own.announcements():
            if former.prefix not in prefixes:
                news |= exchange.withdraw(former.prefix)
        for prefix, version in prefixes.items():
            news |= exchange.announce(prefix, now, version=version)
        if news:
            for link in self._links.values():
                link.kick()
            self._act()

    def move(self, addresses: Sequence[IPAddress]) -> None:
        """The host's own addresses have changed: connections follow by themselves, peers are told."""
        endpoints = self._endpoints(addresses)
        self._peers.move(endpoints)
        self._standing.located(map(_text, endpoints))
        self._act()

    # What is known

    def routes(self) -> list[LearnedRoute]:
        """The best route to all that other nodes have."""
        return self.exchange.routes()

    async def pass_on(self, ways: Sequence[tuple[IPAddress, IPAddress]]) -> list[bool]:
        """Of each address and the host behind which it lies: whether packets for the one come to the other."""
        if self._echo is None or not ways:
            return [False] * len(ways)
        for target, host in ways:
            self._echo.trace(target, host)
        await asyncio.sleep(_TRACE_S)
        return [self._echo.came_by(target, host) for target, host in ways]

    @property
    def conflicts(self) -> list[Conflict]:
        """What nodes announce that cannot all be true, as of the last second."""
        return self._conflicts

    def peer_status(self) -> list[PeerStatus]:
        """Every peer, by name."""
        return status.peers(self.exchange, self._links, self._loop.time())

    def route_status(self, in_kernel: Callable[[LearnedRoute], bool]) -> list[RouteStatus]:
        """Every announcement, by prefix; `in_kernel` says of the best ones whether the kernel has them."""
        return status.routes(self.exchange, in_kernel, self._loop.time())

    # Connections

    async def _accepted(self, connection: QuicConnection) -> None:
        """Somebody has called."""
        try:
            shown = security.shown(connection.peer_certificates) if connection.peer_certificates else None
        except FairwayError as error:
            self._warn("peer refused", connection.peer_address[0], error.message)
            connection.close(CloseCode.REFUSED, error.message)
            return
        if connection.alpn == security.JOIN:
            valid = shown is not None and not self._standing.revoked(shown.permit.serial)
            await self._registrar.serve(connection, shown.permit if shown is not None and valid else None)
        elif shown is None:
            self._warn("peer refused", connection.peer_address[0], "it shows no certificate")
            connection.close(CloseCode.REFUSED, "a node's certificate is needed")
        else:
            await self._exchange_with(connection, shown, None)

    async def _call(self, call: Call) -> None:
        """Call somebody; who does not answer is called again when the directory says so."""
        whom = call.name or call.endpoints
        if whom in self._calling:  # or waiting for its turn
            return
        self._calling.add(whom)
        try:
            async with self._turns[call.hearsay]:
                await self._call_in_turn(call)
        finally:
            self._calling.discard(whom)

    async def _call_in_turn(self, call: Call) -> None:
        for endpoint in call.endpoints:
            known = self.exchange.directory.known.get(call.name)
            if known is not None and known.connected:
                return
            dialer = connect(
                str(endpoint.address),
                endpoint.port,
                alpn=security.ROUTES,
                tls=self._standing.caller,
                configuration=security.configuration(self.options.detection_s, calls=True),
                timeout=_CALL_TIMEOUT_S,
            )
            try:
                connection = await dialer
            except (OSError, TimeoutError, ConnectionClosed) as error:
                say("no connection", level="debug", address=endpoint.address, why=str(error))
                continue
            try:
                shown = security.shown(connection.peer_certificates)
            except FairwayError as error:
                self._warn("peer refused", endpoint.address, error.message)
                dialer.close()
                continue
            if call.name not in ("", shown.permit.node):
                self.exchange.directory.misled(call.name, self._loop.time())
                other = self.exchange.directory.known.get(shown.permit.node)
                if other is not None and other.connected:
                    dialer.close()
                    continue
            self._begin(self._exchange_and_close(connection, shown, endpoint, dialer))
            return

    async def _exchange_and_close(
        self, connection: QuicConnection, shown: security.Shown, called: Endpoint, dialer: connect
    ) -> None:
        try:
            await self._exchange_with(connection, shown, called)
        finally:
            dialer.close()

    async def _exchange_with(self, connection: QuicConnection, shown: security.Shown, called: Endpoint | None) -> None:
        session = self._peers.connect(shown.permit, endpoint_of(connection.peer_address), called)
        link = self._links[session] = Link(connection, session, shown.expires, self._received)
        loss = Loss.SILENT
        try:
            loss = await link.run()
        finally:
            del self._links[session]
            if not self._stopping:
                self._lost(session, loss, link.reason)

    def _received(self, link: Link) -> None:
        if link.is_new and link.session.state is State.OPEN:
            link.is_new = False
            say("peer", node=link.session.peer, address=link.observed.address)
        link.kick()
        self._act()

    def _lost(self, session: Session, loss: Loss, reason: str) -> None:
        peer = self._peers.get(session.peer)
        was_up = peer is not None and peer.session is session
        self._peers.lost(session, loss, self._loop.time())
        code, _ = session.closing or (CloseCode.NONE, "")
        if loss is Loss.REFUSED:
            self._warn("refused by a peer", session.peer, reason)
        elif code in (CloseCode.PROTOCOL, CloseCode.REFUSED):
            self._warn("session ended", session.peer, reason)
        elif was_up and loss is not Loss.REPLACED:
            say("peer lost", node=session.peer, state=loss.value, why=reason)
        if peer is not None and was_up and loss is Loss.SILENT and self._echo is not None:
            for version in (4, 6):
                address = peer.next_hop(version)
                if address is not None:
                    self._echo.ask(address, self.options.detection_s / 5)
        self._act()

    def _host_answers(self, address: IPAddress) -> None:
        if self._watch is not None:
            self._watch.answers(address, self._loop.time())
        silent = [peer for peer in self._peers.away() if peer.loss is Loss.SILENT]
        for peer in silent:
            if address in (peer.next_hop(4), peer.next_hop(6)):
                say("peer's host answers", node=peer.name, routes="stay for a while")
                self._peers.host_answers(peer.name)
                self._act()

    # What follows from what happened

    def _act(self) -> None:
        """Whatever happened in the exchange: say what is to be said, call who is to be called, tell of new routes."""
        if self._stopping:
            return
        for session in self._peers.take_ready():
            link = self._links.get(session)
            if link is not None:
                link.kick()
        told = self._peers.take_revocations()
        if told is not None:
            try:
                self._adopt(self._standing.verify(told.signed))
            except FairwayError as error:
                self._warn("revocation list refused", "a peer", error.message)
        now = self._loop.time()
        for call in self.exchange.calls(now):
            self._begin(self._call(call))
        if self.exchange.rib.changed and not self._changed:
            self._changed = True
            self._loop.call_soon(self._tell_routes)
        due = self.exchange.next_timeout()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if due is None else self._loop.call_at(max(due, now + 0.005), self._timed_out)

    def _tell_routes(self) -> None:
        self._changed = False
        self._on_routes(self.exchange.rib.take_changed())

    def _timed_out(self) -> None:
        self._timer = None
        self.exchange.handle_timeout(self._loop.time())
        self._act()

    async def _housekeeping(self) -> None:
        """What is looked at once a second: expired certificates, moved peers, conflicts, our own renewal."""
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            now = datetime.now(UTC)
            for session, link in list(self._links.items()):
                if link.expires <= now and session.state is not State.CLOSED:
                    session.close(CloseCode.REFUSED, "its certificate has expired")
                    link.kick()
                elif link.observed != session.observed:
                    self._peers.seen_at(session, link.observed)
            if self.exchange.rib.take_may_conflict():
                self._look_for_conflicts()
            self._adopt(self._standing.news())
            if self._standing.renewal_due(now, self._loop.time()):
                self._begin(self._renew())
            await self._keep_peers()
            self._act()

    def _look_for_conflicts(self) -> None:
        former = set(self._conflicts)
        self._conflicts = self.exchange.conflicts()
        for conflict in self._conflicts:
            if conflict not in former:
                say("conflict", level="warning", what=str(conflict))

    async def _keep_peers(self) -> None:
        """Write down where others are, for the next start."""
        members = self.exchange.directory.speaking_with()
        known = sorted({_text(member.endpoints[0]) for member in members if member.endpoints})
        if known and known != self._known_peers:
            self._known_peers = known
            try:
                await asyncio.to_thread(self._membership.keep_peers, known)
            except FairwayError as error:
                say("peers not kept", level="warning", why=error.message, mend=error.mend)

    # Certificates

    def revoked(self, revocations: RevocationList | None) -> None:
        """There is a list of revoked certificates: everybody is told, unless it is old."""
        self._adopt(revocations)
        self._act()

    def _adopt(self, revocations: RevocationList | None) -> None:
        if revocations is not None and self._standing.adopt(revocations):
            self._peers.revoke(revocations.serials)
            self._peers.spread(Revocations(revocations.number, revocations.signed))

    async def _renew(self) -> None:
        places = [parse_endpoint(text, self._network.port) for text in self._authority_endpoints()]
        if await self._standing.renew(places) and self._server is not None:
            self._server.renew(security.server_config(self._standing.credentials))

    # Addresses

    def _endpoints(self, addresses: Iterable[IPAddress]) -> tuple[Endpoint, ...]:
        return tuple(Endpoint(address, self.options.port) for address in addresses)

    def _authority_endpoints(self) -> tuple[str, ...]:
        """Where the authority is: as it said itself last, else as the network's description has it."""
        known = self.exchange.directory.known.get(self._network.authority)
        if known is not None and known.endpoints:
            return tuple(map(_text, known.endpoints))
        if self._network.authority == self.exchange.name:
            return ()
        return self._network.endpoints

    async def _seed(self, text: str) -> None:
        """An address to call; a name is looked up once."""
        try:
            host, port = parse_endpoint(text, self._network.port)
            try:
                addresses = [ip_address(host)]
            except ValueError:
                found = await self._loop.getaddrinfo(host, port)
                addresses = [ip_address(str(each[4][0]).partition("%")[0]) for each in found]
        except (UsageError, OSError) as error:
            say("peer not to be called", level="warning", peer=text, why=str(error))
            return
        for address in addresses:
            if address not in self.options.addresses or port != self.options.port:
                self.exchange.directory.add_seed(Endpoint(address, port))

    # Within

    def _warn(self, event: str, who: object, why: str) -> None:
        """Say it, but the same not again and again: a peer that is refused comes back."""
        now, what = self._loop.time(), (event, str(who), why)
        if now - self._warned.get(what, float("-inf")) >= _WARN_AGAIN_S:
            if len(self._warned) >= _WARNINGS_KEPT:
                self._warned.clear()
            self._warned[what] = now
            say(event, level="warning", who=who, why=why)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOGGER.error("a task of the exchange failed", exc_info=error)


def _text(endpoint: Endpoint) -> str:
    host = f"[{endpoint.address}]" if endpoint.address.version == 6 else str(endpoint.address)
    return f"{host}:{endpoint.port}"
