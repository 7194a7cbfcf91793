"""Fairway's own nftables tables: pods send from their own addresses only.

Each pod has a chain at its link's ingress: only what comes from a pod is judged, before routing, and nothing depends on
rp_filter; what comes from elsewhere passes no hook of ours. What is not from the pod's own address goes to one chain
for all. An IPv6 pod also speaks without an address of its own to find its neighbours: RFC 4861 from a link-local
source, RFC 4862 5.4.2 from the unspecified one, and MLD (RFC 3810) from either. These messages stay on the link; a
router's messages (advertisement, redirect) are not a pod's.

The chains are of the netdev family. One of the inet family sees no frame but IP's, and the kernel goes on to unpack
others: behind two tags of VLAN 0 there is IP again, past the chain. A netdev chain sees each frame as it is with one
tag taken off, and lets nothing in but IP and ARP.

The kernel remembers who asks for a neighbour, in one table of 1,024 places for the whole machine: who asks in the names
of a thousand leaves no room for the host's own neighbours. So ARP is let in only from the pod's own addresses, or from
nobody, as a probe (RFC 5227 section 2.1.1) is, which is not remembered; and what comes from link-local addresses, of
which a pod may give itself any, only seldom.

With each rule that comes the kernel checks every chain of its table again, rule by rule, and with each chain at a link
it compares the names of all links: so a pod has one chain, and what all pods have in common is not in it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

from fairway.net.kernel.netfilter import wire
from fairway.net.kernel.netfilter.nftables import Json
from fairway.net.kernel.netfilter.rules import ACCEPT, COUNT, DROP, TableDriver, add_rule, field, match, meta, network
from fairway.net.kernel.netfilter.table_socket import ChainRecord, RuleMessage, RuleRecord, compared_values
from fairway.net.model.errors import KernelError
from fairway.net.model.facts import AllowedSources, Firewall, IPAddress
from fairway.net.model.names import INTERFACE_PREFIX

FAMILY = "inet"
TABLE = "fairway"
"""The name of both tables: the netdev family's, for what pods send, and `FAMILY`'s, for policies and masquerading."""
STRANGERS = "antispoof"
"""The chain for what a pod sends from another address than its own."""

_NETDEV = wire.NFPROTO_NETDEV
_FAMILIES = {"netdev": _NETDEV, FAMILY: wire.NFPROTO_INET}
_STRANGERS: Json = {"family": "netdev", "table": TABLE, "name": STRANGERS}
_PRIORITY = -300  # before connection tracking, as is a chain called "raw"
_OLDEST = "Linux 5.10 or newer is needed, with CONFIG_NETFILTER_INGRESS and CONFIG_NF_TABLES_NETDEV"
_TRIES = 4  # a change by another program between our look and our transaction makes the transaction fail


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
    # RFC 826: for Ethernet and IPv4, as the kernel reads no other here.
    "fairway: ARP from a pod, a probe": [match(_ARP_SENDER, "0.0.0.0"), ACCEPT],
    "fairway: IPv4 from a pod, not its own source": [match(meta("protocol"), "ip"), COUNT, DROP],
    "fairway: IPv6 from a pod, not its own source": [match(meta("protocol"), "ip6"), COUNT, DROP],
    "fairway: from a pod, ARP of others or neither IP nor ARP": [COUNT, DROP],
}
_OWN = "fairway: from a pod, its own source"
_OWN_ARP = "fairway: ARP from a pod, its own address"
_OTHER = "fairway: from a pod, not its own source"


class FirewallDriver(TableDriver):
    """The table of the network namespace of the thread that makes the driver; `namespace` is its name in the facts."""

    def __init__(self, namespace: str) -> None:
        super().__init__()
        self._namespace = namespace
        self._read: dict[str, tuple[int, AllowedSources]] = {}
        """By pod's link: a hash of its rules as they were when they were last read, and what they say."""

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
        facts: set[Firewall | AllowedSources] = set(self._pods())
        if self.whole():
            facts.add(Firewall(self._namespace))
        return facts

    def observe_link(self, link: str) -> set[AllowedSources]:
        """What one link may send from, if it has a chain; the others' number costs nothing."""
        chain = self._socket.chain(TABLE, link, _NETDEV)
        return {self._sources(chain, self._socket.rules(TABLE, link, _NETDEV))} if chain is not None else set()

    def allow(self, sources: AllowedSources) -> None:
        """Let the link, which is there, send from these addresses and no others; a chain that it has is replaced.

        The old chain goes and the new one comes in one transaction: no packet passes between them.
        """
        link = sources.link
        requests = [
            *_without(link),
            wire.ingress_chain(TABLE, link, link, _PRIORITY),
            *(wire.new_rule(TABLE, link, comment, rule) for comment, rule in _rules_for(sources.addresses)),
        ]
        try:
            self._socket.change(requests)
        except KernelError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EAFNOSUPPORT):
                raise KernelError(f"{error.message}: no chain at ingress", error.errno, mend=_OLDEST) from None
            raise

    def disallow(self, link: str) -> None:
        """Take the link's chain away; it has none, or there is no table: nothing."""
        self._change_what_is_there(_without(link))

    def silence(self, link: str) -> int:
        """Let the link send nothing but what finds neighbours; the handle of its chain, 0 if there is no table."""
        try:
            self.allow(AllowedSources(self._namespace, link, frozenset()))
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
        return self._handle(link)

    def end(self, link: str, handle: int) -> None:
        """Take the link's chain away if it has that handle, which no other is ever given; else nothing."""
        if handle and self._handle(link) == handle:
            self._change_what_is_there([wire.delete_chain_of_handle(TABLE, handle)])

    def _change_what_is_there(self, requests: list[wire.Request]) -> None:
        try:
            self._socket.change(requests)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise

    def _handle(self, link: str) -> int:
        chain = self._socket.chain(TABLE, link, _NETDEV)
        return chain.handle if chain is not None else 0

    def _pods(self) -> Iterator[AllowedSources]:
        """Each pod's chain as a fact."""
        rules: dict[str, list[RuleMessage]] = {}
        for rule in self._socket.rule_messages(TABLE, _NETDEV):
            rules.setdefault(rule.chain, []).append(rule)
        read, self._read = self._read, {}
        for chain in self._socket.chains(_NETDEV):
            if chain.table == TABLE and chain.name.startswith(INTERFACE_PREFIX):
                there = rules.get(chain.name, [])
                seen = hash((chain, tuple(there)))
                known = read.get(chain.name)
                if known is None or known[0] != seen:
                    known = seen, self._sources(chain, [rule.read() for rule in there])
                self._read[chain.name] = known
                yield known[1]

    def _sources(self, chain: ChainRecord, rules: list[RuleRecord]) -> AllowedSources:
        """A pod's chain; where it is not as it should be, nothing is certain: no addresses."""
        found = _addresses(rules) if _is_at_its_link(chain) else ()
        return AllowedSources(self._namespace, chain.name, frozenset(found))

    def _repairs(self) -> Iterator[Json]:
        """The commands that make what all pods share whole, to be run as one; none if it is."""
        there = {name: self._socket.flags(TABLE, family) for name, family in _FAMILIES.items()}
        for name, flags in there.items():
            if flags is None or flags:  # a flag on it is not ours: a dormant table's chains see no packet
                yield {"add": {"table": {"family": name, "name": TABLE, "comment": "the pod network of Fairway"}}}
        chain = self._socket.chain(TABLE, STRANGERS, _NETDEV)
        comments = self._socket.comments(TABLE, STRANGERS, _NETDEV) if chain is not None else []
        if chain is not None and chain.hook is None and comments == list(_RULES):
            return
        if chain is not None and chain.hook is not None:
            yield {"flush": {"chain": _STRANGERS}}
            yield {"delete": {"chain": _STRANGERS}}
        yield {"add": {"chain": _STRANGERS}}
        # Another process may have filled the chain since we looked: our rules are in it once all the same.
        yield {"flush": {"chain": _STRANGERS}}
        for comment, expressions in _RULES.items():
            yield add_rule("netdev", TABLE, STRANGERS, comment, expressions)


