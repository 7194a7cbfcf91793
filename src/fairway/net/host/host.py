"""A host: pods added, removed, listed, checked and repaired. What the commands, the agent and CNI call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fairway.net.host.attachments import Attachments, Key
from fairway.net.host.identity import Identity
from fairway.net.host.observed import Observer
from fairway.net.host.pools import Pools
from fairway.net.host.rebuild import rebuild
from fairway.net.host.routes import StaticRoutes
from fairway.net.host.store import Entry, PodState, Store
from fairway.net.host.wiring import Wiring
from fairway.net.kernel import Kernel
from fairway.net.model.attachment import AttachRequest
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import ForeignChain, IPAddress
from fairway.net.model.names import check_name
from fairway.net.model.operations import Change, Failure, Operation
from fairway.net.model.pod import Pod
from fairway.net.model.pool import Wish
from fairway.net.reconcile import plan, route_facts

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
        self._attachments = Attachments(self.store, self._kernel, self.pools, self._wiring)
        self.policies = self._wiring.policies
        self.corrupt = self.store.open()
        if self.corrupt is not None:
            rebuild(self.store, self._kernel, self.identity.prefix, self.identity.mark, self.corrupt.kept)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait until the kernel has taken away what was removed, with the last pod what all stood on, and end."""
        self._wiring.close()
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
        """Return when the kernel has taken away the link of a pod that was removed here."""
        self._wiring.wait(name)

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

    # Attachments: pods whose namespace a container runtime made

    def attach(self, request: AttachRequest, result: Callable[[Pod], str] | None = None) -> Pod:
        """An interface in the namespace that the request names, ready for traffic; or an error, and nothing is left.

        What `result` says of it is kept, durable when this returns, for whoever asks `attachment_texts`.
        AttachedError, NamespaceError, UsageError: the caller's mistakes.
        """
        return self._attachments.add(request, result)

    def detach(self, container: str, interface: str) -> bool:
        """End an attachment as `remove_pod` ends a pod; False if there was none, which is no error."""
        return self._attachments.remove(container, interface)

    def attachments(self) -> list[Pod]:
        """Every attachment that was added and not removed."""
        return self._attachments.all()

    def attachment(self, container: str, interface: str) -> Pod:
        """One attachment; an error if there is none."""
        return self._attachments.find(container, interface)

    def attachment_texts(self, pod: Pod) -> tuple[str, str]:
        """The configuration that the attachment was asked for with, and what its runtime was told."""
        return self.store.texts(pod.name)

    def check_attachment(self, container: str, interface: str, namespace: str = "") -> list[Operation]:
        """What would have to be done for this one attachment and what it stands on: nothing, if all is well.

        NamespaceError: its namespace is gone, or is another than the one at the path `namespace`, if that is given.
        """
        return self._attachments.check(container, interface, namespace)

    def collect(self, valid: Iterable[Key], network: str | None = None) -> list[Pod]:
        """Remove every attachment of that network (None: of all) that is not `valid`; returns them."""
        return self._attachments.collect(valid, network)

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
            self._clear_cut_off()
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

    def _entries_named(self, name: str) -> list[Entry]:
        entry = self.store.entry(name)
        return [entry] if entry is not None else self.store.entries_of_container(name)

    def _clear_remains(self, name: str) -> None:
        """Make room for a pod of that name: one that is there is an error, what is left of one that was is removed."""
        entry = self.store.entry(name)
        if entry is not None and entry.state is PodState.PRESENT:
            raise UsageError(f"the pod {name} exists", mend=f"choose another name, or: fairway pod rm {name}")
        self._wiring.wait(name)
        namespace = self.identity.namespace(name)
        remains = Pod(name, entry.pod.addresses if entry else (), 0)
        known = entry is not None or not self.store.link_holder(remains.link)
        if known and (entry or self._kernel.has_link(remains.link) or self._kernel.has_namespace(namespace)):
            self._wiring.take_down(remains)
            self.store.delete(name)

    def _clear_cut_off(self) -> None:
        """Undo what was cut off half-way, and forget what is gone for good; the caller holds the lock."""
        for entry in self.store.entries():
            if entry.state is not PodState.PRESENT and not self._wiring.is_ending(entry.pod.name):
                self._wiring.take_down(entry.pod)
                self.store.delete(entry.pod.name)
        self._attachments.forget_gone()
        self._kernel.sweep_placeholders(self.identity.prefix)
        if self.store.is_empty():
            self.store.note_ground_removed()

    def _drift(self) -> list[Operation]:
        pods = self.pods()
        chains = self._wiring.chains()
        desired = self._wiring.ground.facts(pods)
        desired |= route_facts(self.identity.home, self.routes.all())
        own, given = {}, []
        for pod in pods:
            reachable = self._wiring.is_reachable(pod)
            desired |= self._wiring.desired(pod, chains, reachable=reachable)
            site = self.identity.site(pod)
            if site.own:
                own[site.namespace] = site.mark
            elif reachable:
                given.append((pod, site.namespace))
        observed = self._observer.everything(desired, self.identity.prefix, self.identity.mark, own, given)
        rules, hidden = (self.policies.rules(), self._wiring.masquerading.wanted()) if pods else (None, None)
        desired |= {fact for fact in (rules, hidden) if fact is not None}
        observed |= self._observer.policies(rules)
        return plan(desired, observed)
