"""A network's addresses in blocks, of which each host has its own. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from fairway.net.model.errors import ExhaustedError, UsageError
from fairway.net.model.facts import IPNetwork


def free_block(network: IPNetwork, length: int, taken: Iterable[IPNetwork]) -> IPNetwork:
    """The first block of that prefix `length` in `network` that overlaps none of `taken`.

    The cost grows with the number of those that are taken, and not with how many blocks there are.
    """
    if not network.prefixlen <= length <= network.max_prefixlen:
        raise UsageError(f"{network} has no blocks of /{length}", mend=f"choose a length from {network.prefixlen} on")
    size = 1 << (network.max_prefixlen - length)
    position, end = int(network.network_address), int(network.broadcast_address)
    spans = (
        (int(block.network_address), int(block.broadcast_address))
        for block in taken
        if block.version == network.version
    )
    for first, last in sorted(spans):
        if last < position:
            continue
        if first >= position + size:
            break
        position = (last // size + 1) * size
    if position + size - 1 > end:
        raise ExhaustedError(f"every /{length} of {network} is taken", mend="take a larger network, or smaller blocks")
    return type(network)((position, length))
