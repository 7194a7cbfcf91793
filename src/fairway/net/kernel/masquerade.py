"""The chain of our table that hides pods' addresses from whoever is outside the network, and from nobody else."""

from __future__ import annotations

import errno

from fairway.net.kernel.nfnetlink import TableSocket
from fairway.net.kernel.nftables import Json, Nft
from fairway.net.model.errors import KernelError
from fairway.net.model.facts import IPNetwork, Masquerade

CHAIN = "masquerading"
_POSTROUTING = 4  # NF_INET_POST_ROUTING: linux/netfilter.h
_SOURCE_NAT = 100  # NF_IP_PRI_NAT_SRC: linux/netfilter_ipv4.h
_PROTOCOLS = {4: "ip", 6: "ip6"}


class MasqueradeDriver:
    """Our table `name` of the inet family, in the namespace of the thread that makes the driver."""

    def __init__(self, namespace: str, name: str) -> None:
        self._namespace = namespace
        self._table = name
        self._nft = Nft()
        self._socket = TableSocket()

    def close(self) -> None:
        """End the sockets; what is in the kernel stays."""
        self._nft.close()
        self._socket.close()

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
            sources = [network for network in wanted.sources if network.version == version]
            if sources:
                spared = [network for network in wanted.spared if network.version == version]
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
            _match(version, "saddr", "==", sources),
            *([_match(version, "daddr", "!=", spared)] if spared else []),
            {"masquerade": None},
        ]
        comment = f"fairway: from pods to outside the network, IPv{version} #{mark}"
        return {
            "add": {
                "rule": {
                    "family": "inet",
                    "table": self._table,
                    "chain": CHAIN,
                    "comment": comment,
                    "expr": expressions,
                }
            }
        }


def _match(version: int, field: str, operator: str, networks: list[IPNetwork]) -> Json:
    left = {"payload": {"protocol": _PROTOCOLS[version], "field": field}}
    ordered = sorted(networks, key=lambda network: (int(network.network_address), network.prefixlen))
    right = [{"prefix": {"addr": str(each.network_address), "len": each.prefixlen}} for each in ordered]
    return {"match": {"op": operator, "left": left, "right": {"set": right}}}
