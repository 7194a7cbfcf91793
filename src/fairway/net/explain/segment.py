"""The link layer: which namespaces' interfaces a frame reaches, and whose of them has the address that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from fairway.net.explain.fib import lookup
from fairway.net.explain.hooks import pass_device, pass_hook
from fairway.net.explain.packet import Packet, Passage
from fairway.net.explain.ruleset import Ruleset
from fairway.net.explain.snapshot import LOOPBACK, Host, Link, Neighbour, Wires, World
from fairway.net.explain.tree import Verdict
from fairway.net.model.facts import IPAddress

_BRIDGE_CALLS = {4: "net/bridge/bridge-nf-call-iptables", 6: "net/bridge/bridge-nf-call-ip6tables"}
_BRIDGE_HOOKS = ("prerouting", "forward", "postrouting")


@dataclass(frozen=True, slots=True)
class End:
    """An interface that takes packets in for a host."""

    host: Host
    link: Link


@dataclass(slots=True)
class Segment:
    """All ends that a frame may reach. Not `complete`: it also leaves the namespaces that are known."""

    ends: list[End] = field(default_factory=list)
    complete: bool = True
    down: list[str] = field(default_factory=list)  # ends that are down, in words
    doubts: list[str] = field(default_factory=list)
    bridges: set[str] = field(default_factory=set)  # the namespaces of the bridges that it crosses


@dataclass(frozen=True, slots=True)
class Answer:
    """Who takes the packet; or why nobody does (`refusal`), or why it cannot be told (`doubt`)."""

    end: End | None = None
    refusal: str = ""
    doubt: str = ""


@dataclass(slots=True)
class Fabric:
    """What joins the namespaces."""

    world: World
    wires: Wires
    rulesets: dict[str, Ruleset | None] = field(default_factory=dict)

    def ruleset(self, host: Host) -> Ruleset | None:
        """The host's nftables rules, read once; None if they could not be."""
        if host.name not in self.rulesets:
            self.rulesets[host.name] = None if host.ruleset is None else Ruleset(host.ruleset)
        return self.rulesets[host.name]

    def segment(self, host: Host, link: Link) -> Segment:
        """What a frame reaches that leaves `host` by `link`."""
        segment = Segment()
        seen = {(host.name, link.index)}
        if link.kind == "bridge":
            self._bridge(host, link, segment, seen)
        else:
            self._cross(host, link, segment, seen)
        return segment

    def answer(self, host: Host, link: Link, address: IPAddress, *, forwarded: bool) -> tuple[Segment, Answer]:
        """Who on the segment has `address`, as the kernel of `host` would find out."""
        segment = self.segment(host, link)
        known = [each for each in host.neighbours if each.link == link.name and each.address == address]
        fixed = next((each for each in known if each.permanent), None)
        if fixed is not None:
            return segment, _by_mac(segment, fixed)
        if fixed is None and any(self._has_arp_chains(each) for each in [host, *(end.host for end in segment.ends)]):
            return segment, Answer(doubt="a table of the arp family sees the question for its address")
        having, doubt = [], ""
        for end in segment.ends:
            if _may_have(end, address):
                having.append(end)
                doubt = doubt or self._refusal(host, link, end, address, forwarded=forwarded)
            elif _proxies(end, address):
                doubt = f"{end.host.label} may answer for {address} (proxy_arp, proxy_ndp)"
        if doubt or len(having) > 1:
            several = " and ".join(end.host.label for end in having)
            return segment, Answer(doubt=doubt or f"{several} all have {address}")
        return segment, _checked(segment, having, address, known)

    def crossing_doubt(self, segment: Segment, version: int) -> str:
        """Why a bridge on the way may drop the packet; empty if none does."""
        for doubt in segment.doubts:
            return doubt
        for name in segment.bridges:
            host = self.world[name]
            ruleset = self.ruleset(host)
            if ruleset is None or ruleset.has_family("bridge"):
                return f"a table of the bridge family in {host.label} sees the packet"
            called = host.number(_BRIDGE_CALLS[version])
            chains = any(ruleset.base_chains(hook, version) for hook in _BRIDGE_HOOKS)
            if called and (chains or any(table.version == version for table in host.legacy)):
                return f"the bridge in {host.label} hands packets to its IP tables ({_BRIDGE_CALLS[version]})"
        return ""

    def _cross(self, host: Host, link: Link, segment: Segment, seen: set[tuple[str, int]]) -> None:
        """Follow `link` to its far ends."""
        found = False
        for other, far in self._far_ends(host, link):
            found = True
            if (other.name, far.index) in seen:
                continue
            seen.add((other.name, far.index))
            self._arrive(other, far, segment, seen)
        if not found:
            segment.complete = False

    def _far_ends(self, host: Host, link: Link) -> Iterator[tuple[Host, Link]]:
        if link.kind == "veth" and link.peer is not None:
            other = self.world.get(link.peer.namespace)
            far = other.link_at(link.peer.index) if other else None
            if other and far:
                yield other, far

    def _arrive(self, host: Host, link: Link, segment: Segment, seen: set[tuple[str, int]]) -> None:
        if not link.up:
            segment.down.append(f"{link.name} in {host.label}")
            return
        master = host.link_at(link.master) if link.master else None
        if link.filtered and link.master:
            segment.doubts.append(f"{link.name} in {host.label} filters by a program, VLAN or isolation")
        joined = self.wires.get((host.name, link.name))
        if joined is not None:
            for far in filter(None, (host.link(name) for name in joined)):
                if (host.name, far.index) not in seen:
                    seen.add((host.name, far.index))
                    self._cross(host, far, segment, seen)
        elif not link.master:
            segment.ends.append(End(host, link))
        elif master is None or master.kind != "bridge":
            segment.complete = False
        else:
            self._bridge(host, master, segment, seen)

    def _bridge(self, host: Host, bridge: Link, segment: Segment, seen: set[tuple[str, int]]) -> None:
        segment.bridges.add(host.name)
        if not bridge.up:
            segment.down.append(f"{bridge.name} in {host.label}")
            return
        if bridge.filtered:
            segment.doubts.append(f"the bridge {bridge.name} in {host.label} filters VLANs")
        if (host.name, bridge.index) not in seen:
            seen.add((host.name, bridge.index))
            segment.ends.append(End(host, bridge))
        for port in host.links:
            if port.master == bridge.index and port.up and (host.name, port.index) not in seen:
                seen.add((host.name, port.index))
                self._cross(host, port, segment, seen)

    def _has_arp_chains(self, host: Host) -> bool:
        ruleset = self.ruleset(host)
        return ruleset is None or ruleset.has_family("arp")

    def _refusal(self, host: Host, link: Link, end: End, address: IPAddress, *, forwarded: bool) -> str:
        """Why the end may not answer the question for its address, though it has it; empty if it does."""
        if address.version == 4:
            return _arp_doubt(host, link, end, address, forwarded=forwarded)
        for asked, hook, message, entering, leaving in (
            (host, "output", "nd-neighbor-solicit", "", link.name),
            (host, "postrouting", "nd-neighbor-solicit", "", link.name),
            (end.host, "prerouting", "nd-neighbor-solicit", end.link.name, ""),
            (end.host, "input", "nd-neighbor-solicit", end.link.name, ""),
            (end.host, "output", "nd-neighbor-advert", "", end.link.name),
            (end.host, "postrouting", "nd-neighbor-advert", "", end.link.name),
            (host, "prerouting", "nd-neighbor-advert", link.name, ""),
            (host, "input", "nd-neighbor-advert", link.name, ""),
        ):
            asks = message == "nd-neighbor-solicit"
            to = _solicited_node(address) if asks else address
            packet = Packet(address, to, "icmp", discovery=message, hidden="saddr" if asks else "daddr")
            passage = Passage(packet, "untracked", entering, leaving)
            stages = pass_hook(asked, self.ruleset(asked), hook, passage)
            if hook == "prerouting":
                stages = [*pass_device(asked, self.ruleset(asked), "ingress", passage), *stages]
            if any(stage.verdict is not Verdict.ACCEPTED for stage in stages):
                return (
                    f"{hook.upper()} of {asked.label} may drop the question for {address}'s link address, or its answer"
                )
        return ""


