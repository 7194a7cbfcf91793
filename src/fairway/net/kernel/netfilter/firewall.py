"""Fairway's own nftables tables: pods send from their own addresses only.

Each pod has a chain at its link's ingress: only what comes from a pod is judged, before routing, and nothing depends on
rp_filter; what comes from elsewhere passes no hook of ours. All of them lead to one chain, which looks up in two sets
what the link may send from. An IPv6 pod also speaks without an address of its own to find its neighbours: RFC 4861
from a link-local source, RFC 4862 5.4.2 from the unspecified one, and MLD (RFC 3810) from either. These messages stay
on the link; a router's messages (advertisement, redirect) are not a pod's.

The chains are of the netdev family. One of the inet family sees no frame but IP's, and the kernel goes on to unpack
others: behind two tags of VLAN 0 there is IP again, past the chain. A netdev chain sees each frame as it is with one
tag taken off, and lets nothing in but IP and ARP.

The kernel remembers who asks for a neighbour, in one table of 1,024 places for the whole machine: who asks in the names
of a thousand leaves no room for the host's own neighbours. So ARP is let in only from the pod's own addresses, or from
nobody, as a probe (RFC 5227 section 2.1.1) is, which is not remembered; and what comes from link-local addresses, of
which a pod may give itself any, only seldom.

With each rule that comes the kernel checks every chain of its table again, rule by rule, and with each chain at a link
it compares the names of all links; an element of a set costs nothing of the kind. So a pod has one chain of one rule,
and its addresses are in the sets. One chain at a pattern of links (Linux 6.16) would do for all pods, but libnftables
1.0.6 does not see such a chain, and whoever asks it for one by its name waits for ever.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from fairway.net.kernel.netfilter import wire
from fairway.net.kernel.netfilter.nftables import Json
from fairway.net.kernel.netfilter.rules import ACCEPT, COUNT, DROP, TableDriver, add_rule, field, match, meta, network
from fairway.net.kernel.netfilter.source_sets import NAMES, SourceSets
from fairway.net.kernel.netfilter.table_socket import ChainRecord
from fairway.net.model.errors import KernelError
from fairway.net.model.facts import AllowedSources, Firewall, IPAddress
from fairway.net.model.names import INTERFACE_PREFIX

FAMILY = "inet"
TABLE = "fairway"
"""The name of both tables: the netdev family's, for what pods send, and `FAMILY`'s, for policies and masquerading."""
ANTISPOOF = "antispoof"
"""The chain for what any pod sends."""

_NETDEV = wire.NFPROTO_NETDEV
_FAMILIES = {"netdev": _NETDEV, FAMILY: wire.NFPROTO_INET}
_ANTISPOOF: Json = {"family": "netdev", "table": TABLE, "name": ANTISPOOF}
_PRIORITY = -300  # before connection tracking, as is a chain called "raw"
_OLDEST = "Linux 5.10 or newer is needed, with CONFIG_NETFILTER_INGRESS and CONFIG_NF_TABLES_NETDEV"
_TRIES = 4  # a change by another program between our look and our transaction makes the transaction fail


def _is_own(version: int, source: Json) -> Json:
    return match({"concat": [meta("iif"), source]}, f"@{NAMES[version]}")


_ARP_SENDER = field("arp", "saddr ip")
_ON_LINK = match(field("ip6", "daddr"), {"set": [network("fe80::", 10), network("ff02::", 16)]})
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

# How many IPv6 packets a second, and at once, that are not from a pod's own address are looked at for what finds
# neighbours. A limit that a link has not used for a minute is whole again, and forgotten.
_SELDOM: Json = {"limit": {"rate": 20, "burst": 40, "per": "second", "inv": True}}
_A_LINK: Json = {"elem": {"val": meta("iif"), "timeout": 60}}
_TOO_OFTEN: Json = {"meter": {"name": "neighbourly", "key": _A_LINK, "stmt": _SELDOM, "size": 65535}}

# A rule is known by its comment: whoever changes a rule changes its comment, or a running host keeps the old one.
_RULES: dict[str, list[Json]] = {
    "fairway: IPv4 from a pod, its own source": [_is_own(4, field("ip", "saddr")), ACCEPT],
    "fairway: IPv6 from a pod, its own source": [_is_own(6, field("ip6", "saddr")), ACCEPT],
    # RFC 826: for Ethernet and IPv4, as the kernel reads no other here.
    "fairway: ARP from a pod, its own address": [_is_own(4, _ARP_SENDER), ACCEPT],
    "fairway: IPv6 from a pod, not its own source, too often": [
        match(meta("protocol"), "ip6"),
        _TOO_OFTEN,
        COUNT,
        DROP,
    ],
    "fairway: IPv6 from a pod, link-local, to its neighbours": [
        match(field("ip6", "saddr"), network("fe80::", 10)),
        _ON_LINK,
        match(field("icmpv6", "type"), {"set": _NEIGHBOURLY}),
        ACCEPT,
    ],
    "fairway: IPv6 from a pod, before it has an address": [
        match(field("ip6", "saddr"), "::"),
        match(field("ip6", "daddr"), network("ff02::", 16)),
        match(field("icmpv6", "type"), {"set": _BEFORE_AN_ADDRESS}),
        ACCEPT,
    ],
    "fairway: ARP from a pod, a probe": [match(_ARP_SENDER, "0.0.0.0"), ACCEPT],
    "fairway: IPv4 from a pod, not its own source": [match(meta("protocol"), "ip"), COUNT, DROP],
    "fairway: IPv6 from a pod, not its own source": [match(meta("protocol"), "ip6"), COUNT, DROP],
    "fairway: from a pod, ARP of others or neither IP nor ARP": [COUNT, DROP],
}
_FROM_A_POD = "fairway: from a pod"


class FirewallDriver(TableDriver):
    """The table of the network namespace of the thread that makes the driver; `namespace` is its name in the facts."""

    def __init__(self, namespace: str) -> None:
        super().__init__()
        self._namespace = namespace
        self._sets = SourceSets(self._socket, TABLE)

    def install(self) -> None:
        """Make the table whole in one transaction: what is right in it, and the pods' chains, stay as they are."""
        for remaining in reversed(range(_TRIES)):
            try:
                self._nft.run(list(self._repairs()))
                return
            except KernelError as error:
                if not remaining or error.errno == errno.EPERM:
                    raise

    def remove(self) -> None:
        """Take the tables away with all that is in them; none there: nothing."""
        for family in _FAMILIES:
            table = {"family": family, "name": TABLE}
            self._nft.run([{"add": {"table": table}}, {"delete": {"table": table}}])

    def whole(self) -> bool:
        """Whether nothing of what all pods share is missing, added or out of order; their number costs nothing."""
        return not list(self._repairs())

    def observe(self) -> set[Firewall | AllowedSources]:
        """What each link may send from, and the firewall if nothing of what all share is missing or out of order."""
        facts: set[Firewall | AllowedSources] = set(self._links())
        if self.whole():
            facts.add(Firewall(self._namespace))
        return facts

    def observe_link(self, wanted: AllowedSources) -> set[AllowedSources]:
        """Which of the wanted addresses the link may send from, if it has a chain; the others' number costs nothing."""
        link = wanted.link
        chain = self._socket.chain(TABLE, link, _NETDEV)
        if chain is None:
            return set()
        index = self._socket.index(link)
        right = _is_right(chain, self._socket.comments(TABLE, link, _NETDEV))
        found = frozenset(address for address in wanted.addresses if right and self._sets.holds((index, address)))
        return {AllowedSources(self._namespace, link, found)}

    def allow(self, sources: AllowedSources) -> None:
        """Let the link, which is there, send from these addresses; where it has a chain, as `change`."""
        try:
            self._put(sources, [])
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise
            self.change(sources)

    def change(self, sources: AllowedSources) -> None:
        """Let the link send from these addresses and no others; the cost grows with all links' addresses.

        The old chain goes and the new one comes in one transaction: no packet passes between them.
        """
        self._put(sources, self._ending(sources.link))

    def disallow(self, link: str) -> None:
        """Take away the link's chain, and what it and links that are gone may send from; nothing there: nothing."""
        self._change_what_is_there(self._ending(link))

    def silence(self, sources: AllowedSources, index: int) -> int:
        """Let the link send nothing but what finds neighbours; the handle of its chain, 0 if there is no table.

        `sources` are what it may send from, `index` is what it was found by: it may be gone at any moment.
        """
        link = sources.link
        if self._socket.comments(TABLE, link, _NETDEV) != [_FROM_A_POD]:  # an earlier version's, or somebody broke it
            self._change_what_is_there([*_without(link), *_new_chain(link)])
        self._change_what_is_there(self._sets.removing((index, address) for address in sources.addresses))
        return self._handle(link)

    def end(self, link: str, handle: int) -> None:
        """Take the link's chain away if it has that handle, which no other is ever given; else nothing."""
        if handle and self._handle(link) == handle:
            self._change_what_is_there([wire.delete_chain_of_handle(TABLE, handle)])

    def _ending(self, link: str) -> list[wire.Request]:
        """The requests that end the link's chain, and what it and links that are gone may send from."""
        gone = (each for each in self._sets.elements() if self._socket.link(each[0]) in ("", link))
        return [*_without(link), *self._sets.removing(gone)]

    def _put(self, sources: AllowedSources, before: list[wire.Request]) -> None:
        link, index = sources.link, self._socket.index(sources.link)
        if not index:
            raise KernelError(f"there is no interface {link}", errno.ENODEV)
        requests = [
            *before,
            *self._sets.adding((index, address) for address in sources.addresses),
            *_new_chain(link),
        ]
        try:
            self._socket.change(requests)
        except KernelError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EAFNOSUPPORT):
                raise KernelError(f"{error.message}: no chain at ingress", error.errno, mend=_OLDEST) from None
            raise

    def _change_what_is_there(self, requests: list[wire.Request]) -> None:
        try:
            self._socket.change(requests)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise

    def _handle(self, link: str) -> int:
        chain = self._socket.chain(TABLE, link, _NETDEV)
        return chain.handle if chain is not None else 0

    def _links(self) -> Iterator[AllowedSources]:
        """Each link that has a chain, or may send from something; one that is gone by its index.

        Where a link's chain is not as it should be, nothing is certain: no addresses.
        """
        rules: dict[str, list[str]] = {}
        for rule in self._socket.rules(TABLE, family=_NETDEV):
            rules.setdefault(rule.chain, []).append(rule.comment)
        chains = {
            chain.name: _is_right(chain, rules.get(chain.name, []))
            for chain in self._socket.chains(_NETDEV)
            if chain.table == TABLE and chain.name.startswith(INTERFACE_PREFIX)
        }
        found: dict[str, set[IPAddress]] = {link: set() for link in chains}
        for index, address in self._sets.elements():
            link = self._socket.link(index)
            held = found.setdefault(link or str(index), set())
            if not link or chains.get(link):
                held.add(address)
        for name, addresses in found.items():
            yield AllowedSources(self._namespace, name, frozenset(addresses))

    def _repairs(self) -> Iterator[Json]:
        """The commands that make what all pods share whole, to be run as one; none if it is."""
        there = {name: self._socket.flags(TABLE, family) for name, family in _FAMILIES.items()}
        for name, flags in there.items():
            if flags is None or flags:  # a flag on it is not ours: a dormant table's chains see no packet
                yield {"add": {"table": {"family": name, "name": TABLE, "comment": "the pod network of Fairway"}}}
        chain = self._socket.chain(TABLE, ANTISPOOF, _NETDEV)
        comments = self._socket.comments(TABLE, ANTISPOOF, _NETDEV) if chain is not None else []
        sets = list(self._sets.repairs())
        if chain is not None and chain.hook is None and comments == list(_RULES) and not sets:
            return
        if chain is not None:
            yield {"flush": {"chain": _ANTISPOOF}}
            if chain.hook is not None:
                yield {"delete": {"chain": _ANTISPOOF}}
        yield from sets
        yield {"add": {"chain": _ANTISPOOF}}
        # Another process may have filled the chain since we looked: our rules are in it once all the same.
        yield {"flush": {"chain": _ANTISPOOF}}
        for comment, expressions in _RULES.items():
            yield add_rule("netdev", TABLE, ANTISPOOF, comment, expressions)


def _new_chain(link: str) -> list[wire.Request]:
    """Make the link's chain, where it has none."""
    return [
        wire.ingress_chain(TABLE, link, link, _PRIORITY),
        wire.new_rule(TABLE, link, _FROM_A_POD, wire.goto(ANTISPOOF)),
    ]


def _without(link: str) -> list[wire.Request]:
    """Take the link's chain away. Deleting what is not there fails, so it is made first."""
    return [wire.plain_chain(TABLE, link), wire.delete_chain(TABLE, link)]


def _is_right(chain: ChainRecord, comments: list[str]) -> bool:
    """Whether a link's chain is as `FirewallDriver.allow` writes it."""
    place = (chain.hook, chain.priority, chain.policy, chain.devices)
    return (*place, comments) == (wire.NETDEV_INGRESS, _PRIORITY, wire.DROP, (chain.name,), [_FROM_A_POD])
