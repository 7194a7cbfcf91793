"""Who may have which address: pools, the choice among them, blocks. Pure."""

from fairway.net.ipam.allocator import DEFAULT_POOL, ahead, capacity, check_pool, pool_of
from fairway.net.ipam.blocks import free_block
from fairway.net.ipam.choice import check_wanted, eligible, wish_of

__all__ = [
    "DEFAULT_POOL",
    "ahead",
    "capacity",
    "check_pool",
    "check_wanted",
    "eligible",
    "free_block",
    "pool_of",
    "wish_of",
]