def _solicited_node(address: IPAddress) -> IPAddress:
    """The multicast address that the question for `address` goes to: RFC 4291 2.7.1."""
    return IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(address) & 0xFFFFFF)


def _by_mac(segment: Segment, neighbour: Neighbour) -> Answer:
    having = [end for end in segment.ends if end.link.mac == neighbour.mac]
    if len(having) == 1:
        return Answer(having[0])
    if having or not segment.complete:
        return Answer(doubt=f"who has the link address {neighbour.mac} cannot be told")
    if any(end.link.tapped for end in segment.ends):
        return Answer(doubt="a program with a packet socket may carry the packet on")
    down = f" ({', '.join(segment.down)} is down)" if segment.down else ""
    return Answer(refusal=f"nobody there has the link address {neighbour.mac} of {neighbour.address}{down}")


def _checked(segment: Segment, having: list[End], address: IPAddress, known: list[Neighbour]) -> Answer:
    """The one end that has the address, unless something else may be at play."""
    macs = {each.mac for each in known if each.mac}
    if not having:
        if not segment.complete:
            return Answer(doubt="the wire")
        if any(end.link.tapped for end in segment.ends):
            return Answer(doubt="a program with a packet socket may carry the packet on")
        if macs & {end.link.mac for end in segment.ends}:
            return Answer(doubt=f"nobody has {address} any more, but its link address is remembered")
        down = f"; {', '.join(segment.down)} is down" if segment.down else ""
        return Answer(refusal=f"nobody there has {address}{down}")
    if macs and macs != {having[0].link.mac}:
        return Answer(doubt=f"the remembered link address of {address} is another than {having[0].host.label}'s")
    if not segment.complete:
        return Answer(doubt=f"{having[0].host.label} has {address}, but the segment goes on beyond what is known")
    return Answer(having[0])


