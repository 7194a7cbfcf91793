"""What must outlive the program: pods and their addresses, pools, routes written by hand. SQLite, durable at commit."""

from __future__ import annotations

import enum
import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from fairway.net.host.addresses import Addresses
from fairway.net.host.state_file import CorruptStateError, StateFile
from fairway.net.model.attachment import Attachment, GivenNamespace, Kubernetes
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.names import host_interface
from fairway.net.model.pod import LearnedRoute, Pod, StaticRoute, Tunnel

__all__ = ["CorruptStateError", "Entry", "PodState", "Store"]

_POD = """SELECT name, state, mtu, link, interface, mac, default_route, container, network, path, device, inode, boot,
    kubernetes_namespace, kubernetes_pod, labels, annotations FROM pods LEFT JOIN attachments ON pod = name"""


class PodState(enum.Enum):
    """How far a pod has come. What is not PRESENT was cut off, unless somebody holds the lock."""

    ADDING = "adding"
    PRESENT = "present"
    REMOVING = "removing"
    AWAY = "away"
    """It is on another host, and its addresses are kept for it: they are of this host's pools."""
    RETURNING = "returning"
    """It comes back from there; what is cut off is AWAY again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A pod and its state."""

    pod: Pod
    state: PodState


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a host has: pods, those of them that are a runtime's, routes written by hand."""

    pods: int
    attachments: int
    routes: int


