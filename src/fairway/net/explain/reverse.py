"""What the kernel holds against a packet's source when it decides on the route in: rp_filter, and its own addresses.

The order of questions is that of fib_validate_source in net/ipv4/fib_frontend.c. IPv6 has none of it.
"""

from __future__ import annotations

from fairway.net.explain import mend
from fairway.net.explain.fib import lookup, words
from fairway.net.explain.packet import Packet
from fairway.net.explain.snapshot import Host
from fairway.net.explain.tree import Stage, Verdict


def source_stage(host: Host, packet: Packet, entering: str) -> list[Stage]:
    """The stage that drops the packet for its source, or that says it cannot be told; none if it passes."""
    if packet.version == 6:
        return []
    if packet.source.is_loopback or packet.source.is_multicast or packet.source.is_unspecified:
        return [Stage("route", Verdict.UNKNOWN, f"the source {packet.source} is of a special kind: not followed")]
    strict = host.strongest(4, entering, "rp_filter")
    local = host.has(packet.source) or lookup(host, packet.source, None).kind == "local"
    if local:
        if host.strongest(4, entering, "accept_local"):
            return [Stage("route", Verdict.UNKNOWN, "accept_local is not followed")]
        return [
            Stage("route", Verdict.DROPPED, f"the source {packet.source} is this host's own address: martian source")
        ]
    if not strict:
        return []
    return _reverse_path(host, packet, entering, strict)


def _reverse_path(host: Host, packet: Packet, entering: str, strict: int) -> list[Stage]:
    back = lookup(host, packet.source, packet.destination, entering)
    help_ = mend.for_reverse_path(host, entering, packet.source)
    if back.doubt:
        return [Stage("route", Verdict.UNKNOWN, f"rp_filter: {back.doubt}")]
    if back.kind == "unicast" and back.route is not None:
        if back.route.link == entering:
            return []
        addressed = any(a.link == entering and a.interface.version == 4 for a in host.addresses)
        if strict != 1 and addressed:
            return []
        text = f"rp_filter of {entering}: the way back to {packet.source} is another ({words(back.route)})"
        return [Stage("route", Verdict.DROPPED, text, mend=help_)]
    if back.kind == "broadcast":
        return [Stage("route", Verdict.DROPPED, f"the source {packet.source} is a broadcast address")]
    return [Stage("route", Verdict.DROPPED, f"rp_filter of {entering}: no way back to {packet.source}", mend=help_)]
