"""Pods brought into the kernel, noted, compared and taken out again: the one way for all of them, whoever asks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

from fairway.net.host import uplink
from fairway.net.host.ground import Ground
from fairway.net.host.identity import Identity
from fairway.net.host.masquerade import Masquerading
from fairway.net.host.observed import Observer
from fairway.net.host.policies import Policies
from fairway.net.host.reaper import Reaper
from fairway.net.host.store import PodState, Store
from fairway.net.kernel import Kernel
from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import AllowedSources, Fact, ForeignChain, IPAddress, Namespace, Up, Veth
from fairway.net.model.operations import Operation
from fairway.net.model.pod import Pod
from fairway.net.reconcile import apply, outer_facts, plan, pod_facts

Tell = Callable[[str, tuple[IPAddress, ...]], object]
"""Is told of a pod, with its addresses."""


class Wiring:
    """The pods of one host. Its callers hold the store's lock."""

    def __init__(
        self, store: Store, kernel: Kernel, identity: Identity, observer: Observer, *, touch_foreign_chains: bool
    ) -> None:
        self._store = store
        self._kernel = kernel
        self._identity = identity
        self._observer = observer
        self._reaper = Reaper(identity.home, self._forget)
        self.policies = Policies(store, kernel)
        self._touch_foreign_chains = touch_foreign_chains
        self.masquerading = Masquerading(store, kernel)
        self.ground = Ground(store, kernel, observer, self.masquerading)
        self._removed_some = False
        self._mtu = 0  # of the uplink, once it was asked for
        self.foretell: Tell = _nobody
        """Told of a pod, with its addresses, when it is noted and nothing of it is in the kernel yet."""
        self.tell: Tell = _nobody
        """Told of a pod, with its addresses, as soon as packets for them come to it, and without any when it goes.

        That is before the disk knows: who tells other hosts need not wait for it. If the pod is undone, that is told;
        if the power fails in between, other hosts hear from the next life of this one, and go by that alone.
        """

    def close(self) -> None:
        """Wait until the kernel has taken away what was removed, and with the last pod what all stood on."""
        self._reaper.close()
        if self._removed_some:
            self._removed_some = False
            with self._store.lock():
                if self._store.is_empty():
                    self.ground.remove()

    def add(
        self,
        make: Callable[[], Pod],
        result: Callable[[Pod], str] | None = None,
        *,
        config: str = "",
        sticky: str = "",
    ) -> Pod:
        """Note the pod that `make` chooses, bring it into the kernel, note that too; undone whole if a step fails.

        `config` and what `result` says of it are kept with an attachment; its addresses for the key `sticky`.
        """
        with self._store.transaction(durable=False):  # after a power cut there is nothing of the pod to undo
            pod = make()
            self._store.insert(pod, config=config, sticky=sticky)
        try:
            self.foretell(pod.name, pod.addresses)
            self.ground.prepare(pod)
            self.policies.enter(pod)
            making = self._making(pod)
            # Where the link cannot be made, what stands on it is not tried: it would go to another of that name.
            ground = [operation for operation in making if isinstance(operation.fact, Namespace | Veth)]
            apply(ground, self._kernel.execute)
            apply([operation for operation in making if operation not in ground], self._kernel.execute)
            self.tell(pod.name, pod.addresses)
            self._store.finish(pod.name, result(pod) if result is not None else "")
        except BaseException:
            self.tell(pod.name, ())
            self.take_down(pod)
            with contextlib.suppress(FairwayError):  # a disk that is full by now: the next repair forgets it
                self._store.delete(pod.name)
            raise
        self._kernel.wait_transmits(self._identity.home, pod.link)
        self._kernel.wait_transmits(self._identity.site(pod).namespace, pod.interface)
        return pod

    def remove(self, pod: Pod, state: PodState = PodState.REMOVING) -> None:
        """The pod's traffic ends and it is noted as going; the kernel takes its link away while the caller goes on."""
        self._store.set_state(pod.name, state)
        self._removed_some = True
        index = self._kernel.link_index(pod.link)
        # Where the link is gone already, so is what the chain that guards it was for.
        later: tuple[type[Fact], ...] = (Veth, AllowedSources) if index else ()
        at_once = [operation for operation in self._removal(pod) if not isinstance(operation.fact, later)]
        sources = AllowedSources(self._identity.home, pod.link, frozenset(pod.addresses))
        guard = self._kernel.filter.silence(sources, index) if index else 0
        self.tell(pod.name, ())
        apply(at_once, self._kernel.execute)
        self._reaper.end(pod.name, pod.link, index, guard)

    def wait(self, name: str) -> None:
        """Return when the kernel has taken away the link of a pod that was removed here.

        Not under the store's lock: whoever ends links needs it to forget the pods before this one.
        """
        self._reaper.wait(name)

    def when_removed(self, name: str, tell: Callable[[], None]) -> None:
        """Call `tell`, from some thread, when `wait` would return."""
        self._reaper.when_ended(name, tell)

    def is_ending(self, name: str) -> bool:
        """Whether the link of that pod is being taken away here."""
        return self._reaper.is_ending(name)

    def take_down(self, pod: Pod) -> None:
        """Remove what there is of `pod`, whatever it is, and wait for it."""
        self._removed_some = True
        self._kernel.execute(self._removal(pod))
        site = self._identity.site(pod)
        if site.own:
            self._kernel.sweep_placeholders(site.namespace)
        self.policies.leave(pod)

    def has_moved(self, pod: Pod) -> bool:
        """Whether the mark of the pod's namespace says that it is another host's now, or still."""
        site = self._identity.site(pod)
        if not site.own or not self._kernel.has_namespace(site.namespace):
            return False
        mark = self._kernel.mark(site.namespace)
        return mark != site.mark and mark.startswith("fairway ") and mark.endswith(f" pod {pod.name}")

    def is_reachable(self, pod: Pod) -> bool:
        """Whether the pod's namespace is to be had: a runtime's may be gone, or something else be at its path."""
        return pod.attachment is None or self._kernel.is_there(pod.attachment.namespace)

    def desired(self, pod: Pod, chains: Iterable[ForeignChain], *, reachable: bool) -> set[Fact]:
        """What should be of the pod: nothing, if it is a runtime's whose namespace and link are gone."""
        facts = self.facts(pod, chains)
        if reachable:
            return facts
        return outer_facts(self._identity.home, facts) if self._kernel.has_link(pod.link) else set()

    def differences(self, pod: Pod, chains: Iterable[ForeignChain]) -> list[Operation]:
        """What would have to be done for this one pod: nothing, if another host has it."""
        if self.has_moved(pod):
            return []
        reachable = self.is_reachable(pod)
        wanted = self.desired(pod, chains, reachable=reachable)
        if not wanted:
            return []
        return plan(wanted, self._observer.one(pod, self._identity.site(pod), wanted, reachable=reachable))

    def chains(self) -> tuple[ForeignChain, ...]:
        """Other programs' chains that are to let pods through."""
        return self._kernel.filter.dropping_chains(self._identity.home) if self._touch_foreign_chains else ()

    def uplink_mtu(self) -> int:
        """The MTU of the host's way out, looked at once, less what a tunnel adds if there is one."""
        if not self._mtu:
            self._mtu = uplink.mtu(self._kernel)
        tunnel = self._store.tunnel()
        return self._mtu if tunnel is None else min(self._mtu, tunnel.mtu)

    def _forget(self, names: Sequence[str]) -> None:
        """The links of pods that were removed have ended: only now nothing can reach them any more."""
        with self._store.lock():
            for name in names:
                entry = self._store.entry(name)
                if entry is not None and entry.state in (PodState.REMOVING, PodState.AWAY):
                    self.policies.leave(entry.pod)
            self._store.forget_removed(names)

    def _making(self, pod: Pod) -> list[Operation]:
        site = self._identity.site(pod)
        born = {Up(site.namespace, "lo", site.mark)} if site.own else set()  # with the namespace itself
        return plan(self.facts(pod, self.chains()), born)

    def facts(self, pod: Pod, chains: Iterable[ForeignChain]) -> set[Fact]:
        """All that should be of the pod while its namespace is to be had."""
        return self._kernel.possible(pod_facts(self._identity.home, self._identity.site(pod), pod, chains))

    def _removal(self, pod: Pod) -> list[Operation]:
        """What takes the pod away: its rules, its link, and its namespace if that is Fairway's own.

        Of a namespace that is another host's by now, our name for it.
        """
        site = self._identity.site(pod)
        observed = self._observer.pod(pod, site)
        if self.has_moved(pod):
            observed.add(Namespace(site.namespace, site.mark))
        return plan((), observed)


def _nobody(name: str, addresses: tuple[IPAddress, ...]) -> None:
    """Whom a host tells that has no agent."""
