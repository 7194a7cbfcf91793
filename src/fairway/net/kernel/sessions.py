"""The sockets of the namespaces that work goes on in: opened when first needed, ended together."""

from __future__ import annotations

from types import TracebackType

from fairway.net.kernel import namespaces
from fairway.net.kernel.firewall import TABLE, FirewallDriver
from fairway.net.kernel.foreign import ForeignChains
from fairway.net.kernel.netlink import Netlink
from fairway.net.kernel.policy import PolicyDriver
from fairway.net.model.facts import HERE


class Sessions:
    """A netlink socket, a firewall and a view of foreign chains for each namespace asked for.

    Those of the namespaces in `kept` stay open until `close`; the others end with each `with` block.
    """

    def __init__(self, kept: frozenset[str] = frozenset({HERE})) -> None:
        self._kept = kept
        self._netlinks: dict[str, Netlink] = {}
        self._firewalls: dict[str, FirewallDriver] = {}
        self._policies: dict[str, PolicyDriver] = {}
        self._foreign: dict[str, ForeignChains] = {}

    def __enter__(self) -> Sessions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in [name for name in self._netlinks if name not in self._kept]:
            self.forget(name)

    def close(self) -> None:
        """End every socket."""
        for name in set(self._netlinks) | set(self._firewalls) | set(self._policies) | set(self._foreign):
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

    def foreign(self, namespace: str) -> ForeignChains:
        """Other programs' FORWARD chains in `namespace`."""
        if namespace not in self._foreign:
            self._foreign[namespace] = namespaces.inside(namespace, lambda: ForeignChains(namespace))
        return self._foreign[namespace]

    def adopt(self, namespace: str, netlink: Netlink) -> None:
        """Take over a socket that the namespace's maker opened in it."""
        self.forget(namespace)
        self._netlinks[namespace] = netlink

    def forget(self, namespace: str) -> None:
        """End the sockets in `namespace`."""
        for driver in (
            self._netlinks.pop(namespace, None),
            self._firewalls.pop(namespace, None),
            self._policies.pop(namespace, None),
            self._foreign.pop(namespace, None),
        ):
            if driver is not None:
                driver.close()
