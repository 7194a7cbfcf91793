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
    Route,
    Sysctl,
    Up,
    Veth,
)
from fairway.net.model.names import INTERFACE_PREFIX, POD_INTERFACE
from fairway.net.model.pod import Pod


class Observer:
    """Reads the host that lives in the namespace `home`. A lab's own links there are not the host's."""

    def __init__(self, kernel: Kernel, home: str) -> None:
        self._kernel = kernel
        self._home = home

    def node(self, wanted: Iterable[Fact]) -> set[Fact]:
        """What there is of a node's own facts: the settings among `wanted`, the gateway's address, our table."""
        facts = self._settings(wanted)
        facts |= {fact for fact in self._kernel.loopback_addresses() if isinstance(fact, Address)}
        if self._kernel.firewall_is_whole(self._home):
            facts.add(Firewall(self._home))
        return facts

    def pod(self, pod: Pod, namespace: str, mark: str) -> set[Fact]:
        """What there is of one pod that goes: its namespace and link if they are ours, and its rules."""
        facts: set[Fact] = {AllowedSources(self._home, pod.link, frozenset(pod.addresses))}
        link = self._kernel.link(self._home, pod.link)
        if link is not None and link.ours:
            facts.add(Veth(self._home, pod.link, namespace, POD_INTERFACE, link.mtu, link.mac))
        if self._kernel.has_namespace(namespace) and self._kernel.mark(namespace) == mark:
            facts.add(Namespace(namespace, mark))
        facts |= {accept for accept in self._kernel.accepts(self._home) if accept.link == pod.link}
        return facts

    def routes(self, destinations: Iterable[IPNetwork]) -> set[Fact]:
        """Our routes to `destinations`."""
        wanted = set(destinations)
        return {fact for fact in self._kernel.routes(self._home) if fact.destination in wanted}

    def everything(self, desired: Iterable[Fact], prefix: str, mark: str, marks: Mapping[str, str]) -> set[Fact]:
        """All that is ours in the host's namespace, in its pods' and in those of pods that should not be.

        `marks` says which namespaces should be there and how each should be marked; another one is ours if its name
        begins with `prefix` and its mark with `mark`.
        """
        wanted = set(desired)
        home = self._kernel.view(self._home)
        facts = self._settings(wanted)
        facts |= {fact for fact in home.own() if isinstance(fact, Route) or _links_host(fact)}
        facts |= self._kernel.firewall(self._home)
        facts |= self._kernel.accepts(self._home)
        links = [link for link in home.links if link.name.startswith(INTERFACE_PREFIX)]
        for name in self._kernel.namespace_names(prefix):
            found = self._kernel.mark(name)
            if found != marks.get(name) and not found.startswith(f"{mark} "):
                continue
            view = self._kernel.view(name)
            facts.add(Namespace(name, view.mark))
            facts |= {fact for fact in view.own() if not isinstance(fact, Sysctl)}
            # A kernel before 5.18 keeps no mark of an address: one that should be there is ours.
            facts |= {record.fact for record in view.addresses if record.fact in wanted}
            links += _pod_links(view)
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


def _pod_links(view: View) -> list[LinkRecord]:
    return [link for link in view.links if link.ours or link.name == "lo"]