def _may_have(end: End, address: IPAddress) -> bool:
    if address.version == 6:
        return any(a.interface.ip == address and a.link == end.link.name for a in end.host.addresses)
    return end.host.has(address) or lookup(end.host, address, None).kind == "local"


def _proxies(end: End, address: IPAddress) -> bool:
    setting = "proxy_arp" if address.version == 4 else "proxy_ndp"
    return end.host.strongest(address.version, end.link.name, setting) > 0


def _arp_doubt(host: Host, link: Link, end: End, address: IPAddress, *, forwarded: bool) -> str:
    other, name = end.host, end.link.name
    if other.strongest(4, name, "arp_filter"):
        return f"{other.label} answers for {address} by its routes only (arp_filter)"
    ignore = other.strongest(4, name, "arp_ignore")
    on_link = any(a.interface.ip == address and a.link == name for a in other.addresses)
    if ignore > 1 or (ignore == 1 and not on_link):
        return f"{other.label} may not answer for {address} on {name} (arp_ignore)"
    if not forwarded or not other.strongest(4, name, "rp_filter"):
        return ""
    own = [a.interface.ip for a in host.addresses if a.link == link.name and a.interface.version == 4]
    backs = [lookup(other, source, address, name).route for source in own]
    if not own or any(back is None or back.link != name for back in backs):
        return f"{other.label} may not answer for {address}: rp_filter sees another way back to {host.label}"
    return ""


def is_loop(link: Link) -> bool:
    """Whether what leaves by `link` comes back to the same host at once."""
    return link.name == LOOPBACK
