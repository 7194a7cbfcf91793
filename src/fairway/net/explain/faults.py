"""The faults that have a name: what is missing for a packet to reach the pod it is meant for, and what mends it.

A pod hangs on its node by a veth pair; so it is known which node, and by which interface, must have the route.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fairway.net.explain import mend
from fairway.net.explain.fib import Found, lookup, words
from fairway.net.explain.segment import Fabric, Segment
from fairway.net.explain.snapshot import LOOPBACK, Host, Link
from fairway.net.explain.tree import Hop, Stage, Verdict
from fairway.net.model.facts import IPAddress


@dataclass(frozen=True, slots=True)
class Faults:
    """What may be missing on the way to `destination`, which is to be in the namespace `target`."""

    fabric: Fabric
    destination: IPAddress
    target: str | None

    def own_address(self, host: Host, source: IPAddress) -> Stage | None:
        """The sender lacks the address that it is to send from."""
        if host.has(source) or lookup(host, source, None).kind == "local":
            return None
        text = f"{host.label} does not have the address {source} that it is known by"
        return Stage("route", Verdict.UNREACHABLE, text, mend=mend.for_address(host, source))

    def misrouted(self, host: Host, found: Found) -> Stage | None:
        """The node that the pod hangs on sends the packet elsewhere; or the pod itself lacks the address."""
        if self.target == host.name and found.kind != "local":
            text = f"not local: {host.label} does not have the address {self.destination} that it is known by"
            return Stage("route", Verdict.UNREACHABLE, text, mend=mend.for_address(host, self.destination))
        links = list(self._links_to_target(host))
        if not links or found.route is None or found.kind != "unicast" or found.doubt:
            return None
        if any(link.name == found.route.link for link in links) or len(links) > 1:
            return None
        (link,) = links
        if found.route.gateway is None and found.route.destination.prefixlen == found.route.destination.max_prefixlen:
            text = f"not local: {words(found.route)}, though the pod is behind {link.name}"
        else:
            missing = "is down and its route is gone" if not link.up else "has no route"
            text = f"not local: leaves by {words(found.route)}, as {link.name}, the pod's own interface, {missing}"
        help_ = mend.for_link(host, link.name) if not link.up else ()
        help_ = tuple(dict.fromkeys((*help_, *mend.for_host_route(host, link.name, self.destination))))
        return Stage("route", Verdict.INFO, text, mend=help_)

    def not_forwarding(self, host: Host, entering: str, version: int) -> Stage | None:
        """The host does not forward packets that come in by `entering`."""
        if version == 4:
            if host.number(f"net/ipv4/conf/{entering}/forwarding"):
                return None
            name = (
                "net.ipv4.ip_forward"
                if not host.number("net/ipv4/ip_forward")
                else f"net.ipv4.conf.{entering}.forwarding"
            )
        else:
            forced = host.number(f"net/ipv6/conf/{entering}/force_forwarding")
            if host.number("net/ipv6/conf/all/forwarding") or forced:
                return None
            name = "net.ipv6.conf.all.forwarding"
        text = f"not local, and {host.label} does not forward: {name} is 0"
        return Stage("route", Verdict.DROPPED, text, mend=mend.for_forwarding(host, version, entering))

    def route_mend(self, host: Host, *, forwarded: bool) -> tuple[str, ...]:
        """What mends that `host` has no route to the destination."""
        for link in self._links_to_target(host):
            route = mend.for_host_route(host, link.name, self.destination)
            return route if link.up else tuple(dict.fromkeys((*mend.for_link(host, link.name), *route)))
        down = [link.name for link in host.links if link.name != LOOPBACK and not link.up]
        own = [link for link in host.links if link.name != LOOPBACK]
        if len(own) == 1 and down:
            return (*mend.for_link(host, down[0]), *mend.for_default_route(host, self.destination.version))
        if len(own) == 1 and not forwarded:
            return mend.for_default_route(host, self.destination.version)
        node = self._node()
        if node is None or node.name == host.name:
            return ()
        return mend.for_route_by(host, self.destination, self._address_near(host, node), node.label)

    def segment_mend(self, segment: Segment, next_hop: IPAddress) -> tuple[str, ...]:
        """What mends that nobody on a segment has the next hop's address."""
        target = self._target()
        if target is None or next_hop != self.destination:
            return ()
        if any(end.host.name == target.name for end in segment.ends):
            return mend.for_address(target, self.destination)
        down = [link for link in target.links if link.name != LOOPBACK and not link.up]
        return mend.for_link(target, down[0].name) if down else ()

    def lost_on_the_wire(self, host: Host) -> Stage | None:
        """The packet leaves the known hosts though the pod hangs on this one alone: it can never come to the pod."""
        links = list(self._links_to_target(host))
        target = self._target()
        if target is None or len(links) != 1 or host.transforms:
            return None
        if any(rule.odd or rule.source or rule.entering for rule in host.rules):
            return None
        own = [link for link in target.links if link.name != LOOPBACK]
        if len(own) != 1:
            return None
        text = f"leaves to the wire, and {links[0].name} is the only way to {target.label}: it cannot arrive"
        return Stage("device", Verdict.UNREACHABLE, text)

    def blame_default(self, hops: list[Hop], routed: list[tuple[Host, int]]) -> None:
        """A packet was lost behind a default route of a host that is next to the pod's node: that route is missing."""
        node = self._node()
        if node is None:
            return
        for host, place in routed:
            near = self._address_near(host, node) if host.name != node.name else None
            if near is None or any(stage.mend for hop in hops[: place + 1] for stage in hop.stages):
                continue
            help_ = mend.for_route_by(host, self.destination, near, node.label)
            stages = tuple(
                replace(stage, mend=help_, text=f"{stage.text}: no route to {node.label}'s pods")
                if stage.hook == "route" and not stage.mend
                else stage
                for stage in hops[place].stages
            )
            hops[place] = replace(hops[place], stages=stages)
            return

    def _target(self) -> Host | None:
        return self.fabric.world.get(self.target) if self.target is not None else None

    def _links_to_target(self, host: Host) -> Iterator[Link]:
        """The host's interfaces whose other end is in the target's namespace and stands by itself."""
        target = self._target()
        if target is None or target.name == host.name:
            return
        for link in host.links:
            peer = link.peer
            if peer is None or peer.namespace != target.name or link.master:
                continue
            far = target.link_at(peer.index)
            if far is not None and not far.master:
                yield link

    def _node(self) -> Host | None:
        """The host that the target, a pod, hangs on."""
        target = self._target()
        own = [link for link in target.links if link.name != LOOPBACK] if target else []
        if len(own) != 1 or own[0].peer is None:
            return None
        return self.fabric.world.get(own[0].peer.namespace)

    def _address_near(self, host: Host, node: Host) -> IPAddress | None:
        """An address of `node` on a segment that it shares with `host`."""
        for link in host.links:
            if link.name == LOOPBACK or not link.up:
                continue
            for end in self.fabric.segment(host, link).ends:
                if end.host.name != node.name:
                    continue
                for address in node.addresses:
                    ip = address.interface.ip
                    if (
                        address.link == end.link.name
                        and ip.version == self.destination.version
                        and not ip.is_link_local
                    ):
                        return ip
        return None
