"""A host among its peers: listens, calls, and keeps one connection to each; what they tell ends up in `routes`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address

from fairway.net.agent.log import say
from fairway.net.agent.peers import status
from fairway.net.agent.peers.connections import Connections
from fairway.net.agent.peers.joining import Registrar, parse_endpoint
from fairway.net.agent.peers.options import PeerOptions
from fairway.net.agent.peers.standing import Standing
from fairway.net.agent.peers.status import PeerStatus, Place, RouteStatus
from fairway.net.agent.peers.tasks import Tasks
from fairway.net.enrolment import Authority, Membership, RevocationList
from fairway.net.exchange import (
    CloseCode,
    Conflict,
    Endpoint,
    Exchange,
    LearnedRoute,
    Revocations,
    Settings,
    State,
)
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import IPAddress, IPNetwork

_HOUSEKEEPING_S = 1.0
_MEMBERS_ASKED = 8
"""Other members that are asked where the authority is, if it is not where it was said to be."""


class PeerNetwork:
    """One host's part in the exchange of routes. All methods are the event loop's.

    `on_routes` is called when `routes()` may give something else than before, with the prefixes that this is about.
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
        registrar = Registrar(authority, self._authority_endpoints)
        self._connections = Connections(self.exchange, self._standing, registrar, options, self._act)
        self._links = self._connections.links
        self._tasks = Tasks()
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        """What the timer waits for."""
        self._conflicts: list[Conflict] = []
        self._known_peers: list[str] = []
        self._stopping = False

    # Life

    async def start(self) -> None:
        """Listen and begin to call. `OSError` if the port is taken."""
        options = self.options
        await self._connections.start()
        self._standing.located(map(_text, self._endpoints(options.addresses)))
        self.revoked(self._standing.stored())
        for text in (*options.peers, *self._membership.peers(), *self._authority_endpoints()):
            await self._seed(text)
        self._tasks.begin(self._housekeeping())
        self._act()

    async def stop(self, *, leaving: bool = False) -> None:
        """End every connection: peers keep our routes for a while, or with `leaving` let them go at once."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.stop()
        await self._connections.stop(CloseCode.LEAVING if leaving else CloseCode.RESTARTING)

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
        self.exchange.news.move(endpoints)
        self._standing.located(map(_text, endpoints))
        self._act()

    # What is known

    def routes(self) -> list[LearnedRoute]:
        """The best route to all that other nodes have."""
        return self.exchange.routes()

    async def pass_on(self, ways: Sequence[tuple[IPAddress, IPAddress]]) -> list[bool]:
        """Of each address and the host behind which it lies: whether packets for the one come to the other."""
        return await self._connections.trace(ways)

    @property
    def conflicts(self) -> list[Conflict]:
        """What nodes announce that cannot all be true, as of the last second."""
        return self._conflicts

    def peer_status(self) -> list[PeerStatus]:
        """Every peer, by name."""
        return status.peers(self.exchange, self._links, self._loop.time())

    def route_status(self, place: Callable[[LearnedRoute], Place]) -> list[RouteStatus]:
        """Every announcement, by prefix; `place` says what the kernel has of the best ones."""
        return status.routes(self.exchange, place, self._loop.time())

    # What follows from what happened

    def _act(self) -> None:
        """Whatever happened in the exchange: say what is to be said, call who is to be called, tell of new routes."""
        if self._stopping:
            return
        self._tell_routes()  # before anything else: packets wait for nothing but these
        for session in self._peers.take_ready():
            link = self._links.get(session)
            if link is not None:
                link.kick()
        told = self.exchange.news.take_revocations()
        if told is not None:
            try:
                self._adopt(self._standing.verify(told.signed))
            except FairwayError as error:
                self._connections.warn("revocation list refused", "a peer", error.message)
            self._tell_routes()
        now = self._loop.time()
        for call in self.exchange.calls(now):
            self._connections.call(call)
        self._wait_until(self.exchange.next_timeout(), now)

    def _tell_routes(self) -> None:
        if self.exchange.rib.changed:
            self._on_routes(self.exchange.rib.take_changed())

    def _wait_until(self, due: float | None, now: float) -> None:
        if due == self._due and due is not None and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = None if due is None else self._loop.call_at(max(due, now + 0.005), self._timed_out)

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
                self._tasks.begin(self._renew())
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
            self.exchange.news.spread(Revocations(revocations.number, revocations.signed))

    async def _renew(self) -> None:
        members = self.exchange.directory.speaking_with()
        some = random.sample(members, min(len(members), _MEMBERS_ASKED))
        named = (*self._authority_endpoints(), *(_text(each) for member in some for each in member.endpoints[:1]))
        places = [parse_endpoint(text, self._network.port) for text in named]
        if await self._standing.renew(places):
            self._network = self._membership.network()  # the authority may have said that it is elsewhere
            self._connections.renewed()

    # Addresses

    def _endpoints(self, addresses: Iterable[IPAddress]) -> tuple[Endpoint, ...]:
        return tuple(Endpoint(address, self.options.port) for address in addresses)

    def _authority_endpoints(self) -> tuple[str, ...]:
        """Where the authority may be: as it said itself last, as it signed when we joined, then as others say."""
        if self._network.authority == self.exchange.name:
            return ()
        known = self.exchange.directory.known.get(self._network.authority)
        own, told = (known.own, known.told) if known is not None else ((), ())
        return tuple(dict.fromkeys((*map(_text, own), *self._network.endpoints, *map(_text, told))))

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


def _text(endpoint: Endpoint) -> str:
    host = f"[{endpoint.address}]" if endpoint.address.version == 6 else str(endpoint.address)
    return f"{host}:{endpoint.port}"
