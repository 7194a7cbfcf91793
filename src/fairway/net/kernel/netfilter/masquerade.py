"""The chain of our table that hides pods' addresses from whoever is outside the network, and from nobody else."""

from __future__ import annotations

import errno

from fairway.net.kernel.netfilter.nftables import Json
from fairway.net.kernel.netfilter.rules import TableDriver, add_rule, address, match, network
from fairway.net.model.errors import KernelError
from fairway.net.model.facts import IPNetwork, Masquerade

CHAIN = "masquerading"
_POSTROUTING = 4  # NF_INET_POST_ROUTING: linux/netfilter.h
_SOURCE_NAT = 100  # NF_IP_PRI_NAT_SRC: linux/netfilter_ipv4.h


class MasqueradeDriver(TableDriver):
    """Our table `name` of the inet family, in the namespace of the thread that makes the driver."""

    def __init__(self, namespace: str, name: str) -> None:
        super().__init__()
        self._namespace = namespace
        self._table = name

    def replace(self, wanted: Masquerade | None) -> None:
        """Make the chain what it should be, in one transaction; None: take it away."""
        place: Json = {"family": "inet", "table": self._table, "name": CHAIN}
        if wanted is None:
            if self._socket.chain(self._table, CHAIN) is not None:
                self._nft.run([{"flush": {"chain": place}}, {"delete": {"chain": place}}])
            return
        base = {**place, "type": "nat", "hook": "postrouting", "prio": _SOURCE_NAT, "policy": "accept"}
        commands: list[Json] = [{"add": {"chain": base}}, {"flush": {"chain": place}}]
        for version in (4, 6):
            sources = [each for each in wanted.sources if each.version == version]
            if sources:
                spared = [each for each in wanted.spared if each.version == version]
                commands.append(self._rule(version, sources, spared, wanted.mark))
        try:
            self._nft.run(commands)
        except KernelError as error:
            if error.errno == errno.EPERM:
                raise
            # Somebody has made a chain of another kind under our name.
            self._nft.run([{"add": {"chain": place}}, {"flush": {"chain": place}}, {"delete": {"chain": place}}])
            self._nft.run(commands)

    def observe(self) -> Masquerade | None:
        """What there is, known by its mark; None: no chain. One that is not right bears no mark."""
        chain = self._socket.chain(self._table, CHAIN)
        if chain is None:
            return None
        marks = {comment.rpartition("#")[2] for comment in self._socket.comments(self._table, CHAIN)}
        right = (chain.kind, chain.hook, chain.priority) == ("nat", _POSTROUTING, _SOURCE_NAT)
        return Masquerade(self._namespace, marks.pop() if right and len(marks) == 1 else "")

    def _rule(self, version: int, sources: list[IPNetwork], spared: list[IPNetwork], mark: str) -> Json:
        expressions = [
            match(address(version, "saddr"), _ordered(sources)),
            *([match(address(version, "daddr"), _ordered(spared), "!=")] if spared else []),
            {"masquerade": None},
        ]
        comment = f"fairway: from pods to outside the network, IPv{version} #{mark}"
        return add_rule("inet", self._table, CHAIN, comment, expressions)


def _ordered(networks: list[IPNetwork]) -> Json:
    ordered = sorted(networks, key=lambda each: (int(each.network_address), each.prefixlen))
    return {"set": [network(str(each.network_address), each.prefixlen) for each in ordered]}
