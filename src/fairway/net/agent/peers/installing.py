"""What the exchange says of routes, brought into the host's kernel and kept on its disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from fairway.net.agent.log import say
from fairway.net.agent.worker import Worker
from fairway.net.exchange import Exchange
from fairway.net.exchange import LearnedRoute as Learned
from fairway.net.host import Host
from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.pod import LearnedRoute

Routes = dict[IPNetwork, LearnedRoute]

_RETRY_S = 1.0
_SETTLE_S = 0.05
"""How long what is in the kernel already waits for more, before all of it goes to the disk at once."""

_ROUTERS_KEPT = 16_384

_HASTENED = 64
"""Routes that the kernel is given at once, in one call; more than that take a thread's time, not the event loop's."""


@dataclass(frozen=True, slots=True)
class Need:
    """`hop` leads through a router, which has to have a route to its destination by `peer`, the other host."""

    hop: LearnedRoute
    peer: IPAddress


class Installer:
    """A new route is in the kernel at once, and on the disk a little later, with what else has changed by then.

    Of what was learned before a restart nothing goes until its node has said what it announces, or `keep_s` is over.
    """

    def __init__(
        self,
        host: Host,
        worker: Worker,
        exchange: Exchange,
        blocks: tuple[IPNetwork, ...],
        keep_s: float,
        *,
        tunnels: bool = False,
    ) -> None:
        self._host = host
        self._do = worker.do
        self._exchange = exchange
        self._blocks = blocks
        self._keep_s = keep_s
        self._tunnels = tunnels
        self._keep_until: float | None = None
        self._durable: Routes = {}
        self._present: Routes = {}
        """What the kernel was given last; with what is on the disk, all that it can have."""
        self._routers: dict[IPAddress, IPAddress | None] = {}
        self._dirty: set[IPNetwork] = set()
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._settling: asyncio.TimerHandle | None = None
        self._installing: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Take up what was learned before, and begin."""
        self._durable = {route.destination: route for route in await self._do(self._host.learned.all)}
        self._present = dict(self._durable)
        self._keep_until = self._loop.time() + self._keep_s
        self._installing = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End, with all on the disk."""
        self._stopping = True
        self._settled()
        if self._installing is not None:
            await self._installing

    def changed(self, prefixes: set[IPNetwork]) -> None:
        """Something is new about these."""
        if len(prefixes) <= _HASTENED:
            self._hasten(prefixes)
        self._dirty |= prefixes
        if self._settling is None:
            self._settling = self._loop.call_later(_SETTLE_S, self._settled)

    def _settled(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        self._wake.set()

    def _hasten(self, prefixes: set[IPNetwork]) -> None:
        """Give the kernel at once what is new about a few."""
        try:
            add, delete = self._difference(prefixes, self._present)
            if add or delete:
                self._host.learned.hasten(add, delete)
                _note(self._present, add, delete)
        except FairwayError as error:
            say("route not hastened", level="warning", why=error.message)

    def look_again(self) -> None:
        """The ways to other hosts may be other ones."""
        self._routers.clear()
        self.changed(set(self._durable))

    def needs(self) -> list[Need]:
        """Routes that lead through a router between here and there: it has to know them too."""
        found = []
        for route in self._exchange.routes():
            hop = self.hop(route)
            if hop is not None and route.via is not None and hop.gateway != route.via:
                found.append(Need(hop, route.via))
        return found

    def hop(self, route: Learned) -> LearnedRoute | None:
        """The route as the host has it; None for one that it should not have.

        A block that overlaps one of its own is never routed away; single addresses of it are pods that moved.
        """
        single = route.prefix.prefixlen == route.prefix.max_prefixlen
        ours = not single and any(
            block.version == route.prefix.version and block.overlaps(route.prefix) for block in self._blocks
        )
        if ours or route.via is None:
            return None
        router = self._router_to(route.via)
        if router is not None and self._tunnels:
            return LearnedRoute(route.prefix, route.via, route.node, tunnelled=True)
        return LearnedRoute(route.prefix, router or route.via, route.node)

    def _router_to(self, address: IPAddress) -> IPAddress | None:
        """The router between this host and another, remembered until ways may have changed."""
        if address not in self._routers:
            if len(self._routers) >= _ROUTERS_KEPT:
                self._routers.clear()
            self._routers[address] = self._host.learned.router_to(address)
        return self._routers[address]

    async def _work(self) -> None:
        while not self._stopping:
            try:
                async with asyncio.timeout(self._keep_for()):
                    await self._wake.wait()
            except TimeoutError:
                self._keep_until = None
                self._dirty |= self._durable.keys()
            self._wake.clear()
            if self._keep_until is not None:  # of what is left from before, some nodes may not speak any more
                self._dirty |= self._durable.keys()
            try:
                await self._install()
            except FairwayError as error:
                say("routes not kept", level="warning", why=error.message, mend=error.mend)
                if not self._stopping:
                    await asyncio.sleep(_RETRY_S)
                self._wake.set()

    def _keep_for(self) -> float | None:
        return None if self._keep_until is None else max(self._keep_until - self._loop.time(), 0.0)

    async def _install(self) -> None:
        dirty, self._dirty = self._dirty, set()
        try:
            add, _ = self._difference(dirty, self._durable)
            _, delete = self._difference(dirty, self._durable | self._present)
            if not add and not delete:
                return
            failures = await self._do(lambda: self._host.learned.change(add, [hop.destination for hop in delete]))
        except FairwayError:
            self._dirty |= dirty
            raise
        for routes in (self._durable, self._present):
            _note(routes, add, delete)
        for failure in failures:
            say("route not learned", level="warning", why=failure.error.message, mend=failure.error.mend)

    def _difference(self, prefixes: Iterable[IPNetwork], had: Routes) -> tuple[list[LearnedRoute], list[LearnedRoute]]:
        """What of these prefixes is to be learned by who has `had`, and what to be forgotten."""
        add: list[LearnedRoute] = []
        delete: list[LearnedRoute] = []
        for prefix in prefixes:
            route, former = self._exchange.route(prefix), had.get(prefix)
            hop = None if route is None else self.hop(route)
            if hop is not None:
                if hop != former:
                    add.append(hop)
            elif former is not None and not self._may_come_back(former):
                delete.append(former)
        return add, delete

    def _may_come_back(self, hop: LearnedRoute) -> bool:
        """Whether the route is from before a restart of this agent, and its node has not been heard yet."""
        if self._keep_until is None:
            return False
        peer = self._exchange.peers.get(hop.node)
        return peer is None or (peer.loss is None and not peer.replica.complete)


def _note(routes: Routes, add: Iterable[LearnedRoute], delete: Iterable[LearnedRoute]) -> None:
    routes.update((hop.destination, hop) for hop in add)
    for hop in delete:
        routes.pop(hop.destination, None)
