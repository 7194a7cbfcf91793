"""What the kernel holds of a host, as facts: all of it for a check, as little as will do for one pod."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fairway.net.kernel import Kernel, View
from fairway.net.kernel.records import LinkRecord, link_facts
from fairway.net.model.facts import (
    Address,
    AllowedSources,
    Fact,
    Firewall,
    ForwardAccept,
    IPNetwork,
    Namespace,
    Neighbour,
    PolicyRules,
    Route,
    Sysctl,
    Up,
    Veth,
)
from fairway.net.model.names import INTERFACE_PREFIX
from fairway.net.model.pod import Pod, Site
from fairway.net.model.policy_table import PolicyTable


class Observer:
    """Reads the host that lives in the namespace `home`. A lab's own links there are not the host's."""

    def __init__(self, kernel: Kernel, home: str) -> None:
        self._kernel = kernel
        self._home = home

    def node(self, wanted: Iterable[Fact]) -> set[Fact]:
        """What there is of a node's own facts: the settings among `wanted`, the gateway's address, our table."""
        facts = self._settings(wanted)
        facts |= self._kernel.loopback_addresses() | self._kernel.routing.refusals()
        if self._kernel.filter.firewall_is_whole(self._home):
            facts.add(Firewall(self._home))
        return facts

    def pod(self, pod: Pod, site: Site) -> set[Fact]:
        """What there is of one pod that goes: its link, and its namespace, if they are ours, and its rules."""
        facts: set[Fact] = {AllowedSources(self._home, pod.link, frozenset(pod.addresses))}
        link = self._kernel.link(self._home, pod.link)
        if link is not None and link.ours:
            facts.add(Veth(self._home, pod.link, site.namespace, pod.interface, link.mtu, link.mac))
        if site.own and self._kernel.has_namespace(site.namespace) and self._kernel.mark(site.namespace) == site.mark:
            facts.add(Namespace(site.namespace, site.mark))
        return facts | self._accepts(pod)

    def one(self, pod: Pod, site: Site, wanted: Iterable[Fact], *, reachable: bool) -> set[Fact]:
        """All that there is of one pod that stays; the number of others costs little.

        Its namespace is looked into if it is `reachable`, and, where it is Fairway's own, there and marked.
        """
        outer = self._kernel.link_view(self._home, pod.link)
        links = [link for link in outer.links if link.ours]
        facts = self._settings(wanted) | self._accepts(pod) | outer.own()
        facts |= self._kernel.filter.allowed_sources(AllowedSources(self._home, pod.link, frozenset(pod.addresses)))
        if site.own:
            reachable = self._kernel.has_namespace(site.namespace)
            if reachable:
                loopback = self._kernel.link_view(site.namespace, "lo")
                facts.add(Namespace(site.namespace, loopback.mark))
                links += loopback.links
        if reachable:
            inner = self._kernel.link_view(site.namespace, pod.interface)
            facts |= _own_facts(inner, set(wanted))
            links += [link for link in inner.links if link.ours]
        return facts | link_facts(links)

    def far_routes(self) -> set[Fact]:
        """Our routes through other hosts, and what tunnelled ones go by."""
        return {
            *(fact for fact in self._kernel.routing.ours(self._home, far=True) if fact.gateway is not None),
            *self.tunnel(),
        }

    def tunnel(self) -> set[Fact]:
        """Our VXLAN device with its neighbours, and who may send to it."""
        guard = self._kernel.filter.tunnel_guard(self._home)
        return self._kernel.tunnels(self._home) | ({guard} if guard is not None else set())

    def _accepts(self, pod: Pod) -> set[Fact]:
        return {accept for accept in self._kernel.filter.accepts(self._home) if accept.link == pod.link}

    def routes(self, destinations: Iterable[IPNetwork], *, learned: bool = False) -> set[Fact]:
        """Our routes to `destinations`: those that were learned, or the others."""
        found = self._kernel.routing.ours(self._home, set(destinations))
        return {fact for fact in found if fact.learned is learned}

    def rules(self, policies: PolicyRules | None) -> set[Fact]:
        """What there is of network policies, held against what they should be, and what is hidden."""
        table = policies.table if policies is not None else PolicyTable()
        found = (self._kernel.filter.policy_rules(self._home, table), self._kernel.filter.masqueraded(self._home))
        return {fact for fact in found if fact is not None}

    def everything(
        self, desired: Iterable[Fact], prefix: str, mark: str, own: Mapping[str, str], given: Iterable[tuple[Pod, str]]
    ) -> set[Fact]:
        """All that is ours in the host's namespace, in its pods' and in those of pods that should not be.

        `own` says which namespaces should be there and how each should be marked; another one is ours if its name
        begins with `prefix` and its mark with `mark`. `given` are pods in namespaces that a runtime made, and these.
        """
        wanted = set(desired)
        home = self._kernel.view(self._home)
        facts = self._settings(wanted)
        facts |= {fact for fact in home.own() if isinstance(fact, Route) or _links_host(fact)}
        facts |= self._kernel.routing.refusals()
        facts |= self._kernel.filter.firewall(self._home)
        facts |= self._kernel.filter.accepts(self._home)
        links = [link for link in home.links if link.name.startswith(INTERFACE_PREFIX)]
        facts |= self.tunnel()
        for name in self._kernel.namespace_names(prefix):
            found = self._kernel.mark(name)
            if found != own.get(name) and not found.startswith(f"{mark} "):
                continue
            view = self._kernel.view(name)
            facts.add(Namespace(name, view.mark))
            facts |= _own_facts(view, wanted)
            links += _pod_links(view)
        for pod, namespace in given:
            view = self._kernel.link_view(namespace, pod.interface)
            facts |= _own_facts(view, wanted)
            links += [link for link in view.links if link.ours]
        return facts | link_facts(links)

    def _settings(self, wanted: Iterable[Fact]) -> set[Fact]:
        paths: dict[str, list[str]] = {}
        for fact in wanted:
            if isinstance(fact, Sysctl):
                paths.setdefault(fact.namespace, []).append(fact.path)
        facts: set[Fact] = set()
        for namespace, needed in paths.items():
            if namespace == self._home or self._kernel.has_namespace(namespace):
                facts |= self._kernel.settings(namespace, needed)
        return facts


def _links_host(fact: Fact) -> bool:
    """Whether a fact of the host's namespace is on a link of the host's: a pod's, or `lo`."""
    if isinstance(fact, Address | Neighbour | Up):
        return fact.link == "lo" or fact.link.startswith(INTERFACE_PREFIX)
    return isinstance(fact, ForwardAccept)


def _own_facts(view: View, wanted: set[Fact]) -> set[Fact]:
    """What is ours in a pod's namespace. A kernel before 5.18 keeps no mark of an address: one that should be is."""
    facts: set[Fact] = {fact for fact in view.own() if not isinstance(fact, Sysctl)}
    facts.update(record.fact for record in view.addresses if record.fact in wanted)
    return facts


def _pod_links(view: View) -> list[LinkRecord]:
    return [link for link in view.links if link.ours or link.name == "lo"]