def _without(link: str) -> list[wire.Request]:
    """Take the link's chain away. Deleting what is not there fails, so it is made first."""
    return [wire.plain_chain(TABLE, link), wire.delete_chain(TABLE, link)]


def _rules_for(addresses: Iterable[IPAddress]) -> Iterator[tuple[str, bytes]]:
    """The rules, each a comment and expressions, of a pod that has these addresses."""
    own = _in_order(addresses)
    for address in own:
        yield _OWN, wire.source_is(address) + wire.accept()
    for address in own:
        if address.version == 4:
            yield _OWN_ARP, wire.arp_sender_is(address) + wire.accept()
    yield _OTHER, wire.goto(STRANGERS)


def _is_at_its_link(chain: ChainRecord) -> bool:
    place = (chain.hook, chain.priority, chain.policy, chain.devices)
    return place == (wire.NETDEV_INGRESS, _PRIORITY, wire.DROP, (chain.name,))


def _addresses(rules: Sequence[RuleRecord]) -> list[IPAddress]:
    """The addresses that a pod's rules accept; none if they are not as `FirewallDriver.allow` writes them."""
    sources = [rule.values[-1] for rule in rules if rule.comment == _OWN and rule.values]
    if any(len(source) not in (4, 16) for source in sources):
        return []
    found = [ip_address(source) for source in sources]
    written = [(comment, tuple(compared_values(rule))) for comment, rule in _rules_for(found)]
    return found if [(rule.comment, rule.values) for rule in rules] == written else []


def _in_order(addresses: Iterable[IPAddress]) -> list[IPAddress]:
    return sorted(addresses, key=lambda address: (address.version, int(address)))
