"""Fairway's own nftables table: pods send from their own addresses only.

A packet is judged where it enters, before routing, by (interface, source): nothing depends on rp_filter. nftables sees
IP only; ARP that lies can only mislead the host about the liar's own link. An IPv6 pod also speaks without an address
of its own to find its neighbours: RFC 4861 from a link-local source, RFC 4862 5.4.2 from the unspecified one, and MLD
(RFC 3810) from either. These messages stay on the link; a router's messages (advertisement, redirect) are not a pod's.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from fairway.net.kernel.nfnetlink import TableReader
from fairway.net.kernel.nftables import Json, Nft
from fairway.net.model.errors import KernelError
from fairway.net.model.facts import AllowedSource, Firewall
from fairway.net.model.names import INTERFACE_PREFIX

FAMILY = "inet"
TABLE = "fairway"
SOURCES = {4: "sources4", 6: "sources6"}
"""The set of allowed (interface, source) pairs for each version of IP."""

_TABLE: Json = {"family": FAMILY, "name": TABLE}
_IN_TABLE: Json = {"family": FAMILY, "table": TABLE}
_PODS = INTERFACE_PREFIX + "*"
_SET_TYPES = {SOURCES[4]: ["ifname", "ipv4_addr"], SOURCES[6]: ["ifname", "ipv6_addr"]}
_HOOKS: dict[str, Json] = {
    "antispoof": {"type": "filter", "hook": "prerouting", "prio": -300, "policy": "accept"},
}
_TRIES = 4  # a change by another program between our look and our transaction makes the transaction fail


def _match(left: Json, right: object, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def _meta(key: str) -> Json:
    return {"meta": {"key": key}}


def _field(protocol: str, field: str) -> Json:
    return {"payload": {"protocol": protocol, "field": field}}


def _network(address: str, length: int) -> Json:
    return {"prefix": {"addr": address, "len": length}}


def _source_in(protocol: str, sources: str) -> Json:
    return _match({"concat": [_meta("iifname"), _field(protocol, "saddr")]}, f"@{sources}")


_ELSEWHERE = _match(_meta("iifname"), _PODS, "!=")
_COUNT: Json = {"counter": None}
_ACCEPT: Json = {"accept": None}
_DROP: Json = {"drop": None}
_ON_LINK = _match(_field("ip6", "daddr"), {"set": [_network("fe80::", 10), _network("ff02::", 16)]})
_NEIGHBOURLY = [
    "nd-neighbor-solicit",
    "nd-neighbor-advert",
    "nd-router-solicit",
    "mld-listener-report",
    "mld-listener-done",
    "mld2-listener-report",
    "echo-request",
    "echo-reply",
]
_BEFORE_AN_ADDRESS = ["nd-neighbor-solicit", "nd-router-solicit", "mld-listener-report", "mld2-listener-report"]

# A rule is known by its comment: whoever changes a rule changes its comment, or a running host keeps the old one.
_RULES: dict[str, dict[str, list[Json]]] = {
    "antispoof": {
        "fairway: not from a pod": [_ELSEWHERE, _ACCEPT],
        "fairway: IPv4 from a pod, its own source": [_source_in("ip", SOURCES[4]), _ACCEPT],
        "fairway: IPv6 from a pod, its own source": [_source_in("ip6", SOURCES[6]), _ACCEPT],
        "fairway: IPv6 from a pod, link-local, to its neighbours": [
            _match(_field("ip6", "saddr"), _network("fe80::", 10)),
            _ON_LINK,
            _match(_field("icmpv6", "type"), {"set": _NEIGHBOURLY}),
            _ACCEPT,
        ],
        "fairway: IPv6 from a pod, before it has an address": [
            _match(_field("ip6", "saddr"), "::"),
            _match(_field("ip6", "daddr"), _network("ff02::", 16)),
            _match(_field("icmpv6", "type"), {"set": _BEFORE_AN_ADDRESS}),
            _ACCEPT,
        ],
        "fairway: IPv4 from a pod, not its own source": [_match(_meta("nfproto"), "ipv4"), _COUNT, _DROP],
        "fairway: IPv6 from a pod, not its own source": [_COUNT, _DROP],
    },
}


class FirewallDriver:
    """The table of the network namespace of the thread that makes the driver; `namespace` is its name in the facts."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._nft = Nft()
        self._reader = TableReader()

    def close(self) -> None:
        """End the sockets; the table stays."""
        self._nft.close()
        self._reader.close()

    def install(self) -> None:
        """Make the table whole in one transaction: what is right in it, and the allowed sources, stay as they are."""
        for remaining in reversed(range(_TRIES)):
            try:
                self._nft.run(list(_repairs(self._skeleton())))
                return
            except KernelError as error:
                if not remaining or error.errno == errno.EPERM:
                    raise

    def remove(self) -> None:
        """Take the table away with all that is in it; none there: nothing."""
        self._nft.run([{"add": {"table": _TABLE}}, {"delete": {"table": _TABLE}}])

    def whole(self) -> bool:
        """Whether nothing of the firewall is missing, added or out of order: `observe`, without the sources' cost."""
        return not list(_repairs(self._skeleton()))

    def observe(self) -> set[Firewall | AllowedSource]:
        """The sources that are allowed, and the firewall if nothing of it is missing, added or out of order."""
        listed = self._list()
        facts: set[Firewall | AllowedSource] = set(self._sources(listed))
        if not list(_repairs(listed)):
            facts.add(Firewall(self._namespace))
        return facts

    def allow(self, sources: Iterable[AllowedSource]) -> None:
        """Let each source's link send from its address, all in one transaction; those allowed already stay so."""
        self._nft.run([{"add": {"element": element}} for element in _elements(sources)])

    def disallow(self, sources: Iterable[AllowedSource]) -> None:
        """Take back what `allow` gave, all in one transaction; those not allowed, or no table: nothing."""
        commands: list[Json] = []
        for element in _elements(sources):
            # Deleting what is not there fails, and "destroy" is newer than the oldest library we run on: add it first.
            commands += [{"add": {"element": element}}, {"delete": {"element": element}}]
        try:
            self._nft.run(commands)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise

    def allowed(self, link: str) -> set[AllowedSource]:
        """The sources that `link` may send from."""
        return set(self._sources(self._list(), link))

    def _skeleton(self) -> list[Json]:
        """What `_list` returns, without the sets' elements and of the rules only the comments."""
        flags = self._reader.flags(TABLE)
        if flags is None:
            return []
        listed: list[Json] = [{"table": {"flags": flags}}]
        for kind in ("chain", "set"):
            every = self._nft.run([{"list": {f"{kind}s": {"family": FAMILY}}}], terse=True)
            listed += [item for item in every if item[kind]["table"] == TABLE]
        for chain in [item["chain"]["name"] for item in listed if "chain" in item]:
            comments = self._reader.comments(TABLE, chain)
            listed += [{"rule": {"chain": chain, "comment": comment}} for comment in comments]
        return listed

    def _list(self) -> list[Json]:
        """The table and all that is in it; empty if there is none."""
        try:
            return self._nft.run([{"list": {"table": _TABLE}}])
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return []
            raise

    def _sources(self, listed: Iterable[Json], link: str = "") -> Iterator[AllowedSource]:
        """The elements of our sets; only those of `link`, if it is given."""
        for item in listed:
            found = item.get("set")
            if found is None or found.get("type") != _SET_TYPES.get(found["name"]):
                continue
            for element in found.get("elem", ()):
                value = element["elem"]["val"] if "elem" in element else element
                name, address = value["concat"]
                if not link or name == link:
                    yield AllowedSource(self._namespace, name, ip_address(address))


