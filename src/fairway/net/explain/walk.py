"""One packet's way, host by host, as the kernels would handle it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fairway.net.explain import mend
from fairway.net.explain.faults import Faults
from fairway.net.explain.fib import Found, lookup, source_for, words
from fairway.net.explain.hooks import pass_device, pass_hook
from fairway.net.explain.packet import Packet, Passage
from fairway.net.explain.reverse import source_stage
from fairway.net.explain.segment import Fabric, is_loop
from fairway.net.explain.snapshot import Host, Link, Route
from fairway.net.explain.tree import Direction, Hop, Stage, Verdict
from fairway.net.model.facts import IPAddress

MOST_HOPS = 64  # the first TTL of most kernels' packets

_NO_WAY = {
    "none": "no route: Network is unreachable",
    "unreachable": "unreachable route: No route to host",
    "prohibit": "prohibit route: Permission denied",
    "blackhole": "blackhole route: dropped in silence",
}
_ACCEPTED = Verdict.ACCEPTED


@dataclass(slots=True)
class Walk:
    """A packet being followed. `tracked`: the namespaces whose connection tracking saw the flow's first packet."""

    fabric: Fabric
    packet: Packet
    target: str | None  # the namespace that the packet is for, if one is known
    tracked: dict[str, str | None]
    hops: list[Hop] = field(default_factory=list)
    sure: bool = True  # nothing on the way may have made it another packet
    doubted: bool = False
    ended: Verdict | None = None
    default_routed: list[tuple[Host, int]] = field(default_factory=list)  # hosts, and which hop, without a nearer route
    visited: set[tuple[str, str]] = field(default_factory=set)
    _stages: list[Stage] = field(default_factory=list)

    def go(self, start: Host) -> None:
        """Follow the packet from `start` to where it ends."""
        onward = self._send(start)
        while onward is not None:
            host, entering = onward
            if (host.name, entering) in self.visited or len(self.hops) >= MOST_HOPS:
                self._stop(Stage("route", Verdict.DROPPED, "goes round in a circle until its TTL is used up"))
                self._finish(host, "forwarded", entering, "")
                break
            self.visited.add((host.name, entering))
            onward = self._receive(host, entering)
        if self.ended is None or not self.ended.fatal:
            return
        Faults(self.fabric, self.packet.destination, self.target).blame_default(self.hops, self.default_routed)

    @property
    def verdict(self) -> Verdict:
        """What becomes of the packet, by all that was found."""
        if self.ended is not None and (self.ended is Verdict.UNKNOWN or self.ended.fatal):
            return self.ended if self.sure else Verdict.UNKNOWN
        return Verdict.UNKNOWN if self.doubted else Verdict.ACCEPTED

    # A host

    def _send(self, host: Host) -> tuple[Host, str] | None:
        passage = self._passage(host, "")
        found = lookup(host, self.packet.destination, self.packet.source)
        faults = Faults(self.fabric, self.packet.destination, self.target)
        route = self._routed(host, found, faults.own_address(host, self.packet.source) or faults.misrouted(host, found))
        leaving = route.link if route else ""
        if route is not None and route.kind == "local":
            leaving = "lo"
        passage.leaving = leaving
        for hook in ("output", "postrouting"):
            if self.ended is None:
                self._take(pass_hook(host, self.fabric.ruleset(host), hook, passage))
        onward = self._depart(host, route, passage, forwarded=False) if self.ended is None else None
        self._finish(host, "sent", "", leaving)
        self.tracked.setdefault(host.name, passage.state)
        return onward

    def _receive(self, host: Host, entering: str) -> tuple[Host, str] | None:
        passage = self._passage(host, entering)
        if self.packet.version == 6 and host.number(f"net/ipv6/conf/{entering}/disable_ipv6"):
            self._stop(Stage("device", Verdict.DROPPED, f"IPv6 is switched off on {entering} (disable_ipv6)"))
            self._finish(host, "received", entering, "")
            return None
        self._take(pass_device(host, self.fabric.ruleset(host), "ingress", passage))
        back = lookup(host, self.packet.source, None)
        passage.way_back = None if back.doubt else back.route.link if back.route is not None else ""
        if self.ended is None:
            self._take(pass_hook(host, self.fabric.ruleset(host), "prerouting", passage))
        found = lookup(host, self.packet.destination, self.packet.source, entering)
        here = found.kind == "local"
        if self.ended is None and entering != "lo":
            self._take(source_stage(host, self.packet, entering))
        if self.ended is None and here:
            self._deliver(host, found, passage)
        onward = None
        if self.ended is None and not here:
            onward = self._forward(host, found, passage)
        self._finish(host, "received" if here else "forwarded", entering, passage.leaving)
        self.tracked.setdefault(host.name, passage.state)
        return onward

    def _deliver(self, host: Host, found: Found, passage: Passage) -> None:
        self._stages.append(Stage("route", _ACCEPTED, f"local: {words(found.route)}" if found.route else "local"))
        self._take(pass_hook(host, self.fabric.ruleset(host), "input", passage))
        if self.ended is not None:
            return
        if self.target is not None and host.name != self.target:
            text = f"{host.label} itself has {self.packet.destination}: it takes the packet in the other's place"
            self._take([Stage("INPUT", Verdict.UNKNOWN, text)])
        setting = "net/ipv4/icmp_echo_ignore_all" if self.packet.version == 4 else "net/ipv6/icmp/echo_ignore_all"
        if self.packet.protocol == "icmp" and not self.packet.reply and host.number(setting):
            self._stop(Stage("INPUT", Verdict.DROPPED, f"arrives, but {host.label} answers no echo ({setting})"))
            return
        self.ended = _ACCEPTED

    def _forward(self, host: Host, found: Found, passage: Passage) -> tuple[Host, str] | None:
        faults = Faults(self.fabric, self.packet.destination, self.target)
        off = faults.not_forwarding(host, passage.entering, self.packet.version)
        if off is not None:
            self._stop(off)
            return None
        route = self._routed(host, found, faults.misrouted(host, found))
        if route is None or self.ended is not None:
            return None
        if (
            any(address.is_link_local for address in (self.packet.source, self.packet.destination))
            and self.packet.version == 6
        ):
            self._stop(Stage("FORWARD", Verdict.DROPPED, "link-local addresses are not forwarded"))
            return None
        passage.leaving = route.link
        for hook in ("forward", "postrouting"):
            if self.ended is None:
                self._take(pass_hook(host, self.fabric.ruleset(host), hook, passage))
        return self._depart(host, route, passage, forwarded=True) if self.ended is None else None

    # A step

    def _routed(self, host: Host, found: Found, fault: Stage | None) -> Route | None:
        """Note the route taken; None if there is none. `fault` is what is known to be wrong with it."""
        if fault is not None:
            self._take([fault])
            if fault.verdict.fatal:
                return None
        elif found.kind not in ("unicast", "local"):
            self._no_route(host, found, forwarded=bool(self.hops))
            return None
        elif found.route is not None:
            local = found.kind == "local"
            self._stages.append(
                Stage("route", _ACCEPTED, words(found.route) if local else f"not local: {words(found.route)}")
            )
        if found.route is not None and found.route.destination.prefixlen == 0:
            self.default_routed.append((host, len(self.hops)))
        if host.transforms:
            self._take([Stage("route", Verdict.UNKNOWN, "IPsec policies (xfrm) are not followed", speculative=True)])
        return found.route

    def _no_route(self, host: Host, found: Found, *, forwarded: bool) -> None:
        text = _NO_WAY.get(found.kind)
        if text is None:
            doubt = found.doubt or f"a route of type {found.kind} is not followed"
            self._stop(Stage("route", Verdict.UNKNOWN, doubt))
            return
        faults = Faults(self.fabric, self.packet.destination, self.target)
        verdict = Verdict.DROPPED if found.kind == "blackhole" else Verdict.UNREACHABLE
        route = f" ({words(found.route)})" if found.route else f" to {self.packet.destination}"
        self._stop(Stage("route", verdict, text + route, mend=faults.route_mend(host, forwarded=forwarded)))

    def _depart(self, host: Host, route: Route | None, passage: Passage, *, forwarded: bool) -> tuple[Host, str] | None:
        """Leave by the route's device; who takes the packet there, and by which interface."""
        if route is None:
            return None
        if route.kind == "local":
            self._stages.append(Stage("device", _ACCEPTED, "lo: back to the same host"))
            return host, "lo"
        link = host.link(route.link)
        faulty = _device_fault(host, link, route, self.packet.version)
        if faulty is not None or link is None:
            self._stop(faulty or Stage("device", Verdict.UNKNOWN, "the route names no interface"))
            return None
        self._take(pass_device(host, self.fabric.ruleset(host), "egress", passage))
        if self.ended is not None:
            return None
        if is_loop(link):
            self._stop(Stage("device", Verdict.UNKNOWN, "a route by lo is not followed"))
            return None
        if route.tunnel is not None:
            return self._tunnel(host, link, route, route.tunnel)
        next_hop = route.gateway or self.packet.destination
        return self._cross(host, link, next_hop, forwarded=forwarded)

    def _cross(self, host: Host, link: Link, next_hop: IPAddress, *, forwarded: bool) -> tuple[Host, str] | None:
        segment, answer = self.fabric.answer(host, link, next_hop, forwarded=forwarded)
        if answer.refusal:
            where = f"{link.name} to {next_hop}: {answer.refusal}"
            faults = Faults(self.fabric, self.packet.destination, self.target)
            self._stop(Stage("device", Verdict.UNREACHABLE, where, mend=faults.segment_mend(segment, next_hop)))
            return None
        if answer.end is None:
            wire = answer.doubt == "the wire"
            text = f"leaves to the wire by {link.name} (next hop {next_hop}); what is beyond is not known here"
            faults = Faults(self.fabric, self.packet.destination, self.target)
            lost = faults.lost_on_the_wire(host) if wire else None
            self._stop(lost or Stage("device", Verdict.UNKNOWN, text if wire else f"{link.name}: {answer.doubt}"))
            return None
        doubt = self.fabric.crossing_doubt(segment, self.packet.version)
        if doubt:
            self._take([Stage("device", Verdict.UNKNOWN, doubt, speculative=True)])
        end = answer.end
        self._stages.append(
            Stage("device", _ACCEPTED, f"{link.name} to {next_hop}: {end.link.name} of {end.host.label}")
        )
        return end.host, end.link.name

    def _tunnel(self, host: Host, link: Link, route: Route, target: IPAddress) -> tuple[Host, str] | None:
        """Within VXLAN to the host that has `target`: its packet's way is followed as any other's."""
        source, _ = choose_source(host, target)
        if link.kind != "vxlan" or source is None:
            self._stop(Stage("device", Verdict.UNKNOWN, f"{link.name}: not a tunnel that is followed"))
            return None
        outer = Walk(self.fabric, Packet(source, target, "udp", None, link.udp_port or None), None, {})
        outer.go(host)
        way = " -> ".join(hop.label for hop in outer.hops)
        stages = [stage for hop in outer.hops for stage in hop.stages]
        if outer.verdict is not _ACCEPTED:
            why = next((s.text for s in stages if s.verdict is outer.verdict), stages[-1].text)
            where = outer.hops[-1].label
            self._stop(Stage("device", outer.verdict, f"within VXLAN to {target} ({way}): on {where}, {why}"))
            return None
        end = self.fabric.world[outer.hops[-1].namespace]
        macs = {each.mac for each in host.neighbours if (each.link, each.address) == (link.name, route.gateway)}
        taking = [each for each in end.links if each.kind == "vxlan" and each.up and {each.mac} == macs]
        if len(taking) != 1 or taking[0].udp_port != link.udp_port:
            self._stop(Stage("device", Verdict.UNKNOWN, f"which device of {end.label} takes it is not known"))
            return None
        self._stages.append(
            Stage(
                "device", _ACCEPTED, f"{link.name}, within VXLAN to {target} ({way}): {taking[0].name} of {end.label}"
            )
        )
        return end, taking[0].name

    def _passage(self, host: Host, entering: str) -> Passage:
        state: str | None = "new"
        if self.packet.reply:
            seen = self.tracked.get(host.name)
            state = "established" if seen in ("new", "established") else seen
        elif any(hop.namespace == host.name for hop in self.hops):
            state = self.tracked.get(host.name)
        again = any(hop.namespace == host.name for hop in self.hops)
        return Passage(self.packet, state, entering, mark=None if again else 0)

    def _take(self, stages: list[Stage]) -> None:
        """Note stages; one that stops the packet ends the walk."""
        for stage in stages:
            self._stages.append(stage)
            self.doubted |= stage.verdict is Verdict.UNKNOWN
            if stage.verdict.fatal:
                self.ended = stage.verdict
            self.sure &= not stage.speculative

    def _stop(self, stage: Stage) -> None:
        self._take([stage])
        self.ended = stage.verdict

    def _finish(self, host: Host, way: str, entering: str, leaving: str) -> None:
        self.hops.append(Hop(host.name, host.label, way, entering, leaving, tuple(self._stages)))
        self._stages = []


