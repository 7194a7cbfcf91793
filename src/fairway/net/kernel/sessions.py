"""The sockets of the namespaces that work goes on in: opened when first needed, ended together."""

from __future__ import annotations

from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Protocol

from fairway.net.kernel import namespaces
from fairway.net.kernel.netfilter.connections import Connections
from fairway.net.kernel.netfilter.firewall import TABLE, FirewallDriver
from fairway.net.kernel.netfilter.foreign import ForeignChains
from fairway.net.kernel.netfilter.masquerade import MasqueradeDriver
from fairway.net.kernel.netfilter.policy import PolicyDriver
from fairway.net.kernel.netfilter.tunnel_guard import TunnelGuardDriver
from fairway.net.kernel.netlink import Netlink
from fairway.net.model.facts import HERE


class _Driver(Protocol):
    def close(self) -> None: ...


class Sessions:
    """A netlink socket, a firewall and a view of foreign chains for each namespace asked for.

    Those of the namespaces in `kept` stay open until `close`; the others end with each `with` block.
    """

    def __init__(self, kept: frozenset[str] = frozenset({HERE})) -> None:
        self._kept = kept
        self._netlinks: dict[str, Netlink] = {}
        self._firewalls: dict[str, FirewallDriver] = {}
        self._policies: dict[str, PolicyDriver] = {}
        self._masquerades: dict[str, MasqueradeDriver] = {}
        self._tunnel_guards: dict[str, TunnelGuardDriver] = {}
        self._foreign: dict[str, ForeignChains] = {}
        self._connections: dict[str, Connections] = {}

    def __enter__(self) -> Sessions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in [name for name in self._netlinks if name not in self._kept]:
            self.forget(name)

    def close(self) -> None:
        """End every socket."""
        for drivers in self._drivers():
            for name in list(drivers):
                self.forget(name)

    def netlink(self, namespace: str) -> Netlink:
        """A route-netlink socket in `namespace`."""
        if namespace not in self._netlinks:
            self._netlinks[namespace] = namespaces.inside(namespace, Netlink)
        return self._netlinks[namespace]

    def firewall(self, namespace: str) -> FirewallDriver:
        """The driver of our nftables table in `namespace`."""
        if namespace not in self._firewalls:
            self._firewalls[namespace] = namespaces.inside(namespace, lambda: FirewallDriver(namespace))
        return self._firewalls[namespace]

    def policies(self, namespace: str) -> PolicyDriver:
        """The driver of the policies in our nftables table in `namespace`."""
        if namespace not in self._policies:
            self._policies[namespace] = namespaces.inside(namespace, lambda: PolicyDriver(TABLE))
        return self._policies[namespace]

    def masquerade(self, namespace: str) -> MasqueradeDriver:
        """The driver of the chain in our nftables table in `namespace` that hides pods' addresses."""
        if namespace not in self._masquerades:
            self._masquerades[namespace] = namespaces.inside(namespace, lambda: MasqueradeDriver(namespace, TABLE))
        return self._masquerades[namespace]

    def tunnel_guard(self, namespace: str) -> TunnelGuardDriver:
        """The driver of the table in `namespace` that says who may send VXLAN."""
        if namespace not in self._tunnel_guards:
            self._tunnel_guards[namespace] = namespaces.inside(namespace, lambda: TunnelGuardDriver(namespace))
        return self._tunnel_guards[namespace]

    def foreign(self, namespace: str) -> ForeignChains:
        """Other programs' FORWARD chains in `namespace`."""
        if namespace not in self._foreign:
            self._foreign[namespace] = namespaces.inside(namespace, lambda: ForeignChains(namespace))
        return self._foreign[namespace]

    def connections(self, namespace: str) -> Connections:
        """The connections that are tracked in `namespace`."""
        if namespace not in self._connections:
            self._connections[namespace] = namespaces.inside(namespace, Connections)
        return self._connections[namespace]

    def adopt(self, namespace: str, netlink: Netlink) -> None:
        """Take over a socket that the namespace's maker opened in it."""
        self.forget(namespace)
        self._netlinks[namespace] = netlink

    def forget(self, namespace: str) -> None:
        """End the sockets in `namespace`."""
        for drivers in self._drivers():
            driver = drivers.pop(namespace, None)
            if driver is not None:
                driver.close()

    def _drivers(self) -> tuple[MutableMapping[str, _Driver], ...]:
        rules: tuple[Any, ...] = (
            self._firewalls,
            self._policies,
            self._masquerades,
            self._tunnel_guards,
            self._foreign,
        )
        return (self._netlinks, *rules, self._foreign, self._connections)
