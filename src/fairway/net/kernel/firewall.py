"""Fairway's own nftables table: pods send from their own addresses only.

Each pod has a chain at its link's ingress: only what comes from a pod is judged, before routing, and nothing depends on
rp_filter; what comes from elsewhere passes no hook of ours. What is not from the pod's own address goes to one chain
for all. An IPv6 pod also speaks without an address of its own to find its neighbours: RFC 4861 from a link-local
source, RFC 4862 5.4.2 from the unspecified one, and MLD (RFC 3810) from either. These messages stay on the link; a
router's messages (advertisement, redirect) are not a pod's.

A chain of the inet family sees no frame but IP's, and the kernel goes on to unpack others: behind two tags of VLAN 0
there is IP again, past the chain. So a chain of the netdev family at the same place lets nothing in but IP and ARP.

The kernel remembers who asks for a neighbour, in one table of 1,024 places for the whole machine: who asks in the names
of a thousand leaves no room for the host's own neighbours. So ARP is let in only from the pod's own addresses, or from
nobody, as a probe (RFC 5227 section 2.1.1) is, which is not remembered; and what comes from link-local addresses, of
which a pod may give itself any, only seldom.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, ip_address

from fairway.net.kernel import nfmessages
from fairway.net.kernel.nfnetlink import ChainRecord, RuleRecord, TableSocket
from fairway.net.kernel.nftables import Json, Nft
from fairway.net.model.errors import KernelError
from fairway.net.model.facts import AllowedSources, Firewall, IPAddress
from fairway.net.model.names import INTERFACE_PREFIX

FAMILY = "inet"
TABLE = "fairway"
STRANGERS = "antispoof"
"""The chain for what a pod sends from another address than its own."""
FRAMES = "fairway-frames"
"""The table of the netdev family: chains by the names of the links, for the kinds of frames."""

_TABLE: Json = {"family": FAMILY, "name": TABLE}
_STRANGERS: Json = {"family": FAMILY, "table": TABLE, "name": STRANGERS}
_PRIORITY = -300  # before connection tracking, as is a chain called "raw"
_OLDEST = "Linux 5.10 or newer is needed, with CONFIG_NETFILTER_INGRESS"
_TRIES = 4  # a change by another program between our look and our transaction makes the transaction fail


def _match(left: Json, right: object, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def _meta(key: str) -> Json:
    return {"meta": {"key": key}}


def _field(protocol: str, field: str) -> Json:
    return {"payload": {"protocol": protocol, "field": field}}


def _network(address: str, length: int) -> Json:
    return {"prefix": {"addr": address, "len": length}}


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
_RULES: dict[str, list[Json]] = {
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
}
_OWN = "fairway: from a pod, its own source"
_TOO_OFTEN = "fairway: IPv6 from a pod, not its own source, too often"
_OTHER = "fairway: from a pod, not its own source"
_ETHERTYPES = {"fairway: IPv4": 0x0800, "fairway: IPv6": 0x86DD}  # IEEE 802 Numbers
_ARP, _ETHERTYPE_ARP = "fairway: ARP, its own sender or none", 0x0806
_NOBODY = IPv4Address(0)
_NEIGHBOURLY_RATE = 20, 40
"""IPv6 packets a second, and at once, not from a pod's own address, that are looked at for what finds neighbours."""
_NETDEV = nfmessages.NFPROTO_NETDEV