class Store(StateFile):
    """One host's state file, as pods, their addresses, and routes."""

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        super().__init__(directory)
        self.addresses = Addresses(self, now)

    def entries(self) -> list[Entry]:
        """Every pod, by name."""
        addresses: dict[str, list[IPAddress]] = {}
        for pod, address in self.rows("SELECT pod, address FROM addresses ORDER BY pod, position"):
            addresses.setdefault(pod, []).append(ip_address(address))
        return [_entry(row, addresses.get(row[0], ())) for row in self.rows(f"{_POD} ORDER BY name")]

    def entry(self, name: str) -> Entry | None:
        """One pod, if it is known."""
        for row in self.rows(f"{_POD} WHERE name = ?", name):
            addresses = self.rows("SELECT address FROM addresses WHERE pod = ? ORDER BY position", name)
            return _entry(row, [ip_address(address) for (address,) in addresses])
        return None

    def entries_of_container(self, beginning: str) -> list[Entry]:
        """The attachments whose names begin so: with a part of a container's ID, and the interface or not."""
        container, _, interface = beginning.partition("/")
        query = "SELECT pod FROM attachments JOIN pods ON pod = name WHERE substr(container, 1, length(?1)) = ?1"
        rows = self.rows(f"{query} AND ?2 IN ('', interface) ORDER BY pod", container, interface) if container else []
        return [entry for (name,) in rows if (entry := self.entry(name)) is not None]

    def counts(self) -> Counts:
        """How many pods there are, of whichever state, and how many routes."""
        query = "SELECT (SELECT count(*) FROM pods), (SELECT count(*) FROM attachments), (SELECT count(*) FROM routes)"
        ((pods, attachments, routes),) = self.rows(query)
        return Counts(pods, attachments, routes)

    def is_empty(self) -> bool:
        """Whether there is no pod at all, whatever its state."""
        return not self.rows("SELECT 1 FROM pods LIMIT 1")

    def insert(self, pod: Pod, state: PodState = PodState.ADDING, *, config: str = "", sticky: str = "") -> None:
        """Add `pod` with its addresses, kept for the key `sticky`; what another has is an error that says who."""
        with self.transaction() as database:
            route = int(pod.default_route)
            values = (pod.name, pod.mtu, state.value, pod.link, pod.interface, pod.mac, route, _seal(pod))
            holder = self.link_holder(pod.link)
            if holder:
                raise UsageError(f"the interface {pod.link} is the pod {holder}'s", mend="choose another name")
            database.execute(
                "INSERT INTO pods (name, mtu, state, link, interface, mac, default_route, seal)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            self.addresses.take(pod.name, pod.addresses, sticky)
            if pod.attachment is not None:
                row = (pod.name, *_attachment_row(pod.attachment), config, "")
                database.execute(f"INSERT INTO attachments VALUES ({', '.join('?' * len(row))})", row)

    def finish(self, name: str, result: str) -> None:
        """Note that the pod of an attachment is present, and what its runtime was told."""
        with self.transaction() as database:
            database.execute("UPDATE attachments SET result = ? WHERE pod = ?", (result, name))
            self.set_state(name, PodState.PRESENT)

    def texts(self, name: str) -> tuple[str, str]:
        """What a runtime gave and was told of its attachment: `config` and `result`."""
        for config, result in self.rows("SELECT config, result FROM attachments WHERE pod = ?", name):
            return config, result
        return "", ""

    def set_state(self, name: str, state: PodState) -> None:
        """Note how far the pod has come."""
        with self.transaction() as database:
            database.execute("UPDATE pods SET state = ? WHERE name = ?", (state.value, name))

    def delete(self, name: str) -> None:
        """Forget the pod; its addresses are free."""
        with self.transaction() as database:
            self.addresses.release(name)
            database.execute("DELETE FROM attachments WHERE pod = ?", (name,))
            database.execute("DELETE FROM pods WHERE name = ?", (name,))

    def forget_removed(self, names: Iterable[str]) -> None:
        """Forget those of the pods that are being removed."""
        with self.transaction(durable=False):
            for name in names:
                if self.rows("SELECT 1 FROM pods WHERE name = ? AND state = ?", name, PodState.REMOVING.value):
                    self.delete(name)

    def link_holder(self, link: str) -> str:
        """The pod whose host end is called `link`; empty if there is none."""
        for (name,) in self.rows("SELECT name FROM pods WHERE link = ?", link):
            return str(name)
        return ""

    def routes(self) -> list[StaticRoute]:
        """The routes written by hand."""
        rows = self.rows("SELECT destination, gateway FROM routes ORDER BY destination")
        return [StaticRoute(ip_network(destination), ip_address(gateway)) for destination, gateway in rows]

    def change_routes(self, add: Iterable[StaticRoute] = (), delete: Iterable[IPNetwork] = ()) -> None:
        """Add or replace some routes and forget others, in one transaction."""
        with self.transaction() as database:
            database.executemany("DELETE FROM routes WHERE destination = ?", [(str(network),) for network in delete])
            rows = [(str(route.destination), str(route.gateway)) for route in add]
            database.executemany("INSERT OR REPLACE INTO routes VALUES (?, ?)", rows)

    def learned_routes(self) -> list[LearnedRoute]:
        """The routes that other nodes told."""
        rows = self.rows("SELECT destination, gateway, node, tunnelled FROM learned ORDER BY destination")
        return [LearnedRoute(ip_network(to), ip_address(via), node, bool(within)) for to, via, node, within in rows]

    def change_learned_routes(self, add: Iterable[LearnedRoute] = (), delete: Iterable[IPNetwork] = ()) -> None:
        """Add or replace some and forget others. After a power cut none of them is in the kernel either."""
        with self.transaction(durable=False) as database:
            database.executemany("DELETE FROM learned WHERE destination = ?", [(str(network),) for network in delete])
            rows = [(str(each.destination), str(each.gateway), each.node, int(each.tunnelled)) for each in add]
            database.executemany("INSERT OR REPLACE INTO learned VALUES (?, ?, ?, ?)", rows)

    def tunnel(self) -> Tunnel | None:
        """How this host sends through routers that know no pods; None: it does not."""
        for node, mtu, port in self.rows("SELECT node, mtu, port FROM tunnel"):
            return Tunnel(node, mtu, port)
        return None

    def set_tunnel(self, tunnel: Tunnel | None) -> None:
        """Send so from now on; with None routes that did are forgotten."""
        with self.transaction() as database:
            database.execute("DELETE FROM tunnel")
            if tunnel is None:
                database.execute("DELETE FROM learned WHERE tunnelled")
            else:
                database.execute("INSERT INTO tunnel VALUES (?, ?, ?)", (tunnel.node, tunnel.mtu, tunnel.port))

    def own_versions(self) -> dict[IPNetwork, int]:
        """The versions with which this node announces single addresses, as far as they are above 0."""
        return {ip_network(prefix): version for prefix, version in self.rows("SELECT prefix, version FROM versions")}

    def change_own_versions(self, keep: Mapping[IPNetwork, int], forget: Iterable[IPNetwork]) -> None:
        """Keep or replace some, and forget others."""
        with self.transaction() as database:
            database.executemany("DELETE FROM versions WHERE prefix = ?", [(str(prefix),) for prefix in forget])
            rows = [(str(prefix), version) for prefix, version in keep.items()]
            database.executemany("INSERT OR REPLACE INTO versions VALUES (?, ?)", rows)

    def ground_generation(self) -> int:
        """A number that changes whenever somebody takes away what every pod stands on."""
        ((number,),) = self.rows("SELECT times_removed FROM ground")
        return int(number)

    def note_ground_removed(self) -> None:
        """Tell the others that what every pod stands on is gone."""
        with self.transaction() as database:
            database.execute("UPDATE ground SET times_removed = times_removed + 1")

    def _verify(self) -> None:
        """What a disk has changed in a pod is worse than a file that cannot be read: it would be brought about."""
        try:
            seals: dict[str, int] = dict(self.rows("SELECT name, seal FROM pods"))
            for entry in self.entries():
                seal = _seal(entry.pod)
                if not seals[entry.pod.name]:  # of a file of the first version
                    self.rows("UPDATE pods SET seal = ? WHERE name = ?", seal, entry.pod.name)
                elif seals[entry.pod.name] != seal:
                    raise sqlite3.DatabaseError(f"what it has of the pod {entry.pod.name} is not what was written")
            self.addresses.pools()
            self.routes()
        except (ValueError, TypeError, KeyError, FairwayError) as error:
            raise sqlite3.DatabaseError(f"{error}") from None


def _seal(pod: Pod) -> int:
    """A checksum of what is kept of the pod, but for its state and texts; never 0. It is on disk: keep it as it is."""
    attached = _attachment_row(pod.attachment) if pod.attachment is not None else ()
    route = int(pod.default_route)
    kept = [pod.name, pod.mtu, pod.link, pod.interface, pod.mac, route, *map(str, pod.addresses), *attached]
    return zlib.crc32(json.dumps(kept).encode()) or 1


def _entry(row: tuple[Any, ...], addresses: Iterable[IPAddress]) -> Entry:
    name, state, mtu, link, interface, mac, default_route, container, *attached = row
    attachment = None if container is None else _attachment(container, *attached)
    outside = "" if link == host_interface(name) else link
    pod = Pod(name, tuple(addresses), mtu, interface, mac, outside, bool(default_route), attachment)
    return Entry(pod, PodState(state))


def _attachment(container: str, network: str, path: str, device: int, inode: int, boot: str, *known: str) -> Attachment:
    namespace, pod, labels, annotations = known
    kubernetes = Kubernetes(namespace, pod, json.loads(labels), json.loads(annotations))
    return Attachment(container, network, GivenNamespace(path, device, inode, boot), kubernetes)


def _attachment_row(attachment: Attachment) -> tuple[str | int, ...]:
    namespace, known = attachment.namespace, attachment.kubernetes
    return (
        attachment.container,
        attachment.network,
        namespace.path,
        namespace.device,
        namespace.inode,
        namespace.boot,
        known.namespace,
        known.pod,
        json.dumps(dict(known.labels), separators=(",", ":")),
        json.dumps(dict(known.annotations), separators=(",", ":")),
    )
