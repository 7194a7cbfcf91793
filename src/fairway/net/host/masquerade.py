"""Addresses of pods that nobody outside the network knows: hidden behind the host's, for pools that ask for it."""

from __future__ import annotations

from fairway.net.host.store import Store
from fairway.net.kernel import Kernel
from fairway.net.model.facts import Masquerade
from fairway.net.reconcile import masquerade_fact


class Masquerading:
    """What is hidden follows from the pools and the routes; nothing of it is kept."""

    def __init__(self, store: Store, kernel: Kernel) -> None:
        self._store = store
        self._kernel = kernel

    def wanted(self) -> Masquerade | None:
        """What should be in the kernel; None: nothing."""
        others = {route.destination for route in self._store.routes()}
        others |= {route.destination for route in self._store.learned_routes()}
        return masquerade_fact(self._kernel.home, self._store.addresses.pools(), others)

    def enforce(self) -> None:
        """Bring it into the kernel, if there are pods; the caller holds the store's lock."""
        if not self._store.is_empty():
            self._kernel.filter.masquerade(self.wanted())
