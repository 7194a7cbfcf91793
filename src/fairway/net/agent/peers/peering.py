"""A host and its peers put together: its pods become announcements, what peers announce becomes routes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from fairway.net.agent.log import say
from fairway.net.agent.peers.installing import Installer
from fairway.net.agent.peers.network import PeerNetwork
from fairway.net.agent.peers.options import PeerOptions
from fairway.net.agent.peers.status import Place
from fairway.net.agent.peers.tasks import Tasks
from fairway.net.agent.worker import Worker
from fairway.net.enrolment import Authority, Membership
from fairway.net.exchange import LearnedRoute as Learned
from fairway.net.host import Host
from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.permit import within
from fairway.net.model.pod import Pod

_LOOK_S = 10.0
_LOOK_AGAIN_S = 0.1


class Peering:
    """All methods are the event loop's; what reads or changes the host's state is the worker's."""

    def __init__(
        self, host: Host, worker: Worker, membership: Membership, authority: Authority, options: PeerOptions
    ) -> None:
        self._host = host
        self._worker = worker
        self._network = PeerNetwork(membership, authority, options, self._changed)
        self._blocks = membership.credentials().permit.blocks
        self._options = options
        self._installer = Installer(
            host, worker, self._network.exchange, self._blocks, options.restart_s, tunnels=options.vxlan_port > 0
        )
        self._pods: dict[str, tuple[IPNetwork, ...]] = {}
        """By name, what has to be announced of each of which that is anything."""
        self._changes = 0
        self._versions: dict[IPNetwork, int] = {}
        """Above 0, as they are on the disk: what this host once announced must not come with a lower one."""
        self._keeping = False
        self._tasks = Tasks()
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, call, announce. What was learned before a restart stays, for as long as peers keep such routes."""
        await self._set_tunnel()
        await self._installer.start()
        self._versions = await self._worker.do(self._host.store.own_versions)
        self._take_up(await self._worker.do(self._host.pods))
        await self._network.start()
        self._announce()
        self._looking = asyncio.get_running_loop().create_task(self._look_at_pods())

    async def stop(self) -> None:
        """End the connections; routes stay, here and at the peers."""
        if self._looking is not None:
            self._looking.cancel()
        await self._tasks.stop()
        await self._network.stop()
        await self._installer.stop()

    # What happens

    def pod_comes(self, name: str, addresses: tuple[IPAddress, ...]) -> None:
        """A pod with these addresses is being made: others learn the way to it meanwhile.

        But for an address of which they know another way: packets go by that until the pod is here.
        """
        elsewhere = self._network.exchange.is_elsewhere
        self._put(name, tuple(single for single in self._outside(addresses) if not elsewhere(single)))

    def pod_changed(self, name: str, addresses: tuple[IPAddress, ...]) -> None:
        """A pod has come with these addresses, or goes: who has to hear of it hears at once."""
        self._put(name, self._outside(addresses))

    def _put(self, name: str, outside: tuple[IPNetwork, ...]) -> None:
        self._changes += 1
        former = self._pods.pop(name, ())
        if outside:
            self._pods[name] = outside
        if outside != former:
            self._announce()

    def addresses_changed(self, addresses: Iterable[IPAddress]) -> None:
        """The host's own addresses, or its ways to others, are other ones."""
        self._network.move(tuple(addresses))
        self._installer.look_again()

    def _announce(self) -> None:
        """The host's blocks, and of its pods what lies outside of them, each with a version.

        One that another node announces as well comes before that: the pod has moved here.
        """
        exchange = self._network.exchange
        wanted = dict.fromkeys(self._blocks, 0)
        fresh: dict[IPNetwork, int] = {}
        for single in {single for singles in self._pods.values() for single in singles}:
            known = exchange.own.get(single)
            version = known.version if known else self._versions.get(single) or exchange.next_version(single)
            if version and single not in self._versions:
                fresh[single] = version
            if known or single not in fresh:
                wanted[single] = version
        self._network.announce(wanted)
        gone = self._versions.keys() - wanted.keys()
        if not self._keeping and (fresh or gone):
            self._keeping = True
            self._tasks.begin(self._keep(fresh, gone))

    async def _keep(self, fresh: Mapping[IPNetwork, int], gone: Collection[IPNetwork]) -> None:
        """Versions go to the disk before anybody is told them: a life that knew less would announce lower ones."""
        try:
            await self._worker.do(lambda: self._host.store.change_own_versions(fresh, gone))
        except FairwayError as error:
            say("versions not kept", level="warning", why=error.message, mend=error.mend)
        for single in gone:
            self._versions.pop(single, None)
        self._versions.update(fresh)
        self._keeping = False
        self._announce()

    def _outside(self, addresses: Iterable[IPAddress]) -> tuple[IPNetwork, ...]:
        """Those of a pod's addresses that are not in the host's blocks."""
        return tuple(single for single in map(ip_network, addresses) if not within(single, self._blocks))

    def _changed(self, prefixes: set[IPNetwork]) -> None:
        self._installer.changed(prefixes)

    async def _set_tunnel(self) -> None:
        """Make ready for what goes within VXLAN, or end it."""
        learned, port = self._host.learned, self._options.vxlan_port
        node, versions = self._network.exchange.name, {address.version for address in self._options.addresses}
        if port and versions:
            failures = await self._worker.do(lambda: learned.set_tunnel(node, port, versions))
        else:
            failures = await self._worker.do(learned.end_tunnel)
        for failure in failures:
            say("tunnel not ready", level="warning", why=failure.error.message, mend=failure.error.mend)

    def _take_up(self, pods: Iterable[Pod]) -> None:
        found = {pod.name: self._outside(pod.addresses) for pod in pods}
        self._pods = {name: outside for name, outside in found.items() if outside}

    async def _look_at_pods(self) -> None:
        """Now and then, since pods also go without a call: with their namespaces, or when a state is mended."""
        while True:
            changes = self._changes
            try:
                pods = await self._worker.do(self._host.pods)
            except FairwayError as error:
                say("pods not announced", level="warning", why=error.message, mend=error.mend)
            else:
                if changes != self._changes:  # they are others by now
                    await asyncio.sleep(_LOOK_AGAIN_S)
                    continue
                self._take_up(pods)
                self._announce()
            await asyncio.sleep(_LOOK_S)

    # What is known

    async def peers(self) -> list[dict[str, Any]]:
        """Every peer, for `fairway peers`."""
        return [peer.document() for peer in self._network.peer_status()]

    async def routes(self) -> list[dict[str, Any]]:
        """Every announcement, for `fairway routes`."""
        present = await self._worker.do(self._host.learned.in_kernel)

        def place(route: Learned) -> Place:
            hop = self._installer.hop(route)
            there = hop is not None and (hop.destination, hop.gateway) in present
            return Place(there, hop is not None and hop.tunnelled)

        return [route.document() for route in self._network.route_status(place)]

    async def routers(self) -> list[dict[str, Any]]:
        """What routers between this host and others have to know, for `fairway check`."""
        needed = self._installer.needs()
        confirmed = await self._network.pass_on([(need.hop.destination[0], need.peer) for need in needed])
        return [
            {
                "router": str(need.hop.gateway),
                "destination": str(need.hop.destination),
                "via": str(need.peer),
                "node": need.hop.node,
                "confirmed": answer,
            }
            for need, answer in zip(needed, confirmed, strict=True)
        ]

    def conflicts(self) -> list[str]:
        """What nodes announce that cannot all be true, in words."""
        return [str(conflict) for conflict in self._network.conflicts]
