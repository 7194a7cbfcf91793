"""The kernel as the rest of the pod network sees it: operations in, facts out."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from fairway.net.kernel import messages, namespaces, observe, records, sysctl
from fairway.net.kernel.ending import LinkEnder
from fairway.net.kernel.events import Events
from fairway.net.kernel.execute import execute
from fairway.net.kernel.netfilter.packet_filter import PacketFilter
from fairway.net.kernel.observe import View
from fairway.net.kernel.records import LinkRecord
from fairway.net.kernel.routing import Routing
from fairway.net.kernel.sessions import Sessions
from fairway.net.model.attachment import GivenNamespace
from fairway.net.model.errors import NamespaceError
from fairway.net.model.facts import (
    HERE,
    Fact,
    Sysctl,
)
from fairway.net.model.names import INTERFACE_PREFIX, TUNNEL_INTERFACE
from fairway.net.model.operations import Failure, Operation

T = TypeVar("T")

_TRANSMITS_S, _TRANSMITS_LOOK_S = 1.0, 0.0002  # the kernel's own work of a moment; longer only where it is overwhelmed


class Kernel:
    """Work in any number of namespaces; the sockets in `home` stay open until `close`."""

    def __init__(self, home: str = HERE) -> None:
        self.home = home
        self._sessions = Sessions(frozenset({home}))
        self.filter = PacketFilter(home, self._sessions)
        self.routing = Routing(home, self._sessions)
        self._ender: LinkEnder | None = None

    def close(self) -> None:
        """End every socket."""
        self._sessions.close()
        if self._ender is not None:
            self._ender.close()
            self._ender = None

    def execute(self, operations: Sequence[Operation]) -> list[Failure]:
        """Do `operations` in their order; one that fails holds up no other. Returns those that failed."""
        with self._sessions as sessions:
            return execute(sessions, operations)

    def view(self, namespace: str, *, every_route: bool = False) -> View:
        """What `namespace` holds; routes that are not ours only if `every_route`."""
        with self._sessions as sessions:
            return observe.view(namespace, sessions.netlink(namespace), every_route=every_route)

    def settings(self, namespace: str, paths: Iterable[str]) -> set[Fact]:
        """The settings at `paths` in `namespace`; those that this kernel does not have are left out."""
        wanted = list(paths)
        if not wanted:
            return set()
        return namespaces.inside(namespace, lambda: observe.settings(namespace, wanted))

    def link_view(self, namespace: str, link: str) -> View:
        """What `namespace` holds of one interface: itself, and addresses, neighbours and our routes on it."""
        with self._sessions as sessions:
            return observe.link_view(namespace, sessions.netlink(namespace), link)

    def link(self, namespace: str, name: str) -> LinkRecord | None:
        """One interface, anybody's; None if there is none of that name."""
        with self._sessions as sessions:
            message = sessions.netlink(namespace).get(messages.get_link(name))
        return records.link(namespace, message) if message is not None else None

    def wait_transmits(self, namespace: str, name: str) -> None:
        """Return when an interface that is up, and whose other end is, hands packets on; at most a second."""
        end = time.monotonic() + _TRANSMITS_S
        with self._sessions as sessions:
            netlink = sessions.netlink(namespace)
            while (message := netlink.get(messages.get_link(name))) is not None and not records.transmits(message):
                if time.monotonic() > end:
                    return
                time.sleep(_TRANSMITS_LOOK_S)

    def mark(self, namespace: str) -> str:
        """The alias of the namespace's `lo`: whose it is."""
        loopback = self.link(namespace, "lo")
        return loopback.alias if loopback is not None else ""

    def loopback_addresses(self) -> set[Fact]:
        """Our addresses on the home namespace's `lo`."""
        netlink = self._sessions.netlink(self.home)
        found = (records.address(self.home, {1: "lo"}, m) for m in netlink.dump(messages.dump_addresses(index=1)))
        return {r.fact for r in found if r.fact.link == "lo" and r.ours}

    def tunnels(self, namespace: str) -> set[Fact]:
        """Our VXLAN device in `namespace`, that it is up, and the neighbours on it."""
        view = self.link_view(namespace, TUNNEL_INTERFACE)
        return records.link_facts(link for link in view.links if link.ours) | set(view.facts)

    def end_links(self, indices: Sequence[int]) -> None:
        """Take away the home namespace's interfaces with those indices, as one; return when nobody finds them.

        The kernel goes on to free them, which `close` waits for.
        """
        if self._ender is None:
            self._ender = LinkEnder(self.home)
        self._ender.end(indices)

    def pod_links(self) -> list[str]:
        """The home namespace's interfaces that are called as pods' host ends are, anybody's."""
        names = namespaces.inside(self.home, socket.if_nameindex)
        return [name for _, name in names if name.startswith(INTERFACE_PREFIX)]

    def link_index(self, name: str) -> int:
        """The index of the home namespace's interface of that name; 0 if there is none."""
        return self._sessions.netlink(self.home).index(name)

    def has_link(self, name: str) -> bool:
        """Whether there is an interface of that name, anybody's, in the home namespace."""
        return self._sessions.netlink(self.home).index(name) != 0

    def request(self, namespace: str, requests: Sequence[bytes], tolerated: Sequence[int] = ()) -> None:
        """Send route-netlink requests in `namespace`; the first error that is not `tolerated` is raised."""
        with self._sessions as sessions:
            for error in sessions.netlink(namespace).batch(requests):
                if error is not None and error.errno not in tolerated:
                    raise error

    def namespace_identity(self, name: str) -> int:
        """The inode that /proc/PID/ns/net shows for processes in the namespace."""
        return namespaces.path_of(name).stat().st_ino

    def given_namespace(self, path: str) -> GivenNamespace:
        """The namespace at `path`, for a pod; NamespaceError if there is none, or it is the host's own."""
        found = namespaces.identify(path)
        if found.inode == namespaces.identify(namespaces.handle_of(self.home)).inode:
            raise NamespaceError(f"{path} is the host's own network namespace", mend="give the pod one of its own")
        return found

    def is_there(self, namespace: GivenNamespace) -> bool:
        """Whether that namespace is still to be had at its path."""
        try:
            return namespaces.identify(namespace.path) == namespace
        except NamespaceError:
            return False

    def has_namespace(self, name: str) -> bool:
        """Whether there is a namespace of that name, anybody's."""
        return namespaces.exists(name)

    def share_namespace(self, name: str, former: str) -> None:
        """Give the namespace `former` another name too."""
        namespaces.bind(name, former)

    def namespace_names(self, prefix: str = "") -> list[str]:
        """Every bound namespace whose name begins with `prefix`, anybody's."""
        return namespaces.names(prefix)

    def sweep_placeholders(self, prefix: str) -> list[str]:
        """Remove what is left of namespaces whose making was cut off; returns their names."""
        return namespaces.sweep_placeholders(prefix)

    def events(self, queue: int | None = None) -> Events:
        """What others change in the home namespace from now on; `queue` bytes of it may wait to be read."""
        return namespaces.inside(self.home, lambda: Events(queue) if queue else Events())

    def inside(self, namespace: str, work: Callable[[], T]) -> T:
        """What `work` returns when a thread does it inside `namespace`."""
        return namespaces.inside(namespace, work)

    def router_advertisement_links(self) -> list[str]:
        """Interfaces of the home namespace that take routes from router advertisements while they do not forward."""

        def read() -> list[str]:
            names = sysctl.children("net/ipv6/conf")
            return [
                name
                for name in names
                if not name.startswith(INTERFACE_PREFIX) and sysctl.read(f"net/ipv6/conf/{name}/accept_ra") == "1"
            ]

        return namespaces.inside(self.home, read)

    def possible(self, facts: Iterable[Fact]) -> set[Fact]:
        """Those of `facts` that this kernel can have: it may know no IPv6, and then has no settings for it."""
        if sysctl.children("net/ipv6"):
            return set(facts)
        return {fact for fact in facts if not (isinstance(fact, Sysctl) and fact.path.startswith("net/ipv6/"))}
