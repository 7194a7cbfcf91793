"""What a host's pods take their addresses from."""

from __future__ import annotations

from fairway.net.host import uplink
from fairway.net.host.masquerade import Masquerading
from fairway.net.host.store import PodState, Store
from fairway.net.ipam import DEFAULT_POOL, capacity, check_pool, check_wanted, eligible
from fairway.net.kernel import Kernel
from fairway.net.model.errors import ExhaustedError, UsageError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.pool import Pool, PoolUse, Wish
from fairway.net.reconcile import apply, plan, refusal_facts


class Pools:
    """The pools of one host; without any of its own there is the default one."""

    def __init__(self, store: Store, kernel: Kernel, masquerading: Masquerading) -> None:
        self._store = store
        self._kernel = kernel
        self._masquerading = masquerading

    def all(self) -> list[Pool]:
        """The pools, in the order they were added."""
        return [use.pool for use in self.statistics()]

    def statistics(self) -> list[PoolUse]:
        """How full each pool is, without counting."""
        return self._store.addresses.statistics() or [
            PoolUse(Pool(DEFAULT_POOL), capacity(DEFAULT_POOL), self._store.addresses.outside(DEFAULT_POOL))
        ]

    def add(self, pool: Pool | IPNetwork) -> None:
        """Take pods' addresses from `pool` too; the default pool is given up with the first of one's own.

        Of a pool that is there already, all but its block is changed to this.
        """
        wanted = pool if isinstance(pool, Pool) else Pool(pool)
        with self._store.lock():
            check_pool(wanted, [other.block for other in self._store.addresses.pools()])
            uplink.check_overlap(self._kernel, wanted.block)
            self._store.addresses.add_pool(wanted)
            self._enforce()

    def remove(self, block: IPNetwork) -> None:
        """Take no more addresses from the pool with that block; an error while a pod has one of them."""
        with self._store.lock():
            if block not in [pool.block for pool in self._store.addresses.pools()]:
                raise UsageError(f"{block} is not a pool of this node", mend="see: fairway pool ls")
            if self.in_use(block):
                raise UsageError(f"a pod has an address of the pool {block}", mend="remove the pod first")
            self._store.addresses.delete_pool(block)
            self._enforce()

    def in_use(self, block: IPNetwork) -> bool:
        """Whether a pod that is not being removed has an address of the pool with that block."""
        query = "SELECT 1 FROM addresses JOIN pods ON pod = name WHERE pool = ? AND state = ? LIMIT 1"
        return bool(self._store.rows(query, str(block), PodState.PRESENT.value))

    def choose(self, wish: Wish) -> tuple[IPAddress, ...]:
        """The addresses of a new pod: those wished for, or one of each IP version that there is a pool of for it."""
        pools = self.all()
        if wish.addresses:
            return check_wanted(pools, wish)
        if not self._store.addresses.pools():
            uplink.check_overlap(self._kernel, DEFAULT_POOL)
            self._store.addresses.add_pool(Pool(DEFAULT_POOL))
            self._enforce()
        chosen = eligible(pools, wish)
        return tuple(self._store.addresses.choose(some, wish.sticky) for some in chosen.values())

    def _enforce(self) -> None:
        """Bring what follows from the pools into the kernel, if there are pods."""
        self._masquerading.enforce()
        if not self._store.is_empty():
            addresses = self._store.addresses
            wanted = refusal_facts(self._kernel.home, addresses.pools(), addresses.versions())
            apply(plan(wanted, self._kernel.routing.refusals()), self._kernel.execute)

    def check_free(self, wish: Wish) -> None:
        """An error if a pod with that wish could have no address of some IP version; the others are not looked at."""
        free = {use.pool.block for use in self.statistics() if use.taken < use.capacity}
        for pools in eligible(self.all(), wish).values():
            if not any(pool.block in free for pool in pools):
                names = tuple(dict.fromkeys(pool.title for pool in pools))
                raise ExhaustedError(
                    f"every address of the pool {', '.join(names)} is taken",
                    mend="remove a pod, or: fairway pool add CIDR",
                    pools=names,
                )
