"""plan(desired, observed) -> [operation]."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fairway.net.model.facts import (
    Address,
    AllowedSources,
    Bridge,
    BridgePort,
    Fact,
    Key,
    Namespace,
    Neighbour,
    Route,
    Sysctl,
    Up,
    Veth,
    Vxlan,
)
from fairway.net.model.operations import Change, Create, Delete, Operation

_End = tuple[str, str]  # namespace, interface


def plan(desired: Iterable[Fact], observed: Iterable[Fact]) -> list[Operation]:
    """What makes `observed` into `desired`: first what is taken away, from the top; then what is made, from the ground.

    Settings and interfaces' states are set but never unset: what they were before is not ours to know. What goes by
    itself with a namespace or an interface is not taken away one by one.
    """
    wanted = {fact.key: fact for fact in desired}
    present = {fact.key: fact for fact in observed}
    doomed = _doomed(wanted, present)
    deletions: list[Operation] = [Delete(fact) for fact in doomed]
    gone = {fact.name for fact in doomed if isinstance(fact, Namespace)}
    broken = {end for fact in doomed for end in _ends(fact)}
    standing = {key: fact for key, fact in present.items() if fact not in doomed and not _goes_with(fact, gone, broken)}
    deletions += [
        Delete(fact) for key, fact in standing.items() if key not in wanted and not isinstance(fact, Sysctl | Up)
    ]
    makings: list[Operation] = []
    for key, fact in wanted.items():
        now = standing.get(key)
        if now is None or _is_in_doubt(now, broken):
            makings.append(Create(fact))
        elif not satisfies(now, fact):
            makings.append(Change(fact, now))
    deletions.sort(key=_order, reverse=True)
    makings.sort(key=_order)
    return deletions + makings


def satisfies(now: Fact, wanted: Fact) -> bool:
    """Whether the observed fact `now` is as `wanted` says; what `wanted` leaves open may be anything."""
    if isinstance(now, Veth) and isinstance(wanted, Veth):
        now = replace(
            now,
            mac=now.mac if wanted.mac else "",
            peer_mac=now.peer_mac if wanted.peer_mac else "",
        )
        if wanted.shared_peer:
            now = replace(now, peer_mtu=0, peer_mac=wanted.peer_mac, shared_peer=True)
    elif isinstance(now, Route) and isinstance(wanted, Route) and not wanted.link:
        now = replace(now, link="")
    return now == wanted


def _doomed(wanted: dict[Key, Fact], present: dict[Key, Fact]) -> set[Fact]:
    """The namespaces and links that go: not wanted, or wanted with another far end, or port, which no change brings."""
    namespaces = {fact for key, fact in present.items() if isinstance(fact, Namespace) and key not in wanted}
    names = {fact.name for fact in namespaces}
    links: set[Fact] = set()
    for key, fact in present.items():
        if isinstance(fact, Veth):
            other = wanted.get(key)
            if isinstance(other, Veth) and (fact.peer_namespace, fact.peer) == (other.peer_namespace, other.peer):
                continue
            # A pair whose ends both go with their namespaces goes with them.
            if not {fact.namespace, fact.peer_namespace} <= names:
                links.add(fact)
        elif isinstance(fact, Bridge | Vxlan) and fact.namespace not in names:
            other = wanted.get(key)
            if other is None or (isinstance(fact, Vxlan) and isinstance(other, Vxlan) and fact.port != other.port):
                links.add(fact)
    return namespaces | links


def _ends(fact: Fact) -> list[_End]:
    if isinstance(fact, Veth):
        return [(fact.namespace, fact.name), (fact.peer_namespace, fact.peer)]
    if isinstance(fact, Bridge | Vxlan):
        return [(fact.namespace, fact.name)]
    return []


def _goes_with(fact: Fact, namespaces: set[str], broken: set[_End]) -> bool:
    """Whether `fact` vanishes with one of the namespaces or one of the broken links' ends."""
    if isinstance(fact, Namespace):
        return fact.name in namespaces
    if fact.namespace in namespaces:
        return True
    if isinstance(fact, BridgePort) and (fact.namespace, fact.bridge) in broken:
        return True
    if isinstance(fact, Up | Address | Neighbour | Route | BridgePort):
        return (fact.namespace, fact.link) in broken
    if isinstance(fact, Sysctl):
        return any(fact.namespace == namespace and f"/{link}/" in fact.path for namespace, link in broken)
    return False


def _is_in_doubt(fact: Fact, broken: set[_End]) -> bool:
    """Whether `fact` vanishes with a broken link in some kernels only (a chain at its ingress: before Linux 6.16).

    So it is taken away by itself if it is not wanted, and made in any case if it is.
    """
    return isinstance(fact, AllowedSources) and (fact.namespace, fact.link) in broken


def _order(operation: Operation) -> tuple[int, str, str]:
    """Ground first; a far-fetched route after those to what is directly on a link, as its gateway may need them.

    What guards a link comes before the link is up, and goes after the link.
    """
    fact = operation.fact
    far = isinstance(fact, Route) and fact.gateway is not None
    rank = 0 if isinstance(fact, AllowedSources) and isinstance(operation, Delete) else fact.rank
    return (rank, "far" if far else "", "" if isinstance(fact, Namespace) else fact.namespace)