class FirewallDriver:
    """The table of the network namespace of the thread that makes the driver; `namespace` is its name in the facts."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._nft = Nft()
        self._socket = TableSocket()

    def close(self) -> None:
        """End the sockets; the table stays."""
        self._nft.close()
        self._socket.close()

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
        for table in (_TABLE, {"family": "netdev", "name": FRAMES}):
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
        chain = self._socket.chain(TABLE, link)
        if chain is None:
            return set()
        frames = self._socket.chain(FRAMES, link, _NETDEV)
        kinds = self._socket.rules(FRAMES, link, _NETDEV) if frames is not None else []
        return {self._sources(chain, self._socket.rules(TABLE, link), frames, kinds)}

    def allow(self, sources: AllowedSources) -> None:
        """Let the link, which is there, send from these addresses and no others; a chain that it has is replaced.

        The old chain goes and the new one comes in one transaction: no packet passes between them.
        """
        link = sources.link
        requests = [
            *_without(link),
            nfmessages.ingress_chain(TABLE, link, link, _PRIORITY),
            *(
                nfmessages.new_rule(TABLE, link, _OWN, nfmessages.source_is(address), nfmessages.accept())
                for address in _in_order(sources.addresses)
            ),
            nfmessages.new_rule(TABLE, link, _TOO_OFTEN, nfmessages.too_often(*_NEIGHBOURLY_RATE), nfmessages.drop()),
            nfmessages.new_rule(TABLE, link, _OTHER, nfmessages.goto(STRANGERS)),
            *_without_frames(link),
            nfmessages.ingress_chain(FRAMES, link, link, _PRIORITY, _NETDEV),
            *(
                nfmessages.new_rule(
                    FRAMES, link, comment, nfmessages.protocol_is(kind), nfmessages.accept(), family=_NETDEV
                )
                for comment, kind in _ETHERTYPES.items()
            ),
            *(
                nfmessages.new_rule(
                    FRAMES,
                    link,
                    _ARP,
                    nfmessages.protocol_is(_ETHERTYPE_ARP),
                    nfmessages.arp_sender_is(sender),
                    nfmessages.accept(),
                    family=_NETDEV,
                )
                for sender in _arp_senders(sources.addresses)
            ),
        ]
        try:
            self._socket.change(requests)
        except KernelError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EAFNOSUPPORT):
                raise KernelError(f"{error.message}: no chain at ingress", error.errno, mend=_OLDEST) from None
            raise

    def disallow(self, link: str) -> None:
        """Take the link's chains away; it has none, or there is no table: nothing."""
        self._change_what_is_there(_without(link))
        if self._socket.chain(FRAMES, link, _NETDEV) is not None:
            self._change_what_is_there([nfmessages.delete_chain(FRAMES, link, _NETDEV)])

    def silence(self, link: str) -> int:
        """Let the link send nothing but what finds neighbours; the handle of its chain, 0 if there is no table."""
        try:
            self.allow(AllowedSources(self._namespace, link, frozenset()))
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
        return self._handle(link)

    def end(self, link: str, handle: int) -> None:
        """Take the link's chains away if the one has that handle, which no other is ever given; else nothing."""
        if not handle or self._handle(link) != handle:
            return
        # Whoever has made the one anew since has made both, and this changes neither.
        requests = [nfmessages.delete_chain_of_handle(TABLE, handle)]
        if self._socket.chain(FRAMES, link, _NETDEV) is not None:
            requests.append(nfmessages.delete_chain(FRAMES, link, _NETDEV))
        self._change_what_is_there(requests)

    def _change_what_is_there(self, requests: list[nfmessages.Request]) -> None:
        try:
            self._socket.change(requests)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise

    def _handle(self, link: str) -> int:
        chain = self._socket.chain(TABLE, link)
        return chain.handle if chain is not None else 0

    def _pods(self) -> Iterator[AllowedSources]:
        """Each pod's chains as a fact."""
        kinds = _by_chain(self._socket.rules(FRAMES, family=_NETDEV))
        frames = {chain.name: chain for chain in self._socket.chains(_NETDEV) if chain.table == FRAMES}
        rules = _by_chain(self._socket.rules(TABLE))
        for chain in self._socket.chains(nfmessages.NFPROTO_INET):
            if chain.table == TABLE and chain.name.startswith(INTERFACE_PREFIX):
                name = chain.name
                yield self._sources(chain, rules.get(name, []), frames.get(name), kinds.get(name, []))

    def _sources(
        self, chain: ChainRecord, rules: list[RuleRecord], frames: ChainRecord | None, kinds: list[RuleRecord]
    ) -> AllowedSources:
        """A pod's chains; where one is not as it should be, nothing is certain: no addresses."""
        found = _addresses(rules) if _is_at_its_link(chain, nfmessages.INGRESS) else None
        certain = found is not None and frames is not None and _guards(frames, kinds, found)
        return AllowedSources(self._namespace, chain.name, frozenset(found or ()) if certain else frozenset())

    def _repairs(self) -> Iterator[Json]:
        """The commands that make what all pods share whole, to be run as one; none if it is."""
        flags = self._socket.flags(TABLE)
        if flags is None or flags:  # a flag on it is not ours: a dormant table's chains see no packet
            yield {"add": {"table": {**_TABLE, "comment": "the pod network of Fairway"}}}
        chain = self._socket.chain(TABLE, STRANGERS) if flags is not None else None
        comments = self._socket.comments(TABLE, STRANGERS) if chain is not None else []
        if chain is not None and chain.hook is None and comments == list(_RULES):
            return
        if chain is not None and chain.hook is not None:
            yield {"flush": {"chain": _STRANGERS}}
            yield {"delete": {"chain": _STRANGERS}}
        yield {"add": {"chain": _STRANGERS}}
        # Another process may have filled the chain since we looked: our rules are in it once all the same.
        yield {"flush": {"chain": _STRANGERS}}
        for comment, expressions in _RULES.items():
            rule = {"family": FAMILY, "table": TABLE, "chain": STRANGERS, "comment": comment, "expr": expressions}
            yield {"add": {"rule": rule}}


