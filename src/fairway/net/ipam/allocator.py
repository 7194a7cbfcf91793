"""Addresses out of pools. Pure: what is taken is the store's to know.

A pool's first and last addresses are never given in IPv4 pools that have them as network and broadcast address (a /32
or /31 has neither), nor an IPv6 pool's first, the subnet-router anycast address (RFC 4291 2.6.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, ip_network

from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.pod import GATEWAYS
from fairway.net.model.pool import Pool

DEFAULT_POOL = IPv4Network("10.0.0.0/16")
"""What a node takes its pods' addresses from until it is given a pool of its own."""

_RESERVED = (ip_network("169.254.0.0/16"), ip_network("fe80::/10"), ip_network("127.0.0.0/8"), ip_network("::1/128"))


def ahead(block: IPNetwork, after: int = -1) -> Iterator[tuple[int, IPAddress]]:
    """Every address of `block` that a pod may have, with its offset, from behind the offset `after` to the end."""
    first, last = _bounds(block)
    for offset in range(max(first, after + 1), last + 1):
        yield offset, block[offset]


def capacity(pool: IPNetwork) -> int:
    """How many pods `pool` has addresses for."""
    first, last = _bounds(pool)
    return last - first + 1


def pool_of(pools: Iterable[IPNetwork], address: IPAddress) -> IPNetwork:
    """The pool, by its block, that `address` may be taken from; an error that names the pools if there is none."""
    known = list(pools)
    for pool in known:
        if address.version == pool.version and address in pool:
            first, last = _bounds(pool)
            if not first <= int(address) - int(pool.network_address) <= last:
                raise UsageError(f"{address} is the first or last address of the pool {pool}, which no pod can have")
            return pool
    names = ", ".join(str(pool) for pool in known) or "none"
    raise UsageError(
        f"{address} is outside every pool of this node ({names})",
        mend=f"choose an address inside, or add a pool: fairway pool add {address}/{address.max_prefixlen}",
    )


def check_pool(wanted: Pool, others: Iterable[IPNetwork]) -> Pool:
    """`wanted` itself, if it can be a pool beside those with the blocks `others`."""
    pool, whole = wanted.block, wanted.whole
    if wanted.name and not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}", wanted.name):
        raise UsageError(f"pool name {wanted.name!r} is not valid", mend="use letters, digits, and inner '.', '_', '-'")
    if any(not name or any(map(str.isspace, name)) for name in wanted.kubernetes_namespaces | wanted.networks):
        raise UsageError(f"pool {pool}: a namespace or network that it is for has no name, or one with blanks")
    if wanted.cooldown_s < 0:
        raise UsageError(f"pool {pool}: an address cannot rest for {wanted.cooldown_s} s", mend="give 0 or more")
    if whole is not None and not (whole.version == pool.version and _holds(whole, pool)):
        raise UsageError(f"pool {pool} is not a part of {whole}", mend="give a block of that network")
    for reserved in _RESERVED:
        if pool.version == reserved.version and pool.overlaps(reserved):
            raise UsageError(f"pool {pool} overlaps {reserved}, which is not for pods (they reach {GATEWAYS[0]} there)")
    if pool.is_multicast:
        raise UsageError(f"pool {pool} is multicast")
    for other in others:
        if pool != other and pool.version == other.version and pool.overlaps(other):
            raise UsageError(f"pool {pool} overlaps the pool {other}", mend="choose another, or remove that one first")
    return wanted


def _holds(whole: IPNetwork, block: IPNetwork) -> bool:
    return int(whole[0]) <= int(block[0]) and int(block[-1]) <= int(whole[-1])


def _bounds(pool: IPNetwork) -> tuple[int, int]:
    last = pool.num_addresses - 1
    if pool.version == 4:
        return (1, last - 1) if pool.prefixlen < 31 else (0, last)
    return (1, last) if pool.prefixlen < 127 else (0, last)
