"""Who has which address: a pure allocator over pools."""

from fairway.net.ipam.allocator import DEFAULT_POOL, candidates, check_pool, pool_of

__all__ = ["DEFAULT_POOL", "candidates", "check_pool", "pool_of"]