def _without(link: str) -> list[nfmessages.Request]:
    """Take the link's chain away. Deleting what is not there fails, so it is made first."""
    return [nfmessages.plain_chain(TABLE, link), nfmessages.delete_chain(TABLE, link)]


def _without_frames(link: str) -> list[nfmessages.Request]:
    return [
        nfmessages.table(FRAMES, _NETDEV),
        nfmessages.plain_chain(FRAMES, link, _NETDEV),
        nfmessages.delete_chain(FRAMES, link, _NETDEV),
    ]


def _by_chain(rules: Iterable[RuleRecord]) -> dict[str, list[RuleRecord]]:
    found: dict[str, list[RuleRecord]] = {}
    for rule in rules:
        found.setdefault(rule.chain, []).append(rule)
    return found


def _is_at_its_link(chain: ChainRecord, hook: int) -> bool:
    place = (chain.hook, chain.priority, chain.policy, chain.devices)
    return place == (hook, _PRIORITY, nfmessages.DROP, (chain.name,))


def _guards(chain: ChainRecord, rules: list[RuleRecord], addresses: Iterable[IPAddress]) -> bool:
    """Whether a chain for the kinds of frames is as `FirewallDriver.allow` writes it for these addresses."""
    wanted: list[tuple[str, tuple[bytes, ...]]] = [
        (comment, (kind.to_bytes(2, "big"),)) for comment, kind in _ETHERTYPES.items()
    ]
    arp = _ETHERTYPE_ARP.to_bytes(2, "big")
    wanted += [(_ARP, (arp, sender.packed)) for sender in _arp_senders(addresses)]
    written = [(rule.comment, rule.values) for rule in rules]
    return _is_at_its_link(chain, nfmessages.NETDEV_INGRESS) and written == wanted


def _arp_senders(addresses: Iterable[IPAddress]) -> list[IPAddress]:
    return [*(address for address in _in_order(addresses) if address.version == 4), _NOBODY]


def _addresses(rules: list[RuleRecord]) -> list[IPAddress] | None:
    """The addresses that a pod's rules accept; None if they are not as `FirewallDriver.allow` writes them."""
    own, others = [rule.comment for rule in rules[:-2]], [rule.comment for rule in rules[-2:]]
    sources = [rule.values[-1] if rule.values else b"" for rule in rules[:-2]]
    if others != [_TOO_OFTEN, _OTHER] or set(own) - {_OWN} or any(len(source) not in (4, 16) for source in sources):
        return None
    return [ip_address(source) for source in sources]


def _in_order(addresses: Iterable[IPAddress]) -> list[IPAddress]:
    return sorted(addresses, key=lambda address: (address.version, int(address)))
