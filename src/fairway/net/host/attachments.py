"""Attachments: pods whose namespace a container runtime made, known by (container, interface)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fairway.net.host.drift import Drift, Scope
from fairway.net.host.pools import Pools
from fairway.net.host.store import Entry, PodState, Store
from fairway.net.host.wiring import Wiring
from fairway.net.ipam import wish_of
from fairway.net.kernel import Kernel
from fairway.net.model.attachment import Attachment, AttachRequest, GivenNamespace, attachment_name, read_mark
from fairway.net.model.errors import (
    AttachedError,
    FairwayError,
    IncompleteError,
    NamespaceError,
    NotOursError,
    RouteTakenError,
    UsageError,
)
from fairway.net.model.names import check_container, check_interface, check_network, host_interface
from fairway.net.model.operations import Operation
from fairway.net.model.pod import Pod, check_mac
from fairway.net.reconcile import pod_mac

Key = tuple[str, str]
"""A container's ID, and the name of an interface in it."""

_ATTEMPTS = 8  # names for a host end; 44 bits of a hash each, so the second is hardly ever needed


class Attachments:
    """The attachments of one host."""

    def __init__(self, store: Store, kernel: Kernel, pools: Pools, wiring: Wiring, drift: Drift) -> None:
        self._store = store
        self._kernel = kernel
        self._pools = pools
        self._wiring = wiring
        self._drift = drift

    def add(self, request: AttachRequest, result: Callable[[Pod], str] | None = None) -> Pod:
        """An interface in the namespace that the request names, ready for traffic; or an error, and nothing is left.

        What `result` says of it is kept, durable when this returns, for whoever asks for its `texts`.
        AttachedError, NamespaceError, UsageError: the caller's mistakes.
        """
        name = attachment_name(check_container(request.container), check_interface(request.interface))
        network = check_network(request.network)
        wish = wish_of(request)
        mac = check_mac(request.mac) if request.mac else pod_mac(name)
        self._wiring.wait(name)
        with self._store.lock():
            namespace = self._kernel.given_namespace(request.namespace)
            self._make_room(name)
            attachment = Attachment(request.container, network, namespace, request.kubernetes)

            def make(default_route: bool) -> Pod:
                return Pod(
                    name,
                    self._pools.choose(wish),
                    request.mtu or self._wiring.uplink_mtu(),
                    request.interface,
                    mac,
                    self._host_end(name),
                    default_route,
                    attachment,
                )

            def attach(default_route: bool) -> Pod:
                return self._wiring.add(lambda: make(default_route), result, config=request.config, sticky=wish.sticky)

            try:
                return attach(request.default_route)
            except RouteTakenError:
                # The container's other network has given it a default route already: this one does without.
                return attach(False)

    def remove(self, container: str, interface: str) -> bool:
        """End an attachment as `Host.remove_pod` ends a pod; False if there was none, which is no error."""
        name = attachment_name(container, interface)
        with self._store.lock():
            entry = self._store.entry(name)
            if entry is None:
                return self._remove_unknown(name)
            self._end(entry)
        return True

    def all(self) -> list[Pod]:
        """Every attachment that was added and not removed."""
        entries = self._store.entries()
        return [e.pod for e in entries if e.pod.attachment is not None and e.state is PodState.PRESENT]

    def find(self, container: str, interface: str) -> Pod:
        """One attachment; an error if there is none."""
        entry = self._store.entry(attachment_name(container, interface))
        if entry is None or entry.state is not PodState.PRESENT:
            raise UsageError(
                f"the container {container} has no attachment {interface} here", mend="see: fairway pod ls"
            )
        return entry.pod

    def texts(self, pod: Pod) -> tuple[str, str]:
        """The configuration that the attachment was asked for with, and what its runtime was told."""
        return self._store.texts(pod.name)

    def check(self, container: str, interface: str, namespace: str = "") -> list[Operation]:
        """What would have to be done for this one attachment and what it stands on: nothing, if all is well.

        NamespaceError: its namespace is gone, or is another than the one at the path `namespace`, if that is given.
        """
        with self._store.lock():
            pod = self.find(container, interface)
            assert pod.attachment is not None
            made = pod.attachment.namespace
            if not self._wiring.is_reachable(pod):
                raise NamespaceError(f"the network namespace of {pod.name} is no longer at {made.path}")
            if namespace and not _is_same(self._kernel.given_namespace(namespace), made):
                raise NamespaceError(
                    f"{pod.name} was attached in the namespace {made.path}, and {namespace} is another"
                )
            return self._drift.within(Scope(pods=frozenset({pod.name}), ground=True))

    def collect(self, valid: Iterable[Key], network: str | None = None) -> list[Pod]:
        """Remove every attachment of that network (None: of all) that is not `valid`; returns them.

        IncompleteError: of some it was not possible; the others are removed.
        """
        keys = set(valid)
        failed: list[str] = []
        with self._store.lock():
            gone = [entry for entry in self._entries() if _is_of(entry.pod, network) and _key(entry.pod) not in keys]
            for entry in gone:
                try:
                    self._end(entry)
                except FairwayError as error:
                    failed.append(f"{entry.pod.name}: {error.message}")
        if failed:
            raise IncompleteError(f"{len(failed)} of {len(gone)} were not removed: {'; '.join(failed[:3])}")
        return [entry.pod for entry in gone]

    def forget_gone(self) -> list[Pod]:
        """Free the addresses of those whose namespace is gone and took the link with it; returns them."""
        with self._store.lock():
            gone = [
                entry.pod
                for entry in self._entries()
                if not self._wiring.is_reachable(entry.pod) and not self._kernel.has_link(entry.pod.link)
            ]
            for pod in gone:
                self._wiring.take_down(pod)
                self._store.delete(pod.name)
            return gone

    def _entries(self) -> list[Entry]:
        return [entry for entry in self._store.entries() if entry.pod.attachment is not None]

    def _end(self, entry: Entry) -> None:
        if self._wiring.is_ending(entry.pod.name):
            return
        if entry.state is PodState.ADDING:  # cut off: there may be anything of it, or nothing
            self._wiring.take_down(entry.pod)
            self._store.delete(entry.pod.name)
        else:
            self._wiring.remove(entry.pod)

    def _make_room(self, name: str) -> None:
        """An attachment that is there is an error; what is left of one that was is removed."""
        entry = self._store.entry(name)
        if entry is None:
            return
        stands = self._wiring.is_reachable(entry.pod) and self._kernel.has_link(entry.pod.link)
        if entry.state is PodState.PRESENT and stands:
            raise AttachedError(f"{name} is attached already", mend="remove it first (CNI: DEL)")
        self._wiring.take_down(entry.pod)
        self._store.delete(name)

    def _host_end(self, name: str) -> str:
        """A name for the host end that nobody has; empty: the one that follows from the attachment's."""
        for attempt in range(_ATTEMPTS):
            link = host_interface(name, attempt)
            if self._store.link_holder(link):
                continue
            if self._kernel.has_link(link):
                remains = self._remains(name, link)
                if remains is None:
                    continue
                self._wiring.take_down(remains)
            return link if attempt else ""
        raise NotOursError(f"every name for the interface of {name} is taken", mend="see: ip link show")

    def _remove_unknown(self, name: str) -> bool:
        """Take away what the kernel still has of an attachment that the state file does not know."""
        for attempt in range(_ATTEMPTS):
            link = host_interface(name, attempt)
            remains = self._remains(name, link) if self._kernel.has_link(link) else None
            if remains is not None:
                self._wiring.take_down(remains)
                return True
        return False

    def _remains(self, name: str, link: str) -> Pod | None:
        """The attachment `name`, if the host's interface `link` is of ours and bears its mark."""
        found = self._kernel.link(self._kernel.home, link)
        marked = read_mark(found.alias) if found is not None and found.ours else None
        if marked is None or attachment_name(marked[0].container, marked[1]) != name:
            return None
        return Pod(name, (), 0, marked[1], outside=link, attachment=marked[0])


def _key(pod: Pod) -> Key:
    assert pod.attachment is not None
    return pod.attachment.container, pod.interface


def _is_of(pod: Pod, network: str | None) -> bool:
    return network is None or (pod.attachment is not None and pod.attachment.network == network)


def _is_same(one: GivenNamespace, other: GivenNamespace) -> bool:
    return (one.device, one.inode, one.boot) == (other.device, other.inode, other.boot)
