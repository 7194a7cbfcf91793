"""The part of the agent that is about peers: begins when the host has joined a network, and answers what is asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from fairway.net.agent.log import say
from fairway.net.agent.peers.options import PeerOptions
from fairway.net.agent.protocol import Json
from fairway.net.agent.worker import Worker
from fairway.net.host import Host
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import IPAddress

if TYPE_CHECKING:
    from fairway.net.agent.peers.peering import Peering

_LOOK_S = 1.0
_LOOK_AGAIN_S = 30.0
_ADDRESSES_S = 2.0


class Part:
    """One host's. Without a network it costs a look at one file a second."""

    def __init__(self, host: Host, worker: Worker, options: PeerOptions) -> None:
        self._host = host
        self._worker = worker
        self._options = options
        self._state = host.store.path.parent
        self._peering: Peering | None = None
        self._addresses: tuple[IPAddress, ...] = ()

    async def run(self) -> None:
        """Until cancelled; then peers are told that the agent will be back."""
        while not (self._state / "network" / "node.pem").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(_LOOK_S)
        while True:
            try:
                await self._exchange()
            except (FairwayError, OSError) as error:
                say("no exchange with peers", level="error", why=str(error))
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def _exchange(self) -> None:
        from fairway.net.agent.peers.peering import Peering
        from fairway.net.enrolment import Authority, Membership

        self._addresses = await self._own_addresses()
        membership, authority = Membership(self._state), Authority(self._state)
        port = self._options.port or membership.network().port
        given = self._options.addresses
        listen = given[0] if len(given) == 1 else None
        options = replace(self._options, addresses=self._addresses, port=port, listen=listen)
        peering = Peering(self._host, self._worker, membership, authority, options)
        await peering.start()
        self._peering = peering
        try:
            while True:
                await asyncio.sleep(_ADDRESSES_S)
                addresses = await self._own_addresses()
                if addresses != self._addresses:
                    self._addresses = addresses
                    say("own addresses changed", addresses=" ".join(map(str, addresses)))
                    peering.addresses_changed(addresses)
        finally:
            self._peering = None
            await asyncio.shield(peering.stop())
            authority.close()

    async def _own_addresses(self) -> tuple[IPAddress, ...]:
        return self._options.addresses or tuple(await self._worker.do(self._host.addresses))

    # What the agent tells

    def pod_comes(self, name: str, addresses: tuple[IPAddress, ...]) -> None:
        """A pod with these addresses is being made; `pod_changed` follows."""
        if self._peering is not None:
            self._peering.pod_comes(name, addresses)

    def pod_changed(self, name: str, addresses: tuple[IPAddress, ...]) -> None:
        """Packets for these addresses come to the pod from now on; without any, it goes."""
        if self._peering is not None:
            self._peering.pod_changed(name, addresses)

    # What is asked

    async def peers(self) -> Json:
        """Every peer."""
        return {"peers": await self._running().peers()}

    async def routes(self) -> Json:
        """Every announcement."""
        return {"routes": await self._running().routes()}

    async def findings(self) -> Json:
        """What a check says of the network: what nodes announce that cannot all be true, what routers have to know."""
        if self._peering is None:
            return {}
        return {"conflicts": self._peering.conflicts(), "routers": await self._peering.routers()}

    def _running(self) -> Peering:
        if self._peering is None:
            raise UsageError(
                "this host belongs to no network", mend="begin one: fairway init, or join one: fairway join HOST TOKEN"
            )
        return self._peering