def _device_fault(host: Host, link: Link | None, route: Route, version: int) -> Stage | None:
    if link is None:
        return None if not route.link else Stage("device", Verdict.UNKNOWN, f"there is no interface {route.link}")
    if not link.up:
        return Stage("device", Verdict.DROPPED, f"{link.name} is down", mend=mend.for_link(host, link.name))
    if version == 6 and host.number(f"net/ipv6/conf/{link.name}/disable_ipv6"):
        return Stage("device", Verdict.DROPPED, f"IPv6 is switched off on {link.name} (disable_ipv6)")
    return None


def direction(walk: Walk, name: str, *, supposed: bool = False) -> Direction:
    """The finished walk as a direction of the tree."""
    packet = walk.packet
    return Direction(name, packet.source, packet.destination, tuple(walk.hops), walk.verdict, supposed)


def choose_source(host: Host, destination: IPAddress) -> tuple[IPAddress | None, Found]:
    """The source that the kernel of `host` gives a packet to `destination`, and the route it goes by."""
    found = lookup(host, destination, None)
    if found.route is None or found.doubt:
        return None, found
    return source_for(host, destination, found.route), found


def answer_to(packet: Packet) -> Packet:
    """The packet that answers `packet`."""
    return replace(
        packet,
        source=packet.destination,
        destination=packet.source,
        source_port=packet.destination_port,
        destination_port=packet.source_port,
        reply=True,
    )
