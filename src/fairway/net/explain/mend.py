"""What mends a fault, as commands that a person can type. Commands of other tools name the namespace themselves."""

from __future__ import annotations

from fairway.net.explain.packet import Passage
from fairway.net.explain.ruleset import Chain
from fairway.net.explain.snapshot import LOOPBACK, Host, LegacyTable
from fairway.net.model.facts import IPAddress
from fairway.net.model.names import INTERFACE_PREFIX
from fairway.net.model.pod import GATEWAYS

REPAIR = "fairway check --repair"
_OWN_TABLE = "fairway"


def ip(host: Host, command: str) -> str:
    """An iproute2 command in the host's namespace."""
    return f"ip -n {host.name} {command}" if host.name else f"ip {command}"


def inside(host: Host, command: str) -> str:
    """Any other command in the host's namespace."""
    return f"ip netns exec {host.name} {command}" if host.name else command


def for_chain(host: Host, chain: Chain, passage: Passage) -> tuple[str, ...]:
    """For a drop in an nftables chain."""
    if (chain.family, chain.table, chain.name) == ("netdev", _OWN_TABLE, passage.entering):
        return (
            f"{passage.packet.source} is not an address that the pod behind {passage.entering} may send from:"
            " let the pod use its own address (fairway pod show)",
            f"if it is the pod's own, the table has lost it: {REPAIR}",
        )
    if (chain.family, chain.table) == ("inet", _OWN_TABLE):
        return (
            "a rule of a policy that allows it: fairway policy apply FILE",
            "what isolates a pod: fairway policy of POD",
        )
    if chain.hook != "forward":
        return ()
    insert = inside(host, f"nft insert rule {chain.family} {chain.table} {chain.name}")
    return tuple(f"{insert} {way}" for way in _accepts(passage, "iifname {}", "oifname {}", "accept"))


def for_legacy(host: Host, table: LegacyTable, passage: Passage) -> tuple[str, ...]:
    """For a drop in an iptables-legacy FORWARD chain."""
    tool = "iptables-legacy" if table.version == 4 else "ip6tables-legacy"
    insert = inside(host, f"{tool} -t {table.name} -I FORWARD")
    return tuple(f"{insert} {way}" for way in _accepts(passage, "-i {}", "-o {}", "-j ACCEPT"))


def _accepts(passage: Passage, entering: str, leaving: str, verdict: str) -> list[str]:
    """The rules that let through: in and out for each pod's link; both ways between two others."""
    links = (passage.entering, passage.leaving)
    pods = [link for link in links if link.startswith(INTERFACE_PREFIX)]
    if pods:
        return [f"{way.format(link)} {verdict}" for link in pods for way in (entering, leaving)]
    pairs = (links, links[::-1])
    return [f"{entering.format(first)} {leaving.format(second)} {verdict}" for first, second in pairs]


def for_forwarding(host: Host, version: int, link: str) -> tuple[str, ...]:
    """For a host that does not forward."""
    if version == 6:
        return (inside(host, "sysctl -w net.ipv6.conf.all.forwarding=1"),)
    if host.number("net/ipv4/ip_forward"):
        return (inside(host, f"sysctl -w net.ipv4.conf.{link}.forwarding=1"),)
    return (inside(host, "sysctl -w net.ipv4.ip_forward=1"),)


def for_reverse_path(host: Host, link: str, source: IPAddress) -> tuple[str, ...]:
    """For a packet that rp_filter drops: the route back, or a looser filter."""
    names = dict.fromkeys(("all", link))
    loose = [f"net.ipv4.conf.{name}.rp_filter=0" for name in names if host.number(f"net/ipv4/conf/{name}/rp_filter")]
    return (
        f"route {source} back by {link}: {ip(host, f'route add {source}/32 dev {link}')}",
        f"or do not filter: {inside(host, 'sysctl -w ' + ' '.join(loose))}",
    )


def for_host_route(host: Host, link: str, destination: IPAddress) -> tuple[str, ...]:
    """For a pod's node that has no route to it by its link."""
    return (*_repair(link), ip(host, f"route replace {destination}/{destination.max_prefixlen} dev {link}"))


def for_link(host: Host, link: str) -> tuple[str, ...]:
    """For an interface that is down; its routes went with it."""
    return (*_repair(link), ip(host, f"link set {link} up"))


def for_route_by(host: Host, destination: IPAddress, gateway: IPAddress | None, label: str) -> tuple[str, ...]:
    """For a host without a route to another host's pod; `gateway` is that host's address, if they share a link."""
    if gateway is None:
        return (f"route {destination} to {label}, the host of that pod",)
    command = ip(host, f"route add {destination}/{destination.max_prefixlen} via {gateway}")
    return (command, f"or for good: fairway route add {destination}/{destination.max_prefixlen} via {gateway}")


def for_default_route(host: Host, version: int) -> tuple[str, ...]:
    """For a pod without a default route."""
    links = [link.name for link in host.links if link.name != LOOPBACK and link.up]
    if len(links) != 1:
        return (f"add a route to it in {host.label}",)
    gateway = GATEWAYS[0 if version == 4 else 1]
    family = "" if version == 4 else "-6 "
    return (REPAIR, ip(host, f"{family}route add default via {gateway} dev {links[0]} onlink"))


def for_address(host: Host, address: IPAddress) -> tuple[str, ...]:
    """For a pod that lacks its address."""
    links = [link.name for link in host.links if link.name != LOOPBACK]
    link = links[0] if len(links) == 1 else "LINK"
    return (REPAIR, ip(host, f"addr add {address}/{address.max_prefixlen} dev {link}"))


def _repair(link: str) -> tuple[str, ...]:
    return (REPAIR,) if link.startswith(INTERFACE_PREFIX) else ()
