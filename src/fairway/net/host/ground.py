"""What every pod of a host stands on: forwarding, the gateway's address, our nftables table."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fairway.net.host.masquerade import Masquerading
from fairway.net.host.observed import Observer
from fairway.net.host.store import Store
from fairway.net.kernel import Kernel
from fairway.net.model.facts import Fact
from fairway.net.model.pod import Pod
from fairway.net.reconcile import apply, node_facts, plan, refusal_facts

_NOT_LINKS = ("all", "default")


class Ground:
    """Brought about with the first pod, taken away after the last. Looked at once, until somebody has taken it away."""

    def __init__(self, store: Store, kernel: Kernel, observer: Observer, masquerading: Masquerading) -> None:
        self._store = store
        self._kernel = kernel
        self._observer = observer
        self._masquerading = masquerading
        self._seen: set[tuple[frozenset[int], int]] = set()  # IP versions that it carries, as of a generation

    def prepare(self, pod: Pod) -> None:
        """Bring about what `pod` stands on."""
        versions = frozenset(address.version for address in pod.addresses)
        generation = self._store.ground_generation()
        if (versions, generation) not in self._seen:
            wanted = self.facts([pod])
            apply(plan(wanted, self._observer.node(wanted)), self._kernel.execute)
            self._masquerading.enforce()
            self._seen.add((versions, generation))

    def remove(self) -> None:
        """Take it away, and let every other process know."""
        self._store.note_ground_removed()
        apply(plan((), self._observer.node(())), self._kernel.execute)

    def facts(self, pods: Iterable[Pod]) -> set[Fact]:
        """What it is for these pods: nothing for none."""
        return self.facts_of({address.version for pod in pods for address in pod.addresses})

    def facts_of(self, versions: Collection[int]) -> set[Fact]:
        """What it is for pods with addresses of these IP versions: nothing for none."""
        if not versions:
            return set()
        links = self._kernel.router_advertisement_links() if 6 in versions else []
        advertised = [link for link in links if link not in _NOT_LINKS]
        facts = node_facts(self._kernel.home, ipv6=6 in versions, advertised=advertised)
        carried = {*versions, *self._store.addresses.versions()}
        return facts | refusal_facts(self._kernel.home, self._store.addresses.pools(), carried)
