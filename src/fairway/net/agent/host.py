"""A host: pods added, removed, listed, checked and repaired. What the commands call, and later the agent and CNI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairway.net.agent import uplink
from fairway.net.agent.observed import Observer
from fairway.net.agent.reaper import Reaper
from fairway.net.agent.rebuild import rebuild
from fairway.net.agent.store import Entry, PodState, Store
from fairway.net.ipam import DEFAULT_POOL, check_pool, pool_of
from fairway.net.kernel import Kernel
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import HERE, Fact, ForeignChain, IPAddress, IPNetwork, Up, Veth
from fairway.net.model.names import check_name
from fairway.net.model.operations import Change, Failure, Operation
from fairway.net.model.pod import Pod, StaticRoute
from fairway.net.reconcile import node_facts, plan, pod_facts, route_facts

DEFAULT_STATE = Path("/var/lib/fairway")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which host it is: the namespace it lives in, and what its pods' namespaces are called and marked with.

    A real host lives in the namespace that Fairway runs in; a lab's node in one of its own.
    """

    home: str = HERE
    prefix: str = ""  # before a pod's name: its namespace's name
    mark: str = "fairway pod"  # before a pod's name: its namespace's mark

    def namespace(self, pod: str) -> str:
        """The name of the pod's namespace."""
        return f"{self.prefix}{pod}"

    def mark_of(self, pod: str) -> str:
        """The mark of the pod's namespace."""
        return f"{self.mark} {pod}"


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
        self._ready_for: set[tuple[frozenset[int], int]] = set()  # IP versions the node forwards, as of a generation
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
                    self._remove_ground()
        self._kernel.close()
        self.store.close()

    # Pods

    def add_pod(self, name: str, addresses: Sequence[IPAddress] = (), mtu: int = 0) -> Pod:
        """A new pod, ready for traffic. Without addresses it gets one of each IP version that there is a pool of."""
        check_name("pod", name)
        with self.store.lock():
            self._clear_remains(name)
            with self.store.transaction(durable=False):  # after a power cut there is nothing of the pod to undo
                pod = Pod(name, self._choose(addresses), mtu or self._uplink_mtu())
                self.store.insert(pod)
            try:
                self._prepare(pod)
                self._apply(self._making(pod))
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
            self._apply([operation for operation in self._removal(pod) if not isinstance(operation.fact, Veth)])
            self._reaper.end(name, self._kernel.link_index(pod.link))

    def wait_removed(self, name: str) -> None:
        """Return when the kernel has taken away the link of a pod that was removed here."""
        self._reaper.wait(name)

    def pods(self) -> list[Pod]:
        """Every pod that was added and not removed."""
        return [entry.pod for entry in self.store.entries() if entry.state is PodState.PRESENT]

    def pod(self, name: str) -> Pod:
        """One pod."""
        return self._entry(name).pod

    # Pools and routes

    def pools(self) -> list[IPNetwork]:
        """What pods' addresses are taken from."""
        return self.store.pools() or [DEFAULT_POOL]

    def add_pool(self, pool: IPNetwork) -> None:
        """Take pods' addresses from `pool` too; the default pool is given up with the first of one's own."""
        with self.store.lock():
            check_pool(pool, self.store.pools())
            uplink.check_overlap(self._kernel, pool)
            self.store.add_pool(pool)

    def uses(self, pool: IPNetwork) -> bool:
        """Whether a pod has an address of `pool`."""
        return any(a.version == pool.version and a in pool for pod in self.pods() for a in pod.addresses)

    def remove_pool(self, pool: IPNetwork) -> None:
        """Take no more addresses from `pool`; an error while a pod has one of them."""
        with self.store.lock():
            if pool not in self.store.pools():
                raise UsageError(f"{pool} is not a pool of this node", mend="see: fairway pool ls")
            if self.uses(pool):
                raise UsageError(f"a pod has an address of the pool {pool}", mend="remove the pod first")
            self.store.delete_pool(pool)

    def routes(self) -> list[StaticRoute]:
        """The routes written by hand to other hosts' pods."""
        return self.store.routes()

    def set_routes(self, routes: Iterable[StaticRoute]) -> int:
        """Make these the routes written by hand, all of them; returns how many that adds, changes or removes."""
        wanted = {route.destination: route for route in routes}
        with self.store.lock():
            former = {route.destination: route for route in self.store.routes()}
            changed = [route for route in wanted.values() if former.get(route.destination) != route]
            gone = [destination for destination in former if destination not in wanted]
            if changed or gone:
                self._change_routes(former, changed, gone)
            return len(changed) + len(gone)

    def add_route(self, route: StaticRoute) -> None:
        """Reach `route.destination` through its gateway, from now on and after a restart."""
        with self.store.lock():
            others = [other for other in self.store.routes() if other.destination != route.destination]
            self.set_routes([*others, route])

    def remove_route(self, destination: IPNetwork) -> None:
        """Forget a route written by hand."""
        with self.store.lock():
            others = [other for other in self.store.routes() if other.destination != destination]
            if not self.set_routes(others):
                raise UsageError(f"there is no route of ours to {destination}", mend="see: fairway route ls")

    # Drift

    def check(self) -> list[Operation]:
        """What would have to be done to bring the kernel to the desired state: nothing, if all is well."""
        with self.store.lock():
            return self._drift()

    def repair(self, progress: Callable[[int, int], None] | None = None) -> tuple[list[Operation], list[Failure]]:
        """Do what `check` finds; returns it, and what of it failed. What was cut off is undone first."""
        with self.store.lock():
            for entry in self.store.entries():
                if entry.state is not PodState.PRESENT:
                    self._take_down(entry.pod)
                    self.store.delete(entry.pod.name)
            self._kernel.sweep_placeholders(self.identity.prefix)
            if not self.store.entries():
                self.store.note_ground_removed()
            operations = self._drift()
            failures = self._kernel.execute(operations)
            if any(isinstance(operation, Change) for operation in operations):
                # A link that is given another address or MTU loses neighbours and routes by that.
                failures += self._kernel.execute(self._drift())
            if progress is not None:
                progress(len(operations), len(operations))
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

    def _choose(self, addresses: Sequence[IPAddress]) -> tuple[IPAddress, ...]:
        pools = self.pools()
        if addresses:
            if len(set(addresses)) != len(addresses):
                raise UsageError("the same address is given twice")
            for address in addresses:
                pool_of(pools, address)
            return tuple(addresses)
        if not self.store.pools():
            uplink.check_overlap(self._kernel, DEFAULT_POOL)
            self.store.add_pool(DEFAULT_POOL)
        return tuple(
            self._allocate([pool for pool in pools if pool.version == version]) for version in _versions(pools)
        )

    def _allocate(self, pools: Sequence[IPNetwork]) -> IPAddress:
        for pool in pools:
            address = self.store.free_address(pool)
            if address is not None:
                return address
        names = ", ".join(str(pool) for pool in pools)
        raise FairwayError(f"every address of {names} is taken", mend="remove a pod, or: fairway pool add CIDR")

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

    def _prepare(self, pod: Pod) -> None:
        """Bring what every pod needs about, once in this object's life for each IP version."""
        versions = frozenset(address.version for address in pod.addresses)
        generation = self.store.ground_generation()
        if (versions, generation) in self._ready_for:
            return
        wanted = self._node_facts(6 in versions)
        self._apply(plan(wanted, self._observer.node(wanted)))
        self._ready_for.add((versions, generation))

    def _remove_ground(self) -> None:
        self.store.note_ground_removed()
        self._apply(plan((), self._observer.node(())))

    def _node_facts(self, ipv6: bool) -> set[Fact]:
        advertised = self._kernel.router_advertisement_links() if ipv6 else ()
        return node_facts(
            self.identity.home, ipv6=ipv6, advertised=[n for n in advertised if n not in ("all", "default")]
        )

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
        ipv6 = any(address.version == 6 for pod in pods for address in pod.addresses)
        desired: set[Fact] = self._node_facts(ipv6) if pods else set()
        desired |= route_facts(self.identity.home, self.routes())
        for pod in pods:
            desired |= self._pod_facts(pod, chains)
        marks = {self.identity.namespace(pod.name): self.identity.mark_of(pod.name) for pod in pods}
        return plan(desired, self._observer.everything(desired, self.identity.prefix, self.identity.mark, marks))

    def _change_routes(
        self, former: Mapping[IPNetwork, StaticRoute], changed: Sequence[StaticRoute], gone: Sequence[IPNetwork]
    ) -> None:
        touched = {*gone, *(route.destination for route in changed)}
        self.store.change_routes(changed, gone)
        try:
            self._apply(plan(route_facts(self.identity.home, changed), self._observer.routes(touched)))
        except FairwayError:
            back = [former[destination] for destination in touched if destination in former]
            self.store.change_routes(back, touched - set(former))
            raise

    def _apply(self, operations: Sequence[Operation]) -> None:
        failures = self._kernel.execute(operations)
        if failures:
            raise failures[0].error


def _versions(pools: Iterable[IPNetwork]) -> list[int]:
    return sorted({pool.version for pool in pools})
