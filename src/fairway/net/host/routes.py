"""The routes to other hosts' pods that are written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fairway.net.host.masquerade import Masquerading
from fairway.net.host.observed import Observer
from fairway.net.host.store import Store
from fairway.net.kernel import Kernel
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import IPNetwork
from fairway.net.model.pod import StaticRoute
from fairway.net.reconcile import apply, plan, route_facts


class StaticRoutes:
    """The hand-written routes of one host: on disk and in the kernel, or in neither."""

    def __init__(self, store: Store, kernel: Kernel, observer: Observer, masquerading: Masquerading) -> None:
        self._store = store
        self._kernel = kernel
        self._masquerading = masquerading
        self._observer = observer

    def all(self) -> list[StaticRoute]:
        """The routes, by destination."""
        return self._store.routes()

    def set(self, routes: Iterable[StaticRoute]) -> int:
        """Make these the routes, all of them; returns how many that adds, changes or removes."""
        wanted = {route.destination: route for route in routes}
        with self._store.lock():
            former = {route.destination: route for route in self._store.routes()}
            changed = [route for route in wanted.values() if former.get(route.destination) != route]
            gone = [destination for destination in former if destination not in wanted]
            if changed or gone:
                self._change(former, changed, gone)
            return len(changed) + len(gone)

    def add(self, route: StaticRoute) -> None:
        """Reach `route.destination` through its gateway, from now on and after a restart."""
        with self._store.lock():
            others = [other for other in self._store.routes() if other.destination != route.destination]
            self.set([*others, route])

    def remove(self, destination: IPNetwork) -> None:
        """Forget a route."""
        with self._store.lock():
            others = [other for other in self._store.routes() if other.destination != destination]
            if not self.set(others):
                raise UsageError(f"there is no route of ours to {destination}", mend="see: fairway route ls")

    def _change(
        self, former: Mapping[IPNetwork, StaticRoute], changed: Sequence[StaticRoute], gone: Sequence[IPNetwork]
    ) -> None:
        touched = {*gone, *(route.destination for route in changed)}
        self._store.change_routes(changed, gone)
        try:
            wanted = route_facts(self._kernel.home, changed)
            apply(plan(wanted, self._observer.routes(touched)), self._kernel.execute)
            self._masquerading.enforce()
        except FairwayError:
            back = [former[destination] for destination in touched if destination in former]
            self._store.change_routes(back, touched - set(former))
            raise
