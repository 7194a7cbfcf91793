"""A state file written anew from what the kernel holds."""

from __future__ import annotations

import sqlite3
from ipaddress import ip_network
from pathlib import Path

from fairway.net.host.store import PodState, Store
from fairway.net.kernel import Kernel
from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import IPNetwork
from fairway.net.model.names import POD_INTERFACE
from fairway.net.model.pod import Pod, StaticRoute


def rebuild(store: Store, kernel: Kernel, prefix: str, mark: str, kept: Path) -> None:
    """Fill the new `store` with the pods and routes that are in the kernel, and the pools that `kept` still tells."""
    with store.lock(), store.transaction():
        for pool in _salvaged_pools(kept):
            store.add_pool(pool)
        for namespace in kernel.namespace_names(prefix):
            name = namespace.removeprefix(prefix)
            if kernel.mark(namespace) == f"{mark} {name}":
                _take_up(store, kernel, namespace, name)
        routes = (StaticRoute(r.destination, r.gateway) for r in kernel.routes(kernel.home) if r.gateway is not None)
        store.change_routes(routes)


def _take_up(store: Store, kernel: Kernel, namespace: str, name: str) -> None:
    view = kernel.view(namespace)
    links = [link for link in view.links if link.name == POD_INTERFACE]
    facts = [record.fact for record in view.addresses if record.fact.link == POD_INTERFACE]
    addresses = tuple(fact.interface.ip for fact in facts if not fact.interface.ip.is_link_local)
    if not links or not addresses:
        return  # cut off half-way: a repair takes it away
    try:
        store.insert(Pod(name, addresses, links[0].mtu), PodState.PRESENT)
    except FairwayError:
        return  # two namespaces with one address: the first has it, a repair takes the other away


def _salvaged_pools(kept: Path) -> list[IPNetwork]:
    """The pools that a damaged file still tells; none if it tells nothing."""
    try:
        database = sqlite3.connect(f"file:{kept}?mode=ro&immutable=1", uri=True)
        try:
            rows = database.execute("SELECT network FROM pools ORDER BY position").fetchall()
        finally:
            database.close()
        return [ip_network(row[0]) for row in rows]
    except (sqlite3.Error, ValueError):
        return []
