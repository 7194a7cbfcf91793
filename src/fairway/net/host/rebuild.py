"""A state file written anew from what the kernel holds, and from what the damaged one still tells."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fairway.net.host.addresses import read_pool
from fairway.net.host.store import Store
from fairway.net.kernel import Kernel, View
from fairway.net.kernel.messages import pair_group
from fairway.net.kernel.records import LinkRecord
from fairway.net.model.attachment import Attachment, Kubernetes, attachment_name, read_mark
from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import IPAddress, IPNetwork, Neighbour
from fairway.net.model.names import INTERFACE_PREFIX, host_interface
from fairway.net.model.permit import within
from fairway.net.model.pod import Pod, StaticRoute
from fairway.net.model.pool import DEFAULT_COOLDOWN_S, Pool
from fairway.net.reconcile import pod_mac


def rebuild(store: Store, kernel: Kernel, prefix: str, mark: str, kept: Path | None) -> int:
    """Fill the new `store` with the pods and routes that are in the kernel; returns how many pods.

    What pools are called and are for, and what runtimes said of their pods, is not in the kernel: it is taken from
    `kept`, if it tells.
    """
    with store.lock(), store.transaction():
        pools = _salvaged_pools(kept)
        known = {pool.block for pool in pools}
        for pool in (*pools, *(Pool(block) for block in _blocks(kernel) if block not in known)):
            store.addresses.add_pool(pool)
        for namespace in kernel.namespace_names(prefix):
            name = namespace.removeprefix(prefix)
            if kernel.mark(namespace) == f"{mark} {name}":
                _take_up_pod(store, kernel, namespace, name)
        _take_up_attachments(store, kernel, kept)
        routes = (
            StaticRoute(r.destination, r.gateway)
            for r in kernel.routing.ours(kernel.home)
            if r.gateway is not None and not r.learned
        )
        store.change_routes(routes)
        return store.counts().pods


def _blocks(kernel: Kernel) -> list[IPNetwork]:
    """The blocks of pools that pods have addresses of: what nobody has of them is refused."""
    pods = [route.destination for route in kernel.routing.ours(kernel.home) if route.link.startswith(INTERFACE_PREFIX)]
    refused = [refusal.destination for refusal in kernel.routing.refusals()]
    used = [block for block in refused if any(within(pod, (block,)) for pod in pods)]
    return sorted(used, key=lambda block: (block.version, int(block.network_address)))


def _take_up_pod(store: Store, kernel: Kernel, namespace: str, name: str) -> None:
    """Its own end is the one of our pair: one that was moving has another host's link beside it."""
    view = kernel.view(namespace)
    group = pair_group(kernel.home, host_interface(name), second=True)
    for link in view.links:
        if link.group == group:
            facts = [record.fact for record in view.addresses if record.fact.link == link.name]
            addresses = tuple(fact.interface.ip for fact in facts if not fact.interface.ip.is_link_local)
            _take_up(store, Pod(name, addresses, link.mtu, link.name))


def _take_up_attachments(store: Store, kernel: Kernel, kept: Path | None) -> None:
    """Each attachment is marked at its host end; the routes to that say its addresses, the neighbours its MAC."""
    home = kernel.view(kernel.home)
    known = _salvaged_attachments(kept)
    for link in home.links:
        marked = read_mark(link.alias)
        if marked is None or not link.ours or not link.name.startswith(INTERFACE_PREFIX):
            continue
        attachment, interface = marked
        name = attachment_name(attachment.container, interface)
        kubernetes, config, result = known.get(name, (Kubernetes(), "", ""))
        pod = _pod_at(kernel, home, link, interface, replace(attachment, kubernetes=kubernetes))
        _take_up(store, pod, config, result)


def _pod_at(kernel: Kernel, home: View, link: LinkRecord, interface: str, attachment: Attachment) -> Pod:
    name = attachment_name(attachment.container, interface)
    neighbours = [fact for fact in home.facts if isinstance(fact, Neighbour) and fact.link == link.name]
    routes = [record.fact.destination for record in home.routes if record.fact.link == link.name]
    addresses: list[IPAddress] = [n.network_address for n in routes if n.prefixlen == n.max_prefixlen]
    attachment, has_default = _found_inside(kernel, link, interface, attachment)
    return Pod(
        name,
        tuple(sorted(addresses, key=lambda address: (address.version, int(address)))),
        link.mtu,
        interface,
        neighbours[0].mac if neighbours else pod_mac(name),
        "" if link.name == host_interface(name) else link.name,
        has_default,
        attachment,
    )


def _found_inside(kernel: Kernel, link: LinkRecord, interface: str, attachment: Attachment) -> tuple[Attachment, bool]:
    """Which namespace it is, if the pair's other end is at the path that the mark tells; and a default route of ours.

    A namespace that is elsewhere by now stays unknown: the attachment is kept, what is in there is not looked after.
    """
    with contextlib.suppress(FairwayError):
        namespace = kernel.given_namespace(attachment.namespace.path)
        inside = kernel.link_view(namespace.path, interface)
        if [end.group for end in inside.links] == [pair_group(link.namespace, link.name, second=True)]:
            has_default = any(record.fact.destination.prefixlen == 0 for record in inside.routes)
            return replace(attachment, namespace=namespace), has_default
    return attachment, True


def _take_up(store: Store, pod: Pod, config: str = "", result: str = "") -> None:
    if not pod.addresses:
        return  # cut off half-way: a repair takes it away
    try:
        store.insert(pod, config=config)
    except FairwayError:
        return  # two pods with one address: the first has it, a repair takes the other away
    store.finish(pod.name, result)


def _salvaged_pools(kept: Path | None) -> list[Pool]:
    """The pools that a damaged file, of this version or the first, still tells; none if it tells nothing."""
    columns = "network, name, whole, kubernetes_namespaces, networks, cooldown_s, masquerade"
    rows = list(_salvaged(kept, f"SELECT {columns} FROM pools ORDER BY position"))
    rows = rows or [
        (*row, "", "", "", "", DEFAULT_COOLDOWN_S, 0) for row in _salvaged(kept, "SELECT network FROM pools")
    ]
    found = []
    for row in rows:
        with contextlib.suppress(ValueError, AttributeError):
            found.append(read_pool(row))
    return found


def _salvaged_attachments(kept: Path | None) -> dict[str, tuple[Kubernetes, str, str]]:
    """What a damaged file still tells of attachments, by their pods' names: Kubernetes' words, `config`, `result`."""
    found: dict[str, tuple[Kubernetes, str, str]] = {}
    query = "SELECT pod, kubernetes_namespace, kubernetes_pod, labels, annotations, config, result FROM attachments"
    for name, namespace, pod, labels, notes, config, result in _salvaged(kept, query):
        with contextlib.suppress(ValueError, TypeError):
            found[name] = Kubernetes(namespace, pod, json.loads(labels), json.loads(notes)), config, result
    return found


def _salvaged(kept: Path | None, query: str) -> Iterable[tuple[Any, ...]]:
    """The rows of a damaged file, as far as they can be read; none if there is no such file."""
    if kept is None:
        return
    try:
        with contextlib.closing(sqlite3.connect(f"file:{kept}?mode=rw", uri=True)) as database:
            yield from database.execute(query)
    except sqlite3.Error:
        return