def _elements(sources: Iterable[AllowedSource]) -> Iterator[Json]:
    """One element command's body for each set that `sources` belong in."""
    by_version: dict[int, list[Json]] = {}
    for source in sources:
        by_version.setdefault(source.address.version, []).append({"concat": [source.link, str(source.address)]})
    for version, elements in by_version.items():
        yield {**_IN_TABLE, "name": SOURCES[version], "elem": elements}


def _repairs(listed: list[Json]) -> Iterator[Json]:
    """The commands that make the table in `listed` whole, to be run as one; none if it is."""
    table = next((item["table"] for item in listed if "table" in item), None)
    sets = {item["set"]["name"]: item["set"] for item in listed if "set" in item}
    chains = {item["chain"]["name"]: item["chain"] for item in listed if "chain" in item}
    rules: dict[str, list[str]] = {name: [] for name in chains}
    for item in listed:
        if "rule" in item:
            rules[item["rule"]["chain"]].append(item["rule"].get("comment", ""))
    wrong_sets = {name for name, kind in _SET_TYPES.items() if name in sets and sets[name].get("type") != kind}
    wrong_hooks = {name for name, hook in _HOOKS.items() if name in chains and not _is_at(chains[name], hook)}

    if table is None or table.get("flags"):  # a flag on it is not ours: a dormant table's chains see no packet
        yield {"add": {"table": {**_TABLE, "comment": "the pod network of Fairway"}}}
    broken = [name for name in _RULES if wrong_sets or name in wrong_hooks or rules.get(name) != list(_RULES[name])]
    for name in broken:
        if name in chains:
            yield {"flush": {"chain": {**_IN_TABLE, "name": name}}}
    for name in wrong_hooks:
        yield {"delete": {"chain": {**_IN_TABLE, "name": name}}}
    for name in wrong_sets:
        yield {"delete": {"set": {**_IN_TABLE, "name": name}}}
    for name, kind in _SET_TYPES.items():
        if name not in sets or name in wrong_sets:
            yield {"add": {"set": {**_IN_TABLE, "name": name, "type": kind}}}
    for name in broken:
        yield {"add": {"chain": {**_IN_TABLE, "name": name, **_HOOKS[name]}}}
        # Another process may have filled the chain since we looked: our rules are in it once all the same.
        yield {"flush": {"chain": {**_IN_TABLE, "name": name}}}
        for comment, expressions in _RULES[name].items():
            yield {"add": {"rule": {**_IN_TABLE, "chain": name, "comment": comment, "expr": expressions}}}


def _is_at(chain: Json, hook: Json) -> bool:
    return all(chain.get(key) == value for key, value in hook.items())
