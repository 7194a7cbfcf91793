"""Reading the kernel: what is in a namespace, as facts and records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from fairway.net.kernel import messages, records, sysctl
from fairway.net.kernel.netlink import Netlink
from fairway.net.kernel.records import AddressRecord, LinkRecord, RouteRecord
from fairway.net.model.facts import Fact, IPNetwork, Refusal, Route, Sysctl

_ADDRESS_BYTES = {messages.AF_INET: 4, messages.AF_INET6: 16}


@dataclass(frozen=True, slots=True)
class View:
    """A namespace as it is: everybody's links, addresses and routes, and our neighbours and settings."""

    links: tuple[LinkRecord, ...]
    addresses: tuple[AddressRecord, ...]
    routes: tuple[RouteRecord, ...]
    facts: frozenset[Fact]

    @property
    def mark(self) -> str:
        """The alias of `lo`: whose namespace it is."""
        return next((link.alias for link in self.links if link.name == "lo"), "")

    def own(self) -> set[Fact]:
        """The facts of ours, but for the links', which need the other ends: records.link_facts."""
        facts = set(self.facts)
        facts.update(address.fact for address in self.addresses if address.ours)
        facts.update(route.fact for route in self.routes if route.protocol == messages.ROUTE_PROTOCOL)
        return facts


def view(namespace: str, netlink: Netlink, *, every_route: bool = False) -> View:
    """All that `netlink`'s namespace holds; routes that are not ours only if `every_route`."""
    links = tuple(records.link(namespace, message) for message in netlink.dump(messages.dump_links()))
    names = {link.index: link.name for link in links}
    addresses = tuple(records.address(namespace, names, message) for message in netlink.dump(messages.dump_addresses()))
    routes = tuple(_routes(namespace, netlink, names, ours=not every_route))
    neighbours = (records.neighbour(namespace, names, message) for message in netlink.dump(messages.dump_neighbours()))
    return View(links, addresses, routes, frozenset(entry for entry in neighbours if entry is not None))


def link_view(namespace: str, netlink: Netlink, name: str) -> View:
    """All that `netlink`'s namespace holds of one interface, with our routes only; the kernel does the filtering."""
    message = netlink.get(messages.get_link(name))
    if message is None:
        return View((), (), (), frozenset())
    link = records.link(namespace, message)
    names = {link.index: name}
    addresses = (records.address(namespace, names, m) for m in netlink.dump(messages.dump_addresses(link.index)))
    routes = _routes(namespace, netlink, names, ours=True, index=link.index)
    neighbours = (records.neighbour(namespace, names, m) for m in netlink.dump(messages.dump_neighbours(link.index)))
    # A kernel that does not filter gives the other links' too, which have no name here.
    return View(
        (link,),
        tuple(address for address in addresses if address.fact.link),
        tuple(route for route in routes if route.fact.link),
        frozenset(entry for entry in neighbours if entry is not None and entry.link),
    )


def routes(
    namespace: str, netlink: Netlink, destinations: Collection[IPNetwork] | None = None, *, far: bool = False
) -> list[Route]:
    """Our routes, which costs nothing for anybody else's; if asked for, to `destinations` or through routers only."""
    ours = list(_routes(namespace, netlink, _Names(netlink), ours=True, destinations=destinations, far=far))
    return [record.fact for record in ours if record.protocol == messages.ROUTE_PROTOCOL]


def refusals(namespace: str, netlink: Netlink) -> set[Refusal]:
    """Our routes that refuse; the kernel does the filtering, if it is new enough to."""
    return {
        records.refusal(namespace, message)
        for family in _ADDRESS_BYTES
        for message in netlink.dump(messages.dump_refusals(family))
        if records.refuses(message)
    }


def settings(namespace: str, paths: Iterable[str]) -> set[Fact]:
    """The settings at `paths`, as the calling thread's namespace has them; those that do not exist are left out."""
    values = {path: sysctl.read(path) for path in paths}
    return {Sysctl(namespace, path, value) for path, value in values.items() if value is not None}


class _Names(dict[int, str]):
    """The names of interfaces by their indices, asked for one by one."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def __missing__(self, index: int) -> str:
        self[index] = name = self._netlink.name(index)
        return name

    def get(self, index: int, default: str = "") -> str:  # type: ignore[override]
        return self[index] if index else default


def _routes(
    namespace: str,
    netlink: Netlink,
    names: Mapping[int, str],
    *,
    ours: bool,
    index: int = 0,
    destinations: Collection[IPNetwork] | None = None,
    far: bool = False,
) -> Iterator[RouteRecord]:
    wanted = None if destinations is None else {(each.prefixlen, each.network_address.packed) for each in destinations}
    for family in (messages.AF_INET, messages.AF_INET6):
        if wanted is not None and not any(len(packed) == _ADDRESS_BYTES[family] for _, packed in wanted):
            continue
        for message in netlink.dump(messages.dump_routes(family, ours=ours, index=index)):
            if wanted is not None and records.destination(message) not in wanted:
                continue  # before it is decoded, which takes a hundred times as long
            if far and not records.may_have_gateway(message):
                continue
            found = records.route(namespace, names, message)
            if found is not None:
                yield found
