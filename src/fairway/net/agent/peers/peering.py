"""A host and its peers put together: its pods become announcements, what peers announce becomes routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

from fairway.net.agent.peers.installing import Installer
from fairway.net.agent.peers.network import PeerNetwork
from fairway.net.agent.peers.options import PeerOptions
from fairway.net.agent.worker import Worker
from fairway.net.enrolment import Authority, Membership, RevocationList
from fairway.net.exchange import LearnedRoute as Learned
from fairway.net.host import Host
from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.permit import within
from fairway.net.model.pod import Pod

log = logging.getLogger("fairway.peers")

_RETRY_S = 1.0


class Peering:
    """All methods are the event loop's; what reads or changes the host's state is the worker's."""

    def __init__(
        self, host: Host, worker: Worker, membership: Membership, authority: Authority, options: PeerOptions
    ) -> None:
        self._host = host
        self._worker = worker
        self._network = PeerNetwork(membership, authority, options, self._changed)
        self._blocks = membership.credentials().permit.blocks
        self._installer = Installer(host, worker, self._network.exchange, self._blocks, options.restart_s)
        self._announcing: asyncio.Task[None] | None = None
        self._announce_again = False

    async def start(self) -> None:
        """Listen, call, announce. What was learned before a restart stays, for as long as peers keep such routes."""
        await self._installer.start()
        await self._network.start()
        self.pods_changed()

    async def stop(self, *, leaving: bool = False) -> None:
        """End the connections; routes stay in the kernel, unless the host leaves the network."""
        if self._announcing is not None:
            self._announcing.cancel()
        await self._network.stop(leaving=leaving)
        await self._installer.stop(forget=leaving)

    # What happens

    def pods_changed(self) -> None:
        """Pods were added or removed: look which there are, and announce what is not in the host's blocks."""
        self._announce_again = True
        if self._announcing is None or self._announcing.done():
            self._announcing = asyncio.get_running_loop().create_task(self._announce_pods())

    def pod_added(self, addresses: Iterable[IPAddress]) -> None:
        """A pod was added: who has to hear of it hears at once."""
        exchange = self._network.exchange
        known = {each.prefix: each.version for each in exchange.own.announcements()}
        self._network.announce(known | self._singles(addresses))

    def addresses_changed(self, addresses: Iterable[IPAddress]) -> None:
        """The host's own addresses, or its ways to others, are other ones."""
        self._network.move(tuple(addresses))
        self._installer.look_again()

    def revoked(self, revocations: RevocationList) -> None:
        """The authority, here, has revoked a node."""
        self._network.revoked(revocations)

    def announce(self, pods: Iterable[Pod]) -> None:
        """These are the pods that the host has."""
        addresses = [address for pod in pods for address in pod.addresses]
        self._network.announce(dict.fromkeys(self._blocks, 0) | self._singles(addresses))

    def _singles(self, addresses: Iterable[IPAddress]) -> dict[IPNetwork, int]:
        """What is to be announced of pods that have these: what lies outside the host's blocks, each with a version.

        One that another node announces as well comes before that: the pod has moved here.
        """
        exchange = self._network.exchange
        singles: dict[IPNetwork, int] = {}
        for address in addresses:
            single = ip_network(address)
            if not within(single, self._blocks):
                known = exchange.own.get(single)
                singles[single] = exchange.next_version(single) if known is None else known.version
        return singles

    def _changed(self, prefixes: set[IPNetwork]) -> None:
        self._installer.changed(prefixes)

    async def _announce_pods(self) -> None:
        while self._announce_again:
            self._announce_again = False
            try:
                self.announce(await self._worker.do(self._host.pods))
            except FairwayError as error:
                log.warning("%s", error)
                self._announce_again = True
                await asyncio.sleep(_RETRY_S)

    # What is known

    async def peers(self) -> list[dict[str, Any]]:
        """Every peer, for `fairway peers`."""
        return [peer.document() for peer in self._network.peer_status()]

    async def routes(self) -> list[dict[str, Any]]:
        """Every announcement, for `fairway routes`."""
        present = await self._worker.do(self._host.learned.in_kernel)

        def in_kernel(route: Learned) -> bool:
            hop = self._installer.hop(route)
            return hop is not None and (hop.destination, hop.gateway) in present

        return [route.document() for route in self._network.route_status(in_kernel)]

    def conflicts(self) -> list[str]:
        """What nodes announce that cannot all be true, in words."""
        return [str(conflict) for conflict in self._network.conflicts]
