"""A lab's ground in the kernel: its nodes, routers and links, without the pods, which each node's host sees to."""

from __future__ import annotations

from collections.abc import Iterable

from fairway.lab.topology.facts import BRIDGE
from fairway.net.kernel import Kernel, View
from fairway.net.kernel.records import LinkRecord, link_facts
from fairway.net.model.facts import Address, Fact, Namespace, Neighbour, Route, Sysctl, Up
from fairway.net.model.names import INTERFACE_PREFIX


def mark(lab: str) -> str:
    """What the mark of every namespace of a lab begins with."""
    return f"fairway lab {lab} "


def namespaces(kernel: Kernel, lab: str) -> dict[str, str]:
    """Every namespace of a lab with its mark, its pods' too."""
    marks = {name: kernel.mark(name) for name in kernel.namespace_names(f"{lab}.")}
    return {name: found for name, found in marks.items() if found.startswith(mark(lab))}


def is_pod(found: str) -> bool:
    """Whether a namespace with this mark is a pod's: `fairway lab LAB node NODE pod POD`."""
    return len(found.split()) == 7


def observe(kernel: Kernel, marks: dict[str, str], desired: Iterable[Fact]) -> set[Fact]:
    """The facts of the lab's ground, in the namespaces of `marks`; settings are those that `desired` speaks of."""
    facts: set[Fact] = set()
    links: list[LinkRecord] = []
    for name, found in marks.items():
        if is_pod(found):
            continue
        view = kernel.view(name)
        facts.add(Namespace(name, found))
        facts |= {fact for fact in view.own() if _is_ground(fact, router=" router " in found)}
        links += [link for link in view.links if not link.name.startswith(INTERFACE_PREFIX)]
        facts |= _unmarked(view)
    paths: dict[str, list[str]] = {}
    for fact in desired:
        if isinstance(fact, Sysctl) and fact.namespace in marks:
            paths.setdefault(fact.namespace, []).append(fact.path)
    for name, needed in paths.items():
        facts |= kernel.settings(name, needed)
    return facts | link_facts(links)


def _is_ground(fact: Fact, *, router: bool) -> bool:
    """Whether a fact of a node's namespace is the lab's own: not on a pod's link, not the host's gateway or route."""
    if isinstance(fact, Route):
        return router
    if isinstance(fact, Address | Neighbour | Up):
        return fact.link != "lo" and not fact.link.startswith(INTERFACE_PREFIX)
    return True


def _unmarked(view: View) -> set[Fact]:
    """Addresses that a kernel before 5.18 keeps no mark of: in a lab's own namespaces they are ours all the same."""
    ours = {link.name for link in view.links if link.ours and link.name != BRIDGE}
    return {
        record.fact
        for record in view.addresses
        if isinstance(record.fact, Address)
        and record.fact.link in ours
        and not record.fact.link.startswith(INTERFACE_PREFIX)
        and not record.fact.interface.ip.is_link_local
    }
