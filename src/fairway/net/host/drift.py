"""What is not as it should be: on the whole host, or only where something may have changed."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.net.host.identity import Identity
from fairway.net.host.learned import LearnedRoutes
from fairway.net.host.observed import Observer
from fairway.net.host.routes import StaticRoutes
from fairway.net.host.store import PodState, Store
from fairway.net.host.wiring import Wiring
from fairway.net.kernel import Kernel
from fairway.net.model.facts import AllowedSources, Fact, ForwardAccept, IPAddress
from fairway.net.model.operations import Operation
from fairway.net.model.pod import Pod
from fairway.net.reconcile import guard_facts, plan, route_facts


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look. A link or an address that is no pod's stands for nothing."""

    pods: frozenset[str] = frozenset()  # by name
    links: frozenset[str] = frozenset()  # pods by their host ends
    addresses: frozenset[IPAddress] = frozenset()  # pods by their addresses
    ground: bool = False  # what every pod stands on
    guards: bool = False  # what every pod may send from, and our rules in other programs' chains
    routes: bool = False  # those to other hosts

    def __or__(self, other: Scope) -> Scope:
        return Scope(
            self.pods | other.pods,
            self.links | other.links,
            self.addresses | other.addresses,
            self.ground or other.ground,
            self.guards or other.guards,
            self.routes or other.routes,
        )

    def __bool__(self) -> bool:
        return self != Scope()

    def __len__(self) -> int:
        return len(self.pods) + len(self.links) + len(self.addresses)


class Drift:
    """Finds what differs. Its callers hold the store's lock."""

    def __init__(
        self,
        store: Store,
        kernel: Kernel,
        identity: Identity,
        observer: Observer,
        wiring: Wiring,
        routes: StaticRoutes,
        learned: LearnedRoutes,
    ) -> None:
        self._store = store
        self._kernel = kernel
        self._identity = identity
        self._observer = observer
        self._wiring = wiring
        self._routes = routes
        self._learned = learned

    def whole(self) -> list[Operation]:
        """What differs anywhere, and what is left over of what is no more."""
        entries = self._store.entries()
        pods = [e.pod for e in entries if e.state is PodState.PRESENT and not self._wiring.has_moved(e.pod)]
        chains = self._wiring.chains()
        desired = self._wiring.ground.facts(pods)
        desired |= self._far_routes()
        own, given = {}, []
        for pod in pods:
            reachable = self._wiring.is_reachable(pod)
            desired |= self._wiring.desired(pod, chains, reachable=reachable)
            site = self._identity.site(pod)
            if site.own:
                own[site.namespace] = site.mark
            elif reachable:
                given.append((pod, site.namespace))
        identity = self._identity
        observed = self._observer.everything(desired, identity.prefix, identity.mark, own, given)
        wanted, found = self._rules()
        return plan(desired | wanted, observed | found)

    def within(self, scope: Scope) -> list[Operation]:
        """What differs in `scope`; the cost does not grow with what is outside."""
        operations: list[Operation] = []
        if scope.ground:
            wanted = self._wiring.ground.facts_of(self._store.addresses.versions())
            operations += plan(wanted, self._observer.node(wanted)) if wanted else []
        if scope.guards:
            operations += [*self._guards(), *plan(*self._rules())]
        if scope.routes:
            operations += plan(self._far_routes(), self._observer.far_routes())
        pods = self._pods(scope)
        chains = self._wiring.chains() if pods else ()
        for pod in pods:
            operations += self._wiring.differences(pod, chains)
        return operations

    def strays(self) -> list[str]:
        """Interfaces that are called as pods' host ends and are no pod's; another program's may be among them."""
        known = {link for (link,) in self._store.rows("SELECT link FROM pods")}
        return [name for name in self._kernel.pod_links() if name not in known]

    def _rules(self) -> tuple[set[Fact], set[Fact]]:
        """What pods share in our table beyond what they stand on: as it should be, and as it is."""
        if self._store.is_empty():
            return set(), set()
        policies, hidden = self._wiring.policies.rules(), self._wiring.masquerading.wanted()
        wanted: set[Fact] = {fact for fact in (policies, hidden) if fact is not None}
        return wanted, self._observer.rules(policies)

    def _far_routes(self) -> set[Fact]:
        return route_facts(self._identity.home, self._routes.all()) | self._learned.facts()

    def _pods(self, scope: Scope) -> list[Pod]:
        names = set(scope.pods)
        names.update(name for link in scope.links if (name := self._store.link_holder(link)))
        names.update(name for address in scope.addresses if (name := self._store.addresses.holder(address)))
        entries = [self._store.entry(name) for name in sorted(names)]
        return [entry.pod for entry in entries if entry is not None and entry.state is PodState.PRESENT]

    def _guards(self) -> list[Operation]:
        """Chains and rules of all links that are there, or were; a link that is about to end keeps its silent one."""
        home = self._identity.home
        pods = [entry.pod for entry in self._store.entries() if entry.state is PodState.PRESENT]
        links = set(self._kernel.pod_links())
        settled = {pod.link for pod in pods}
        chains = self._wiring.chains()
        wanted: set[Fact] = set()
        for pod in pods:
            if pod.link in links:
                wanted |= guard_facts(home, pod, chains)
        found = self._kernel.filter.firewall(home) | self._kernel.filter.accepts(home)
        observed = {fact for fact in found if isinstance(fact, AllowedSources | ForwardAccept)}
        return plan(wanted, {fact for fact in observed if _link_of(fact) in settled or _link_of(fact) not in links})


def _link_of(fact: Fact) -> str:
    return fact.link if isinstance(fact, AllowedSources | ForwardAccept) else ""
