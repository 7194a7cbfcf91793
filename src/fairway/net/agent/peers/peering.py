"""A host and its peers put together: its pods become announcements, what peers announce becomes routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

from fairway.net.agent.peers.network import PeerNetwork, PeerOptions
from fairway.net.enrolment import Authority, Membership, RevocationList
from fairway.net.exchange import LearnedRoute as Learned
from fairway.net.host import Host
from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.permit import within
from fairway.net.model.pod import LearnedRoute, Pod

log = logging.getLogger("fairway.peers")

_RETRY_S = 1.0


class Peering:
    """All methods are the event loop's; what touches the host is done in a thread, one thing at a time."""

    def __init__(self, host: Host, membership: Membership, authority: Authority, options: PeerOptions) -> None:
        self._host = host
        self._network = PeerNetwork(membership, authority, options, self._changed)
        self._blocks = membership.credentials().permit.blocks
        self._dirty: set[IPNetwork] = set()
        self._pods_dirty = False
        self._installed: dict[IPNetwork, LearnedRoute] = {}
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._sweep_at: float | None = None

    async def start(self) -> None:
        """Listen, call, announce. What was learned before a restart stays, for as long as peers keep such routes."""
        self._installed = {route.destination: route for route in await asyncio.to_thread(self._host.learned.all)}
        await self._network.start()
        self._sweep_at = asyncio.get_running_loop().time() + self._network.options.restart_s
        self.pods_changed()
        self._worker = asyncio.create_task(self._work())

    async def stop(self, *, leaving: bool = False) -> None:
        """End the connections; routes stay in the kernel, unless the host leaves the network."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await self._network.stop(leaving=leaving)
        if leaving:
            await asyncio.to_thread(self._host.learned.replace, ())

    # What happens

    def pods_changed(self) -> None:
        """Pods were added or removed: announce what is not in the host's blocks."""
        self._pods_dirty = True
        self._wake.set()

    def addresses_changed(self, addresses: Iterable[IPAddress]) -> None:
        """The host's own addresses, or its ways to others, are other ones."""
        self._network.move(tuple(addresses))
        self._dirty |= self._installed.keys()
        self._wake.set()

    def revoked(self, revocations: RevocationList) -> None:
        """The authority, here, has revoked a node."""
        self._network.revoked(revocations)

    def _changed(self, prefixes: set[IPNetwork]) -> None:
        self._dirty |= prefixes
        self._wake.set()

    # What follows

    async def _work(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._until_sweep()):
                    await self._wake.wait()
            except TimeoutError:
                self._sweep_at = None
                self._dirty |= self._installed.keys()
            self._wake.clear()
            if self._sweep_at is not None:  # of what is left from before the restart, a peer may not speak any more
                self._dirty |= self._installed.keys()
            try:
                if self._pods_dirty:
                    self._pods_dirty = False
                    self._announce(await asyncio.to_thread(self._host.pods))
                await self._install()
            except FairwayError as error:
                log.warning("%s", error)
                await asyncio.sleep(_RETRY_S)
                self._wake.set()

    def _until_sweep(self) -> float | None:
        """What was learned before a restart and nobody has told since goes when its time is up."""
        return None if self._sweep_at is None else max(self._sweep_at - asyncio.get_running_loop().time(), 0.0)

    def _announce(self, pods: Iterable[Pod]) -> None:
        exchange = self._network.exchange
        wanted = dict.fromkeys(self._blocks, 0)
        for pod in pods:
            for address in pod.addresses:
                single = ip_network(address)
                if not within(single, self._blocks):
                    known = exchange.own.get(single)
                    wanted[single] = exchange.next_version(single) if known is None else known.version
        self._network.announce(wanted)

    async def _install(self) -> None:
        """Bring the kernel's learned routes to what the exchange says now of the prefixes that changed."""
        dirty, self._dirty = self._dirty, set()
        if not dirty:
            return
        add: list[LearnedRoute] = []
        delete: list[IPNetwork] = []
        for prefix in dirty:
            route = self._network.exchange.route(prefix)
            hop = None if route is None or self._is_ours(route) else self._hop(route)
            if hop is not None:
                if self._installed.get(prefix) != hop:
                    add.append(hop)
            elif prefix in self._installed and not self._may_come_back(prefix):
                delete.append(prefix)
        if not add and not delete:
            return
        try:
            failures = await asyncio.to_thread(self._host.learned.change, add, delete)
        except FairwayError:
            self._dirty |= dirty
            raise
        self._installed.update((hop.destination, hop) for hop in add)
        for prefix in delete:
            self._installed.pop(prefix, None)
        for failure in failures:
            log.warning("%s", failure.error)

    def _is_ours(self, route: Learned) -> bool:
        """A block that overlaps one of ours is never routed away; single addresses of it are pods that moved."""
        single = route.prefix.prefixlen == route.prefix.max_prefixlen
        return not single and any(
            block.version == route.prefix.version and block.overlaps(route.prefix) for block in self._blocks
        )

    def _hop(self, route: Learned) -> LearnedRoute | None:
        return None if route.via is None else LearnedRoute(route.prefix, route.via, route.node)

    def _may_come_back(self, prefix: IPNetwork) -> bool:
        """Whether the route is from before a restart of this agent, and its node may not have been heard yet."""
        if self._sweep_at is None:
            return False
        peer = self._network.exchange.peers.get(self._installed[prefix].node)
        return peer is None or (peer.loss is None and not peer.replica.complete)

    # What is known

    async def peers(self) -> list[dict[str, Any]]:
        """Every peer, for `fairway peers`."""
        return [peer.document() for peer in self._network.peer_status()]

    async def routes(self) -> list[dict[str, Any]]:
        """Every announcement, for `fairway routes`."""
        present = await asyncio.to_thread(self._host.learned.in_kernel)

        def in_kernel(route: Learned) -> bool:
            hop = self._hop(route)
            return hop is not None and (hop.destination, hop.gateway) in present

        return [route.document() for route in self._network.route_status(in_kernel)]

    def conflicts(self) -> list[str]:
        """What nodes announce that cannot all be true, in words."""
        return [str(conflict) for conflict in self._network.conflicts]


def peering_of(host: Host, options: PeerOptions) -> Peering | None:
    """The peering of a host that belongs to a network; None if it belongs to none."""
    state = host.store.path.parent
    membership = Membership(state)
    return Peering(host, membership, Authority(state), options) if membership.joined else None
