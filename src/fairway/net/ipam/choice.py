"""Which pools a pod's addresses may come from. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fairway.net.ipam.allocator import pool_of
from fairway.net.model.attachment import AttachRequest
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress
from fairway.net.model.pod import parse_address
from fairway.net.model.pool import Pool, Wish

POOL_ANNOTATION = "fairway/pool"
ADDRESS_ANNOTATION = "fairway/ip"
VERSIONS_ANNOTATION = "fairway/ip-versions"
STICKY_ANNOTATION = "fairway/sticky"

_STICKY_MAX = 600  # the longest Kubernetes namespace and pod name fit
_YES, _NO = ("true", "yes"), ("", "false", "no")


def wish_of(request: AttachRequest) -> Wish:
    """What a runtime's request and the pod's annotations say; the request itself has precedence."""
    notes, known = request.kubernetes.annotations, request.kubernetes
    addresses = request.addresses or tuple(
        parse_address(text, ADDRESS_ANNOTATION) for text in _words(notes.get(ADDRESS_ANNOTATION, ""))
    )
    return Wish(
        addresses=addresses,
        versions=request.versions or _versions(notes.get(VERSIONS_ANNOTATION, "")),
        pools=request.pools or _words(notes.get(POOL_ANNOTATION, "")),
        sticky=request.sticky or _sticky(notes.get(STICKY_ANNOTATION, ""), known.namespace, known.pod),
        kubernetes_namespace=known.namespace,
        network=request.network,
    )


def check_wanted(pools: Sequence[Pool], wish: Wish) -> tuple[IPAddress, ...]:
    """The addresses that are wished for by themselves, if pools that are for the pod have them."""
    if len(set(wish.addresses)) != len(wish.addresses):
        raise UsageError("the same address is given twice")
    by_block = {pool.block: pool for pool in pools}
    for address in wish.addresses:
        _check_allowed(by_block[pool_of(by_block, address)], wish)
    return wish.addresses


def eligible(pools: Sequence[Pool], wish: Wish) -> dict[int, list[Pool]]:
    """For each IP version that the pod is to have an address of, the pools to take it from, in their order."""
    named = _named(pools, wish) if wish.pools else list(pools)
    chosen: dict[int, list[Pool]] = {}
    for version in wish.versions or sorted({pool.block.version for pool in named}):
        some = [pool for pool in named if pool.block.version == version]
        if not wish.pools:
            some = [p for p in some if _selects(p) and _is_for(p, wish)] or [p for p in some if not _selects(p)]
        if some:
            chosen[version] = some
        elif wish.versions:
            raise UsageError(f"there is no pool of IPv{version} for it", mend="see: fairway pool ls")
    if not chosen:
        raise UsageError("there is no pool that is for it", mend="see: fairway pool ls")
    return chosen


def _named(pools: Sequence[Pool], wish: Wish) -> list[Pool]:
    for name in wish.pools:
        found = [pool for pool in pools if pool.title == name]
        if not found:
            raise UsageError(f"there is no pool called {name!r}", mend="see: fairway pool ls")
        for pool in found:
            _check_allowed(pool, wish)
    return [pool for name in wish.pools for pool in pools if pool.title == name]


def _check_allowed(pool: Pool, wish: Wish) -> None:
    """Whoever writes an annotation may not take from what is others'; a person on the host may."""
    if wish.kubernetes_namespace and not _is_for(pool, wish):
        raise UsageError(
            f"the pool {pool.title} is not for pods of the namespace {wish.kubernetes_namespace}",
            mend="see: fairway pool ls",
        )


def _selects(pool: Pool) -> bool:
    return bool(pool.kubernetes_namespaces or pool.networks)


def _is_for(pool: Pool, wish: Wish) -> bool:
    in_namespace = not pool.kubernetes_namespaces or wish.kubernetes_namespace in pool.kubernetes_namespaces
    return in_namespace and (not pool.networks or wish.network in pool.networks)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def _versions(text: str) -> tuple[int, ...]:
    words = _words(text)
    if not set(words) <= {"4", "6"}:
        raise UsageError(f"{VERSIONS_ANNOTATION}: {text!r} names no IP versions", mend="write 4, 6 or 4,6")
    return tuple(sorted({int(word) for word in words}))


def _sticky(text: str, namespace: str, pod: str) -> str:
    """The words that the addresses are kept for; "true": the pod's own namespace and name."""
    if text.lower() in _NO:
        return ""
    if len(text) > _STICKY_MAX:
        raise UsageError(f"{STICKY_ANNOTATION} has {len(text)} characters; at most {_STICKY_MAX} fit")
    words = pod if text.lower() in _YES else text
    return f"{namespace}/{words}" if words else ""
