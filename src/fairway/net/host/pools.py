"""What a host's pods take their addresses from."""

from __future__ import annotations

from collections.abc import Sequence

from fairway.net.host import uplink
from fairway.net.host.store import PodState, Store
from fairway.net.ipam import DEFAULT_POOL, check_pool, pool_of
from fairway.net.kernel import Kernel
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import IPAddress, IPNetwork


class Pools:
    """The pools of one host; without any of its own there is the default one."""

    def __init__(self, store: Store, kernel: Kernel) -> None:
        self._store = store
        self._kernel = kernel

    def all(self) -> list[IPNetwork]:
        """The pools, in the order they were added."""
        return self._store.pools() or [DEFAULT_POOL]

    def add(self, pool: IPNetwork) -> None:
        """Take pods' addresses from `pool` too; the default pool is given up with the first of one's own."""
        with self._store.lock():
            check_pool(pool, self._store.pools())
            uplink.check_overlap(self._kernel, pool)
            self._store.add_pool(pool)

    def remove(self, pool: IPNetwork) -> None:
        """Take no more addresses from `pool`; an error while a pod has one of them."""
        with self._store.lock():
            if pool not in self._store.pools():
                raise UsageError(f"{pool} is not a pool of this node", mend="see: fairway pool ls")
            if self.in_use(pool):
                raise UsageError(f"a pod has an address of the pool {pool}", mend="remove the pod first")
            self._store.delete_pool(pool)

    def in_use(self, pool: IPNetwork) -> bool:
        """Whether a pod has an address of `pool`."""
        pods = (entry.pod for entry in self._store.entries() if entry.state is PodState.PRESENT)
        return any(address.version == pool.version and address in pool for pod in pods for address in pod.addresses)

    def choose(self, wanted: Sequence[IPAddress]) -> tuple[IPAddress, ...]:
        """The addresses of a new pod: those `wanted`, or a free one of each IP version that there is a pool of."""
        pools = self.all()
        if wanted:
            if len(set(wanted)) != len(wanted):
                raise UsageError("the same address is given twice")
            for address in wanted:
                pool_of(pools, address)
            return tuple(wanted)
        if not self._store.pools():
            uplink.check_overlap(self._kernel, DEFAULT_POOL)
            self._store.add_pool(DEFAULT_POOL)
        versions = sorted({pool.version for pool in pools})
        return tuple(self._free_of([pool for pool in pools if pool.version == version]) for version in versions)

    def check_free(self) -> None:
        """An error if a new pod could have no address of some IP version that there is a pool of."""
        pools = self.all()
        for version in sorted({pool.version for pool in pools}):
            self._free_of([pool for pool in pools if pool.version == version])

    def _free_of(self, pools: Sequence[IPNetwork]) -> IPAddress:
        for pool in pools:
            address = self._store.free_address(pool)
            if address is not None:
                return address
        names = ", ".join(str(pool) for pool in pools)
        raise FairwayError(f"every address of {names} is taken", mend="remove a pod, or: fairway pool add CIDR")
