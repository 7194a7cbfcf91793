"""A host: pods added, removed, listed, checked and repaired. What the commands call, and later the agent and CNI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fairway.net.host import uplink
from fairway.net.host.ground import Ground
from fairway.net.host.identity import Identity
from fairway.net.host.observed import Observer
from fairway.net.host.pools import Pools
from fairway.net.host.reaper import Reaper
from fairway.net.host.rebuild import rebuild
from fairway.net.host.routes import StaticRoutes
from fairway.net.host.store import Entry, PodState, Store
from fairway.net.kernel import Kernel
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import AllowedSources, Fact, ForeignChain, IPAddress, Up, Veth
from fairway.net.model.names import check_name
from fairway.net.model.operations import Change, Failure, Operation
from fairway.net.model.pod import Pod
from fairway.net.reconcile import apply, plan, pod_facts, route_facts

DEFAULT_STATE = Path("/var/lib/fairway")
_BATCH = 500  # operations between two reports of progress


class Host:
    """One host. Every change is durable, or undone, when the method returns; errors are FairwayErrors."""

    def __init__(
        self,
        state: Path | None = None,
        identity: Identity | None = None,
        *,
        kernel: Kernel | None = None,
        touch_foreign_chains: bool = True,
    ) -> None:
        self.identity = identity or Identity()
        self.store = Store(state or Path(os.environ.get("FAIRWAY_STATE", DEFAULT_STATE)))
        self._kernel = kernel or Kernel(self.identity.home)
        self._observer = Observer(self._kernel, self.identity.home)
        self._reaper = Reaper(self.identity.home, self.store)
        self._touch_foreign_chains = touch_foreign_chains
        self._ground = Ground(self.store, self._kernel, self._observer)
        self.pools = Pools(self.store, self._kernel)
        self.routes = StaticRoutes(self.store, self._kernel, self._observer)
        self._removed_some = False
        self._mtu = 0  # of the uplink, once it was asked for
        self.corrupt = self.store.open()
        if self.corrupt is not None:
            rebuild(self.store, self._kernel, self.identity.prefix, self.identity.mark, self.corrupt.kept)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait until the kernel has taken away what was removed, with the last pod what all stood on, and end."""
        self._reaper.close()
        if self._removed_some:
            self._removed_some = False
            with self.store.lock():
                if not self.store.entries():
                    self._ground.remove()
        self._kernel.close()
        self.store.close()

    # Pods

    def add_pod(self, name: str, addresses: Sequence[IPAddress] = (), mtu: int = 0) -> Pod:
        """A new pod, ready for traffic. Without addresses it gets one of each IP version that there is a pool of."""
        check_name("pod", name)
        with self.store.lock():
            self._clear_remains(name)
            with self.store.transaction(durable=False):  # after a power cut there is nothing of the pod to undo
                pod = Pod(name, self.pools.choose(addresses), mtu or self._uplink_mtu())
                self.store.insert(pod)
            try:
                self._ground.prepare(pod)
                apply(self._making(pod), self._kernel.execute)
            except BaseException:
                self._take_down(pod)
                self.store.delete(name)
                self._removed_some = True
                raise
            self.store.set_state(name, PodState.PRESENT)
        return pod

    def remove_pod(self, name: str) -> None:
        """The pod's traffic ends and its address is free; the kernel takes its link away while this goes on."""
        with self.store.lock():
            pod = self._entry(name).pod
            self.store.set_state(name, PodState.REMOVING)
            self._removed_some = True
            index = self._kernel.link_index(pod.link)
            at_once = [o for o in self._removal(pod) if not isinstance(o.fact, Veth | AllowedSources)]
            guard = self._kernel.silence(pod.link) if index else 0
            apply(at_once, self._kernel.execute)
            self._reaper.end(name, pod.link, index, guard)

    def wait_removed(self, name: str) -> None:
        """Return when the kernel has taken away the link of a pod that was removed here."""
        self._reaper.wait(name)

    def pods(self) -> list[Pod]:
        """Every pod that was added and not removed."""
        return [entry.pod for entry in self.store.entries() if entry.state is PodState.PRESENT]

    def pod(self, name: str) -> Pod:
        """One pod."""
        return self._entry(name).pod

    # Drift

    def check(self) -> list[Operation]:
        """What would have to be done to bring the kernel to the desired state: nothing, if all is well."""
        with self.store.lock():
            return self._drift()

    def repair(self, progress: Callable[[int, int], None] | None = None) -> tuple[list[Operation], list[Failure]]:
        """Do what `check` finds; returns it, and what of it failed. What was cut off is undone first.

        `progress` is told how many operations are done, and of how many.
        """
        with self.store.lock():
            for entry in self.store.entries():
                if entry.state is not PodState.PRESENT:
                    self._take_down(entry.pod)
                    self.store.delete(entry.pod.name)
            self._kernel.sweep_placeholders(self.identity.prefix)
            if not self.store.entries():
                self.store.note_ground_removed()
            operations = self._drift()
            failures: list[Failure] = []
            for start in range(0, len(operations), _BATCH):
                failures += self._kernel.execute(operations[start : start + _BATCH])
                if progress is not None:
                    progress(min(start + _BATCH, len(operations)), len(operations))
            if any(isinstance(operation, Change) for operation in operations):
                # A link that is given another address or MTU loses neighbours and routes by that.
                failures += self._kernel.execute(self._drift())
            return operations, failures

    def dropping_chains(self) -> tuple[ForeignChain, ...]:
        """Other programs' chains that drop what is forwarded, and that Fairway's pods must be let through."""
        return self._kernel.dropping_chains(self.identity.home)

    # Within

    def _uplink_mtu(self) -> int:
        if not self._mtu:
            self._mtu = uplink.mtu(self._kernel)
        return self._mtu

    def _entry(self, name: str) -> Entry:
        entry = self.store.entry(name)
        if entry is None or entry.state is not PodState.PRESENT:
            raise UsageError(f"there is no pod {name!r} here", mend="see: fairway pod ls")
        return entry

    def _clear_remains(self, name: str) -> None:
        """Make room for a pod of that name: one that is there is an error, what is left of one that was is removed."""
        entry = self.store.entry(name)
        if entry is not None and entry.state is PodState.PRESENT:
            raise UsageError(f"the pod {name} exists", mend=f"choose another name, or: fairway pod rm {name}")
        self._reaper.wait(name)
        namespace = self.identity.namespace(name)
        remains = Pod(name, entry.pod.addresses if entry else (), 0)
        if entry is not None or self._kernel.has_link(remains.link) or self._kernel.has_namespace(namespace):
            self._take_down(remains)
            self.store.delete(name)

    def _making(self, pod: Pod) -> list[Operation]:
        namespace = self.identity.namespace(pod.name)
        born = {Up(namespace, "lo", self.identity.mark_of(pod.name))}  # with the namespace itself
        return plan(self._pod_facts(pod, self._chains()), born)

    def _pod_facts(self, pod: Pod, chains: Iterable[ForeignChain]) -> set[Fact]:
        namespace = self.identity.namespace(pod.name)
        mark = self.identity.mark_of(pod.name)
        return self._kernel.possible(pod_facts(self.identity.home, namespace, mark, pod, chains))

    def _chains(self) -> tuple[ForeignChain, ...]:
        return self.dropping_chains() if self._touch_foreign_chains else ()

    def _removal(self, pod: Pod) -> list[Operation]:
        """What takes the pod away: its rules, its link, its namespace."""
        namespace = self.identity.namespace(pod.name)
        return plan((), self._observer.pod(pod, namespace, self.identity.mark_of(pod.name)))

    def _take_down(self, pod: Pod) -> None:
        """Remove what there is of `pod`, whatever it is, and wait for it."""
        self._kernel.execute(self._removal(pod))
        self._kernel.sweep_placeholders(self.identity.namespace(pod.name))

    def _drift(self) -> list[Operation]:
        pods = self.pods()
        chains = self._chains()
        desired = self._ground.facts(pods)
        desired |= route_facts(self.identity.home, self.routes.all())
        for pod in pods:
            desired |= self._pod_facts(pod, chains)
        marks = {self.identity.namespace(pod.name): self.identity.mark_of(pod.name) for pod in pods}
        return plan(desired, self._observer.everything(desired, self.identity.prefix, self.identity.mark, marks))
