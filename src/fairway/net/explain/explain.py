"""The question, and its answer: what becomes of a packet from A to B, and of the answer to it."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.net.explain.fib import words
from fairway.net.explain.packet import Packet
from fairway.net.explain.segment import Fabric
from fairway.net.explain.snapshot import Host, Wires, World
from fairway.net.explain.tree import Direction, Explanation, Hop, Stage, Verdict
from fairway.net.explain.walk import Walk, answer_to, choose_source, direction
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress

VERSIONS = (4, 6)


@dataclass(frozen=True, slots=True)
class Place:
    """One side of the question: its name, its namespace (None: only the address is known), what it is known by."""

    name: str
    namespace: str | None
    addresses: tuple[IPAddress, ...] = ()
    exact: bool = False  # it was named by its address: as a source, that is the packet's


@dataclass(frozen=True, slots=True)
class Question:
    """A packet of `protocol` ("icmp", "tcp", "udp") from `source` to `destination`, to `port` there."""

    source: Place
    destination: Place
    protocol: str = "icmp"
    port: int | None = None
    version: int | None = None  # of IP; None: the first that both sides have


def explain(world: World, question: Question, wires: Wires | None = None) -> Explanation:
    """The tree of stages that the packet and its answer pass. Nothing is sent; nothing is read but `world`."""
    fabric = Fabric(world, wires or {})
    start = _host(world, question.source)
    destination = _destination(world, question, start)
    source, found = choose_source(start, destination)
    if question.source.exact or source is None:
        source = _known_source(question.source, destination.version)
    if source is None:
        there = _sourceless(start, destination, words(found.route) if found.route else "", found.doubt)
        return _explanation(question, there, None)
    packet = Packet(source, destination, question.protocol, None, question.port)
    walk = Walk(fabric, packet, question.destination.namespace, {})
    walk.go(start)
    there = direction(walk, "there")
    return _explanation(question, there, _back(fabric, question, walk, start))


def _back(fabric: Fabric, question: Question, walk: Walk, start: Host) -> Direction | None:
    """The answer's way, if it is known who answers; supposed, if the packet would not have come to be answered."""
    last = walk.hops[-1] if walk.hops else None
    arrived = last is not None and last.way == "received" and not walk.verdict.fatal and walk.ended is Verdict.ACCEPTED
    name = last.namespace if arrived and last is not None else question.destination.namespace
    answerer = fabric.world.get(name) if name is not None else None
    if answerer is None:
        return None
    if not arrived:  # suppose that the hosts on the way have let it through
        for host in [hop.namespace for hop in walk.hops] + [answerer.name]:
            walk.tracked.setdefault(host, "new")
    back = Walk(fabric, answer_to(walk.packet), start.name, walk.tracked, sure=walk.sure or not arrived)
    back.go(answerer)
    return direction(back, "back", supposed=not arrived)


def _explanation(question: Question, there: Direction, back: Direction | None) -> Explanation:
    return Explanation(question.source.name, question.destination.name, question.protocol, question.port, there, back)


def _sourceless(start: Host, destination: IPAddress, route: str, doubt: str) -> Direction:
    if doubt or route:
        text = doubt or f"{route}: which source address the kernel takes cannot be told; name the address itself"
        stage = Stage("route", Verdict.UNKNOWN, text)
    else:
        stage = Stage("route", Verdict.UNREACHABLE, f"no route: Network is unreachable to {destination}")
    hop = Hop(start.name, start.label, "sent", "", "", (stage,))
    return Direction("there", None, destination, (hop,), stage.verdict)


def _host(world: World, place: Place) -> Host:
    host = world.get(place.namespace) if place.namespace is not None else None
    if host is None:
        raise UsageError(
            f"{place.name}: no namespace of this machine has that address, so what it does cannot be read",
            mend="name a pod or a node to start from",
        )
    return host


def _destination(world: World, question: Question, start: Host) -> IPAddress:
    """The address that the packet is for: of a version that both sides have."""
    place = question.destination
    known = place.addresses or _own(world, place)
    ours = question.source.addresses or tuple(
        each.interface.ip for each in start.addresses if _usable(each.interface.ip)
    )
    for version in (question.version,) if question.version else VERSIONS:
        theirs = [address for address in known if address.version == version]
        if theirs and any(address.version == version for address in ours):
            return theirs[0]
    if known and (question.version is None or any(address.version == question.version for address in known)):
        return next(a for a in known if question.version in (None, a.version))
    raise UsageError(f"{place.name} has no address to send to", mend="give an address instead of a name")


def _own(world: World, place: Place) -> tuple[IPAddress, ...]:
    host = world.get(place.namespace) if place.namespace is not None else None
    if host is None:
        return ()
    return tuple(each.interface.ip for each in host.addresses if _usable(each.interface.ip) and each.scope == 0)


def _known_source(place: Place, version: int) -> IPAddress | None:
    return next((address for address in place.addresses if address.version == version), None)


def _usable(address: IPAddress) -> bool:
    return not (address.is_loopback or address.is_link_local)
