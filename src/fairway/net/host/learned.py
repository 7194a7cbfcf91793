"""The routes to other hosts' pods that those hosts told: kept over a restart of whoever learns them."""

from __future__ import annotations

from collections.abc import Iterable

from fairway.net.host import uplink
from fairway.net.host.masquerade import Masquerading
from fairway.net.host.observed import Observer
from fairway.net.host.store import Store
from fairway.net.kernel import Kernel
from fairway.net.kernel.routing import Routing
from fairway.net.model.facts import Fact, IPAddress, IPNetwork, Route
from fairway.net.model.operations import Failure
from fairway.net.model.pod import LearnedRoute, Tunnel
from fairway.net.reconcile import learned_fact, learned_facts, plan, tunnel_facts

TUNNEL_OVERHEAD = {4: 50, 6: 70}
"""Bytes that VXLAN adds to a packet: IP, UDP (8), VXLAN (8) and Ethernet (14); by the hosts' IP version."""


class LearnedRoutes:
    """The learned routes of one host.

    A route that a person wrote, and the one to a pod that is here, come before one that was learned, by its metric:
    all may be in the kernel at once, and what is left counts when the better one goes.
    """

    def __init__(self, store: Store, kernel: Kernel, observer: Observer, masquerading: Masquerading) -> None:
        self._store = store
        self._kernel = kernel
        self._masquerading = masquerading
        self._observer = observer
        self._express: Kernel | None = None
        self._hastened: dict[IPNetwork, LearnedRoute | None] = {}
        """What is in the kernel, or gone from it, and not yet on the disk."""

    def close(self) -> None:
        """End what `hasten` works by."""
        if self._express is not None:
            self._express.close()
            self._express = None

    def all(self) -> list[LearnedRoute]:
        """The routes, by destination."""
        return self._store.learned_routes()

    def facts(self) -> set[Fact]:
        """Them, as they should be in the kernel, and what tunnelled ones go by."""
        routes = self._now()
        tunnel = self._store.tunnel()
        way = set() if tunnel is None else tunnel_facts(self._kernel.home, tunnel, routes)
        return {*learned_facts(self._kernel.home, routes), *way}

    def set_tunnel(self, node: str, port: int, versions: Iterable[int]) -> list[Failure]:
        """From now on routes may be tunnelled, over hosts' addresses of these IP versions; `node` is this host."""
        overhead = max(TUNNEL_OVERHEAD[version] for version in versions)
        return self._set_tunnel(Tunnel(node, uplink.mtu(self._kernel) - overhead, port))

    def end_tunnel(self) -> list[Failure]:
        """No route is tunnelled any more."""
        return self._set_tunnel(None)

    def _set_tunnel(self, tunnel: Tunnel | None) -> list[Failure]:
        with self._store.lock():
            if tunnel != self._store.tunnel():
                self._store.set_tunnel(tunnel)
                self._hastened = {to: hop for to, hop in self._hastened.items() if hop is None or not hop.tunnelled}
            observed = {fact for fact in self._observer.far_routes() if not isinstance(fact, Route) or fact.learned}
            return self._kernel.execute(plan(self.facts(), observed))

    def _now(self) -> list[LearnedRoute]:
        routes: dict[IPNetwork, LearnedRoute | None] = {each.destination: each for each in self._store.learned_routes()}
        routes |= self._hastened
        return [route for route in routes.values() if route is not None]

    def hasten(self, add: Iterable[LearnedRoute], delete: Iterable[LearnedRoute] = ()) -> None:
        """Put into the kernel at once what `change` is about to make durable: without the disk, a lock, or a look.

        `change` must follow, whatever comes of this: it looks, and mends what who held the lock took for drift.
        One thread at a time.
        """
        home, put, gone = self._kernel.home, [], []
        for route in delete:
            self._hastened[route.destination] = None
            gone.append(learned_fact(home, route))
        for route in add:
            self._hastened[route.destination] = route
            put.append(learned_fact(home, route))
        self._routing().put(put, gone)

    def router_to(self, address: IPAddress) -> IPAddress | None:
        """The router by which `address` is reached; None if it is on a link of the host's. As fast as `hasten`."""
        way = self._routing().way_to(address)
        return None if way is None else way[1]

    @property
    def port(self) -> int:
        """The netlink port by which `hasten` works."""
        return self._routing().port

    def _routing(self) -> Routing:
        if self._express is None:
            self._express = Kernel(self._kernel.home)
        return self._express.routing

    def change(self, add: Iterable[LearnedRoute], delete: Iterable[IPNetwork] = ()) -> list[Failure]:
        """Learn some, forget others; what the kernel does not take is kept all the same, and returned."""
        with self._store.lock():
            added, deleted = list(add), list(delete)
            self._store.change_learned_routes(added, deleted)
            for where, route in ({route.destination: route for route in added} | dict.fromkeys(deleted)).items():
                if where in self._hastened and self._hastened[where] == route:
                    del self._hastened[where]
            touched = {*deleted, *(route.destination for route in added)}
            operations = plan(learned_facts(self._kernel.home, added), self._observer.routes(touched, learned=True))
            tunnel = self._store.tunnel()
            if tunnel is not None:
                way = tunnel_facts(self._kernel.home, tunnel, self._now())
                operations = [*plan(way, self._observer.tunnel()), *operations]
            self._masquerading.enforce()
            return self._kernel.execute(operations)

    def in_kernel(self) -> set[tuple[IPNetwork, IPAddress]]:
        """Destinations and gateways of those that the kernel has."""
        routes = self._kernel.routing.ours(self._kernel.home)
        hops = [(route.destination, route.tunnel or route.gateway) for route in routes if route.learned]
        return {(destination, hop) for destination, hop in hops if hop is not None}
