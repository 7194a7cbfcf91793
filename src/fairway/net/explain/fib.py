"""Which route the kernel takes: policy rules, tables, longest prefix, metric. And which source it gives a packet."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.net.explain.snapshot import LOCAL_TABLE, LOOPBACK, Host, PolicyRule, Route
from fairway.net.model.facts import IPAddress


@dataclass(frozen=True, slots=True)
class Found:
    """The answer of a look-up: a route, none at all, or `doubt`: why it cannot be told."""

    route: Route | None = None
    doubt: str = ""

    @property
    def kind(self) -> str:
        """The route's type; "none", or "unknown"."""
        if self.doubt:
            return "unknown"
        return self.route.kind if self.route else "none"


def lookup(host: Host, destination: IPAddress, source: IPAddress | None, entering: str = "") -> Found:
    """What the kernel of `host` finds for a packet that entered by `entering` (empty: its own packet)."""
    rules = sorted((rule for rule in host.rules if rule.version == destination.version), key=lambda r: r.priority)
    for rule in rules:
        applies = _applies(rule, destination, source, entering or LOOPBACK)
        if applies is False:
            continue
        if applies is None or rule.odd:
            return Found(doubt=f"the policy rule of priority {rule.priority} (ip rule) is not followed")
        found = _in_table(host, rule.table, destination)
        if found is not None and found.kind != "throw":
            return found
    return Found()


def source_for(host: Host, destination: IPAddress, route: Route) -> IPAddress | None:
    """The address that the kernel gives its own packet by `route`; None if that is not clear."""
    if route.source is not None:
        return route.source
    if route.kind == "local":
        return destination
    own = [each for each in host.addresses if each.interface.version == destination.version and each.scope == 0]
    own = [each for each in own if each.settled and not each.interface.ip.is_link_local]
    here = [each for each in own if each.link == route.link]
    if destination.version == 6 and len({each.interface.ip for each in here or own}) > 1:
        return None
    if here and route.gateway is not None:
        near = [each for each in here if route.gateway in each.interface.network]
        return (near or here)[0].interface.ip
    if here:
        near = [each for each in here if destination in each.interface.network]
        return (near or here)[0].interface.ip
    return own[0].interface.ip if own else None


def _applies(rule: PolicyRule, destination: IPAddress, source: IPAddress | None, entering: str) -> bool | None:
    if rule.destination is not None and destination not in rule.destination:
        return False
    if rule.entering and rule.entering != entering:
        return False
    if rule.source is None:
        return True
    return None if source is None else source in rule.source


def _in_table(host: Host, table: int, destination: IPAddress) -> Found | None:
    fitting = [route for route in host.routes if route.table == table and _fits(host, route, destination)]
    if not fitting:
        return None
    longest = max(route.destination.prefixlen for route in fitting)
    nearest = [route for route in fitting if route.destination.prefixlen == longest]
    if destination.version == 6 and table != LOCAL_TABLE and len({(r.link, r.gateway) for r in nearest}) > 1:
        return Found(doubt=f"there are several routes to {nearest[0].destination}, chosen by which neighbour answers")
    best = min(nearest, key=lambda route: route.metric)
    if best.odd:
        return Found(best, doubt=f"the route to {best.destination} {best.odd}")
    return Found(best)


def _fits(host: Host, route: Route, destination: IPAddress) -> bool:
    if route.destination.version != destination.version or destination not in route.destination or route.dead:
        return False
    ignored = host.strongest(destination.version, route.link, "ignore_routes_with_linkdown")
    return not (route.link_down and ignored)


def words(route: Route) -> str:
    """The route as `ip route` writes it."""
    network = "default" if route.destination.prefixlen == 0 else str(route.destination)
    parts = [] if route.kind == "unicast" else [route.kind]
    parts.append(network)
    if route.gateway is not None:
        parts.append(f"via {route.gateway}")
    if route.link:
        parts.append(f"dev {route.link}")
    if route.tunnel is not None:
        parts.append(f"within VXLAN to {route.tunnel}")
    if route.metric:
        parts.append(f"metric {route.metric}")
    return " ".join(parts)
