"""Pods that move from one host to another of the same machine, namespace and all: a lab's nodes.

Whose pod it is, the mark of its namespace says, and setting it is the moment at which the pod changes hands. Both hosts
note the pod before and after: whoever is cut off, one look at the mark says which of them is to give up what it has.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from fairway.net.host.identity import Identity
from fairway.net.host.pools import Pools
from fairway.net.host.store import Entry, PodState, Store
from fairway.net.host.wiring import Wiring
from fairway.net.kernel import Kernel
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import Fact, IPAddress, Namespace, Route, Up
from fairway.net.model.names import MOVED_INTERFACE, POD_INTERFACE, check_name
from fairway.net.model.operations import Change, Operation
from fairway.net.model.pod import Pod
from fairway.net.model.pool import Wish
from fairway.net.reconcile import apply, plan


@dataclass(frozen=True, slots=True)
class Arrival:
    """A pod that is to be taken in, as it is on the host where it was."""

    namespace: str  # its name
    interface: str  # its own end of its link there: here it gets another, so that both can be at once
    mtu: int
    addresses: tuple[IPAddress, ...] = ()  # which it keeps; none: it gets new ones of this host's pools


class Moving:
    """One host's part in moves between hosts of one machine: a lab's nodes."""

    def __init__(self, store: Store, kernel: Kernel, identity: Identity, pools: Pools, wiring: Wiring) -> None:
        self._store = store
        self._kernel = kernel
        self._identity = identity
        self._pools = pools
        self._wiring = wiring

    def take_in(self, name: str, arrival: Arrival) -> Pod:
        """A pod of another host's, in its namespace as it is, on a link to this host; the other is to `let_go` then.

        When this returns the pod sends by this host. If it fails, the pod is where it was.
        """
        check_name("pod", name)
        self._wiring.wait(name)
        with self._store.lock():
            return self._take_in(name, arrival)

    def let_go(self, name: str, *, keeps: bool = True) -> None:
        """End what is left here of a pod that another host has taken in.

        If it `keeps` its addresses, nobody else gets those that are of this host's pools.
        """
        with self._store.lock():
            entry = self._store.entry(name)
            if entry is None or entry.state is PodState.AWAY:
                return
            if not self._wiring.has_moved(entry.pod):
                raise UsageError(f"no other host has taken in the pod {name}", mend="move it: fairway pod move")
            state = PodState.AWAY if keeps and self._is_at_home(entry.pod) else PodState.REMOVING
            self._wiring.remove(entry.pod, state)

    def away(self) -> list[Pod]:
        """Pods that went to other hosts and keep addresses of this one."""
        return [entry.pod for entry in self._store.entries() if entry.state is PodState.AWAY]

    def forget_away(self, name: str) -> None:
        """The pod is no more, wherever it was: its addresses are free."""
        with self._store.lock():
            entry = self._store.entry(name)
            if entry is not None and entry.state is PodState.AWAY:
                self._store.delete(name)

    def settle(self, entry: Entry) -> bool:
        """Bring a move that was cut off to one end or the other; False if the pod is in none.

        The caller holds the store's lock.
        """
        if self._wiring.is_ending(entry.pod.name):
            return False
        if entry.state is PodState.AWAY:
            self._wiring.take_down(entry.pod)
        elif entry.state is PodState.RETURNING or (
            entry.state is PodState.PRESENT and self._wiring.has_moved(entry.pod)
        ):
            self._give_up(entry.pod)
        else:
            return False
        return True

    def _take_in(self, name: str, arrival: Arrival) -> Pod:
        """Make the pod's new link beside its old one, switch it over, and set the mark; undone if a step fails."""
        former = self._store.entry(name)
        if former is not None and former.state is not PodState.AWAY:
            raise UsageError(f"the pod {name} is here", mend="see: fairway pod ls")
        interface = MOVED_INTERFACE if arrival.interface == POD_INTERFACE else POD_INTERFACE
        namespace = self._identity.namespace(name)
        with self._store.transaction():
            if former is not None:
                self._store.delete(name)
            addresses = arrival.addresses or self._pools.choose(Wish())
            pod = Pod(name, addresses, arrival.mtu, interface)
            self._store.insert(pod, PodState.ADDING if former is None else PodState.RETURNING)
        try:
            self._wiring.ground.prepare(pod)
            self._wiring.policies.enter(pod, moved=True)
            if not self._kernel.has_namespace(namespace):
                self._kernel.share_namespace(namespace, arrival.namespace)
            beside, over = self._steps(pod, namespace)
            apply(beside, self._kernel.execute)
            self._store.finish(name, "")
            apply(over, self._kernel.execute)
            self._wiring.tell(name, pod.addresses)
        except BaseException:
            with contextlib.suppress(FairwayError):  # a disk that is full by now: the next repair sees to it
                self._give_up(pod)
            raise
        return pod

    def _give_up(self, pod: Pod) -> None:
        self._wiring.take_down(pod)
        if self._is_at_home(pod):
            self._store.set_state(pod.name, PodState.AWAY)
        else:
            self._store.delete(pod.name)

    def _is_at_home(self, pod: Pod) -> bool:
        """Whether an address of the pod is of this host's pools: nobody else is to have it while the pod is away."""
        blocks = [use.block for use in self._store.addresses.pools()]
        return any(address in block for address in pod.addresses for block in blocks)

    def _steps(self, pod: Pod, namespace: str) -> tuple[list[Operation], list[Operation]]:
        """What can be made while the pod still sends by its other link; and what makes it send by this one."""
        site = self._identity.site(pod)
        facts = self._wiring.facts(pod, self._wiring.chains())
        over: list[Operation] = [Change(fact, fact) for fact in facts if _is_way_out(fact, namespace)]
        marking = Namespace(site.namespace, site.mark)
        beside = {fact for fact in facts if not (_is_way_out(fact, namespace) or _is_mark(fact, namespace))}
        return plan(beside, ()), [*over, Change(marking, marking)]


def _is_way_out(fact: Fact, namespace: str) -> bool:
    return isinstance(fact, Route) and fact.namespace == namespace


def _is_mark(fact: Fact, namespace: str) -> bool:
    if isinstance(fact, Namespace):
        return fact.name == namespace
    return isinstance(fact, Up) and (fact.namespace, fact.link) == (namespace, "lo")
