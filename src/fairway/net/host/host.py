"""A host: pods added, removed, listed, checked and repaired. What the commands, the agent and CNI call."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fairway.net.host import uplink
from fairway.net.host.attachments import Attachments
from fairway.net.host.drift import Drift, Scope
from fairway.net.host.identity import Identity
from fairway.net.host.learned import LearnedRoutes
from fairway.net.host.moving import Moving
from fairway.net.host.observed import Observer
from fairway.net.host.pools import Pools
from fairway.net.host.rebuild import rebuild
from fairway.net.host.routes import StaticRoutes
from fairway.net.host.state_file import CorruptStateError, LostStateError
from fairway.net.host.store import Counts, Entry, PodState, Store
from fairway.net.host.wiring import Tell, Wiring
from fairway.net.kernel import Kernel
from fairway.net.kernel.events import Events
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import ForeignChain, IPAddress
from fairway.net.model.names import check_name
from fairway.net.model.operations import Change, Failure, Operation
from fairway.net.model.pod import Pod
from fairway.net.model.pool import Wish

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
        self._wiring = Wiring(
            self.store, self._kernel, self.identity, self._observer, touch_foreign_chains=touch_foreign_chains
        )
        self.pools = Pools(self.store, self._kernel, self._wiring.masquerading)
        self.routes = StaticRoutes(self.store, self._kernel, self._observer, self._wiring.masquerading)
        self.learned = LearnedRoutes(self.store, self._kernel, self._observer, self._wiring.masquerading)
        self._drift = Drift(
            self.store, self._kernel, self.identity, self._observer, self._wiring, self.routes, self.learned
        )
        self.attachments = Attachments(self.store, self._kernel, self.pools, self._wiring, self._drift)
        self.moving = Moving(self.store, self._kernel, self.identity, self.pools, self._wiring)
        self.policies = self._wiring.policies
        self.touches_foreign_chains = touch_foreign_chains
        self.corrupt = self._open()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait until the kernel has taken away what was removed, with the last pod what all stood on, and end."""
        self._wiring.close()
        self.learned.close()
        self._kernel.close()
        self.store.close()

    # Pods

    def add_pod(
        self, name: str, addresses: Sequence[IPAddress] = (), mtu: int = 0, *, pools: Sequence[str] = ()
    ) -> Pod:
        """A new pod, ready for traffic.

        Without addresses it gets one of each IP version that there is a pool of; of those called `pools`, if given.
        """
        check_name("pod", name)
        wish = Wish(tuple(addresses), pools=tuple(pools))
        self._wiring.wait(name)
        with self.store.lock():
            self._clear_remains(name)
            return self._wiring.add(
                lambda: Pod(name, self.pools.choose(wish), mtu or self._wiring.uplink_mtu()),
            )

    def remove_pod(self, name: str, *, force: bool = False) -> None:
        """The pod's traffic ends and its address is free; the kernel takes its link away while this goes on.

        One whose namespace a runtime made is the runtime's to remove, unless by `force`.
        """
        with self.store.lock():
            pod = self.pod(name)
            if pod.attachment is not None and not force:
                raise UsageError(
                    f"{pod.name} was made by a container runtime, which is to remove it",
                    mend="stop the container; if it is no more: fairway pod rm --force",
                )
            self._wiring.remove(pod)

    def wait_removed(self, name: str) -> None:
        """Return when the kernel has taken away the link of a pod that was removed here, and its address is free."""
        self._wiring.wait(name)

    def when_removed(self, name: str, tell: Callable[[], None]) -> None:
        """Call `tell`, from some thread, when `wait_removed` would return."""
        self._wiring.when_removed(name, tell)

    def watch_pods(self, tell: Tell, foretell: Tell | None = None) -> None:
        """Have each pod told, with its addresses, as soon as packets for them come to it; without any when it goes.

        A pod that is to be made here is foretold; what follows is that it is there, or that it is undone and goes.
        By the thread that changes pods, while it does: both are to be quick, and to raise nothing.
        """
        self._wiring.tell = tell
        if foretell is not None:
            self._wiring.foretell = foretell

    def pods(self) -> list[Pod]:
        """Every pod that was added and not removed, whoever made its namespace."""
        return [entry.pod for entry in self.store.entries() if entry.state is PodState.PRESENT]

    def pod(self, name: str) -> Pod:
        """One pod; a runtime's is also found by the beginning of its container's ID, if that is one's only."""
        entries = [entry for entry in self._entries_named(name) if entry.state is PodState.PRESENT]
        if len(entries) > 1:
            names = ", ".join(entry.pod.name for entry in entries)
            raise UsageError(f"{name} is the beginning of several: {names}", mend="give more of it")
        if not entries:
            raise UsageError(f"there is no pod {name!r} here", mend="see: fairway pod ls")
        return entries[0].pod

    # Drift

    def check(self, scope: Scope | None = None) -> list[Operation]:
        """What would have to be done to bring the kernel to the desired state: nothing, if all is well.

        With a `scope` it looks there only.
        """
        with self.store.lock():
            return self._differences(scope)

    def repair(
        self, progress: Callable[[int, int], None] | None = None, scope: Scope | None = None
    ) -> tuple[list[Operation], list[Failure]]:
        """Do what `check` finds; returns it, and what of it failed. Without a scope, undo first what was cut off.

        `progress` is told how many operations are done, and of how many.
        """
        with self.store.lock():
            if scope is None:
                self._clear_cut_off()
            operations = self._differences(scope)
            failures: list[Failure] = []
            for start in range(0, len(operations), _BATCH):
                failures += self._kernel.execute(operations[start : start + _BATCH])
                if progress is not None:
                    progress(min(start + _BATCH, len(operations)), len(operations))
            if any(isinstance(operation, Change) for operation in operations):
                # A link that is given another address or MTU loses neighbours and routes by that.
                failures += self._kernel.execute(self._differences(scope))
            return operations, failures

    def addresses(self) -> list[IPAddress]:
        """The host's own addresses, at which others reach it; the likeliest first."""
        return uplink.addresses(self._kernel)

    def way_to(self, address: IPAddress) -> tuple[str, IPAddress | None] | None:
        """The interface, and the router if there is one, by which the host reaches `address`; None if it cannot."""
        return self._kernel.routing.way_to(address)

    def strays(self) -> list[str]:
        """Interfaces that look like a pod's and are none's: a sign that a whole `repair` may find something."""
        with self.store.lock():
            return self._drift.strays()

    def events(self) -> Events:
        """What others, and the kernel, change in the host's namespace from now on."""
        events = self._kernel.events()
        events.ignore(self.learned.port)
        return events

    def counts(self) -> Counts:
        """How much there is of what, at next to no cost."""
        return self.store.counts()

    def dropping_chains(self) -> tuple[ForeignChain, ...]:
        """Other programs' chains that drop what is forwarded, and that Fairway's pods must be let through."""
        return self._kernel.filter.dropping_chains(self.identity.home)

    def foreign_rules(self) -> tuple[tuple[ForeignChain, ...], int]:
        """These chains, and how many rules of ours are in other programs' chains: what tells that one must look."""
        return self.dropping_chains(), len(self._kernel.filter.accepts(self.identity.home))

    # Within

    def _open(self) -> CorruptStateError | LostStateError | None:
        """Open the state; what was wrong with it, if it had to be written anew from the kernel."""
        corrupt = self.store.open()
        if not self.store.new:
            return None
        kept = corrupt.kept if corrupt is not None else None
        pods = rebuild(self.store, self._kernel, self.identity.prefix, self.identity.mark, kept)
        return corrupt or (LostStateError(self.store.path, pods) if pods else None)

    def _differences(self, scope: Scope | None) -> list[Operation]:
        return self._drift.whole() if scope is None else self._drift.within(scope)

    def _entries_named(self, name: str) -> list[Entry]:
        entry = self.store.entry(name)
        return [entry] if entry is not None else self.store.entries_of_container(name)

    def _clear_remains(self, name: str) -> None:
        """Make room for a pod of that name: one that is there is an error, what is left of one that was is removed."""
        entry = self.store.entry(name)
        if entry is not None and entry.state is PodState.PRESENT:
            raise UsageError(f"the pod {name} exists", mend=f"choose another name, or: fairway pod rm {name}")
        namespace = self.identity.namespace(name)
        remains = Pod(name, entry.pod.addresses if entry else (), 0)
        known = entry is not None or not self.store.link_holder(remains.link)
        if known and (entry or self._kernel.has_link(remains.link) or self._kernel.has_namespace(namespace)):
            self._wiring.take_down(remains)
            self.store.delete(name)

    def _clear_cut_off(self) -> None:
        """Undo what was cut off half-way, and forget what is gone for good; the caller holds the lock."""
        for entry in self.store.entries():
            if self.moving.settle(entry):
                continue
            if entry.state is not PodState.PRESENT and not self._wiring.is_ending(entry.pod.name):
                self._wiring.take_down(entry.pod)
                self.store.delete(entry.pod.name)
        self.attachments.forget_gone()
        self._kernel.sweep_placeholders(self.identity.prefix)
        if self.store.is_empty():
            self.store.note_ground_removed()
