"""Which block of a network's pool is free: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPNetwork

DEFAULT_LENGTHS = {4: 24, 6: 64}


@dataclass(frozen=True, slots=True)
class Block:
    """A pool of the network, and the prefix length of the blocks that nodes get of it."""

    network: IPNetwork
    length: int = 0
    """0: 24 for IPv4, 64 for IPv6."""

    def __post_init__(self) -> None:
        if not self.length:
            default = DEFAULT_LENGTHS[self.network.version]
            object.__setattr__(self, "length", max(default, self.network.prefixlen))
        if not self.network.prefixlen <= self.length <= self.network.max_prefixlen:
            raise UsageError(
                f"blocks of length {self.length} do not fit {self.network}",
                mend=f"choose a length from {self.network.prefixlen} to {self.network.max_prefixlen}",
            )


def free_block(pool: Block, taken: Sequence[IPNetwork]) -> IPNetwork | None:
    """The block after the highest one that is taken, else the lowest that is free; None if there is none."""
    network, size = pool.network, 1 << (pool.network.max_prefixlen - pool.length)
    inside = sorted(
        (int(block.network_address), int(block.broadcast_address))
        for block in taken
        if block.version == network.version and block.overlaps(network)
    )
    first, last = int(network.network_address), int(network.broadcast_address)
    start = -(-(inside[-1][1] + 1) // size) * size if inside else first
    if start + size - 1 <= last:
        return _network(network.version, start, pool.length)
    start = first
    for low, high in inside:
        if start + size - 1 < low:
            break
        start = max(start, -(-(high + 1) // size) * size)
    return _network(network.version, start, pool.length) if start + size - 1 <= last else None


def _network(version: int, address: int, length: int) -> IPNetwork:
    return IPv4Network((address, length)) if version == 4 else IPv6Network((address, length))
