"""What the kernel still tracks of whoever had an address before: whoever gets it must not get what was allowed to them.

To forget the connections of one address the kernel walks through its whole table, 10 ms even for an empty one. So all
that is tracked is read at once, and remembered: a free address of this host's own pools that nothing is tracked of has
nothing tracked of it until a pod has had it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_address

from fairway.net.host.store import Store
from fairway.net.kernel import Kernel
from fairway.net.model.facts import IPAddress, IPNetwork

_MOST = 5000  # connections; to read as many takes as long as to have the kernel look for some addresses


class Traces:
    """Those of one host. Its callers hold the store's lock."""

    def __init__(self, store: Store, kernel: Kernel) -> None:
        self._store = store
        self._kernel = kernel
        self._seen = -1  # the state of the file when all was read
        self._blocks: list[IPNetwork] = []  # the pools of then
        self._suspect: set[IPAddress] = set()  # tracked then, a pod's then, or since

    def clear(self, addresses: Collection[IPAddress]) -> None:
        """Have nothing tracked of addresses that a new pod gets, which has no link yet."""
        unknown = [address for address in addresses if not self._is_clear(address)]
        if unknown:
            tracked = self._read()
            suspect = unknown if tracked is None else [address for address in unknown if address in tracked]
            self._kernel.filter.forget_connections(suspect)
        self.leave(addresses)

    def leave(self, addresses: Iterable[IPAddress]) -> None:
        """From now on a pod has these addresses, and connections."""
        self._suspect.update(addresses)

    def _is_clear(self, address: IPAddress) -> bool:
        known = self._seen == self._store.version() and any(address in block for block in self._blocks)
        return known and address not in self._suspect

    def _read(self) -> set[IPAddress] | None:
        """All addresses of tracked connections; None if there are too many."""
        tracked = self._kernel.filter.tracked_addresses(_MOST)
        if tracked is None:
            self._seen = -1
            return None
        self._seen = self._store.version()
        self._blocks = [pool.block for pool in self._store.addresses.pools()]
        taken = {ip_address(text) for (text,) in self._store.rows("SELECT address FROM addresses")}
        self._suspect = tracked | taken
        return tracked
