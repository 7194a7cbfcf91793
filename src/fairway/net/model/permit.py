"""What a node's certificate says: who it is, and what it may announce."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.net.model.facts import IPNetwork


@dataclass(frozen=True, slots=True)
class Permit:
    """`node` may announce all within its `blocks`, and single addresses of the `pools`: pods that moved there."""

    node: str
    blocks: tuple[IPNetwork, ...] = ()
    pools: tuple[IPNetwork, ...] = ()
    serial: int = 0
    """The certificate's serial number, by which it can be revoked."""

    def allows(self, prefix: IPNetwork) -> bool:
        """Whether the node may announce `prefix`."""
        if within(prefix, self.blocks):
            return True
        return prefix.prefixlen == prefix.max_prefixlen and within(prefix, self.pools)


def within(prefix: IPNetwork, networks: tuple[IPNetwork, ...]) -> bool:
    """Whether `prefix` lies in one of `networks`."""
    first, length = prefix.network_address, prefix.prefixlen
    return any(network.prefixlen <= length and first in network for network in networks)  # no other version's is in it
