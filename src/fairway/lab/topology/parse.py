"""The TOML file of a lab, as a Topology. docs/topology.md describes it; every error names file, line and key."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from ipaddress import ip_network
from pathlib import Path

from fairway.lab.model import Faults, LabPod, Link, Member, Node, Topology
from fairway.lab.topology import values
from fairway.lab.topology.check import check, check_references
from fairway.lab.topology.lines import key_lines
from fairway.lab.topology.problems import Problems
from fairway.lab.topology.table import Table
from fairway.net.model.errors import UsageError
from fairway.net.model.pod import StaticRoute

LAB_KEYS = ("name", "mtu", "routes", "agents", "cross_subnet", "nodes", "routers", "links", "pods")
NODE_KEYS = ("pools", "forward_policy", "routes")
ROUTER_KEYS = ("routes",)
ROUTE_KEYS = ("to", "via")
LINK_KEYS = ("members", "mtu", "delay", "jitter", "loss", "rate")
POD_KEYS = ("node", "address", "addresses", "mtu")

MTU_DEFAULT = 1500

_TOMLLIB_PLACE = re.compile(r" \(at line ([0-9]+), column ([0-9]+)\)$")
_NOWHERE = ip_network("0.0.0.0/32")  # stands in for what could not be read; an error is raised before anybody sees it


def load(path: Path | str) -> Topology:
    """The topology in the file at `path`; a UsageError says all that is wrong with it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # not UTF-8, or a path that no file can have
        raise UsageError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Topology:
    """The topology in `text`, which `source` names in errors; its stem is the lab's name where the text has none."""
    document = _toml(text, source)
    problems = Problems(source, document, key_lines(text))
    topology = _topology(Table(problems, (), document, LAB_KEYS), Path(source).stem)
    check_references(topology, problems)
    problems.raise_if_any()
    check(topology, problems)
    return topology


def _toml(text: str, source: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        message = "nested too deep" if isinstance(error, RecursionError) else str(error)
        if place := _TOMLLIB_PLACE.search(message):
            message = f"{message[: place.start()]}, at column {place[2]}"
            source = f"{source}:{place[1]}"
        raise UsageError(f"{source}: not valid TOML: {message}") from None


def _topology(lab: Table, stem: str) -> Topology:
    mtu = lab.read("mtu", values.mtu, MTU_DEFAULT)
    nodes = [_node(name, table) for name, table in lab.tables("nodes", NODE_KEYS)]
    routers = [_router(name, table) for name, table in lab.tables("routers", ROUTER_KEYS)]
    interfaces: Counter[str] = Counter()
    return Topology(
        name=lab.read("name", values.text, stem),
        nodes=(*nodes, *routers),
        links=tuple(_link(name, table, mtu, interfaces) for name, table in lab.tables("links", LINK_KEYS)),
        pods=tuple(_pod(name, table) for name, table in lab.tables("pods", POD_KEYS)),
        routes=lab.read("routes", values.one_of("auto", "manual"), "auto"),
        agents=lab.read("agents", values.flag, False),
        cross_subnet=lab.read("cross_subnet", values.one_of("router", "vxlan"), "router"),
    )


def _node(name: str, table: Table) -> Node:
    return Node(
        name=name,
        pools=table.read_list("pools", values.pool),
        routes=_routes(table),
        forward_policy=table.read("forward_policy", values.one_of("accept", "drop"), "accept"),
    )


def _router(name: str, table: Table) -> Node:
    return Node(name=name, router=True, routes=_routes(table))


def _routes(table: Table) -> tuple[StaticRoute, ...]:
    return tuple(
        StaticRoute(
            destination=route.read_needed("to", values.network, _NOWHERE, "the network to reach"),
            gateway=route.read_needed("via", values.address, _NOWHERE.network_address, "the address of the next hop"),
        )
        for route in table.elements("routes", ROUTE_KEYS)
    )


def _link(name: str, table: Table, mtu: int, interfaces: Counter[str]) -> Link:
    """A link; `interfaces` counts those that each node has on the links before."""
    members = []
    addresses = table.inner("members")
    for node in addresses:
        interface = f"eth{interfaces[node]}"
        interfaces[node] += 1
        members.append(Member(node, interface, addresses.read_list(node, values.interface)))
    faults = Faults(
        delay_ms=table.read("delay", values.milliseconds, 0.0),
        jitter_ms=table.read("jitter", values.milliseconds, 0.0),
        loss=table.read("loss", values.share, 0.0),
        rate_bps=table.read("rate", values.bits_a_second, 0),
    )
    return Link(name, tuple(members), table.read("mtu", values.mtu, mtu), faults)


def _pod(name: str, table: Table) -> LabPod:
    if "address" in table and "addresses" in table:
        table.refuse("addresses", "expected address or addresses, got both")
    return LabPod(
        name=name,
        node=table.read_needed("node", values.text, "", "the node it runs on"),
        addresses=table.read_list("address", values.address) + table.read_list("addresses", values.address),
        mtu=table.read("mtu", values.mtu, 0),
    )
