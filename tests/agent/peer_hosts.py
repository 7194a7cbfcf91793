"""Hosts that are peers, in one process: each has a state directory and an address on loopback; none has a kernel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, ip_network
from pathlib import Path

from fairway.net.agent.peers.network import PeerNetwork
from fairway.net.agent.peers.options import PeerOptions
from fairway.net.enrolment import Authority, Block, JoinRequest, Membership, request
from fairway.net.model.facts import IPNetwork

PORT = 7946
POOL = ip_network("10.0.0.0/16")


def now() -> datetime:
    return datetime.now(UTC)


class PeerHost:
    """One host. The first begins the network; the others join it without sockets."""

    def __init__(
        self,
        directory: Path,
        number: int,
        first: PeerHost | None = None,
        *,
        ago: timedelta = timedelta(0),
    ) -> None:
        """It begins the network, or joined that of `first` so long `ago`."""
        self.name = f"node{number}"
        self.address = IPv4Address(f"127.0.1.{number}")
        self.state = directory / self.name
        self.membership = Membership(self.state)
        self.authority = Authority(self.state)
        self.network: PeerNetwork | None = None
        self.routes_told = 0
        if first is None:
            self.authority.create(self.name, [Block(POOL)], now() - timedelta(days=90), PORT)
            self.authority.set_endpoints([f"{self.address}:{PORT}"])
            key = self.membership.pending_key()
            granted = self.authority.enrol(self.name, request(key, self.name), now())
            self.membership.accept(granted, key, self.name, now())
        else:
            token = first.authority.token(now() - ago)
            key = self.membership.pending_key()
            signing = request(key, self.name)
            asked = JoinRequest(self.name, token.number, token.proof(self.name, signing), signing)
            granted = first.authority.admit(asked, now() - ago)
            self.membership.accept(granted, key, self.name, now() - ago)

    @property
    def block(self) -> IPNetwork:
        return self.membership.credentials().permit.blocks[0]

    async def start(self, **options: object) -> PeerNetwork:
        wanted = PeerOptions((self.address,), PORT, self.address, **options)  # type: ignore[arg-type]
        self.network = PeerNetwork(self.membership, self.authority, wanted, self._told)
        await self.network.start()
        self.network.announce({self.block: 0})
        return self.network

    async def stop(self, *, leaving: bool = False) -> None:
        if self.network is not None:
            await self.network.stop(leaving=leaving)
            self.network = None
        self.authority.close()

    def _told(self, changed: set[IPNetwork]) -> None:
        self.routes_told += 1

    def routes(self) -> dict[str, str]:
        assert self.network is not None
        return {str(route.prefix): route.node for route in self.network.routes()}


@contextlib.asynccontextmanager
async def running(directory: Path, count: int, **options: object) -> AsyncIterator[list[PeerHost]]:
    """So many hosts that are peers."""
    hosts = [PeerHost(directory, 1)]
    hosts += [PeerHost(directory, number, hosts[0]) for number in range(2, count + 1)]
    try:
        for host in hosts:
            await host.start(**options)
        yield hosts
    finally:
        for host in hosts:
            await host.stop()


async def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0.01)


def everybody_knows_everybody(hosts: list[PeerHost]) -> bool:
    blocks = {str(host.block): host.name for host in hosts}
    return all(host.routes() == {block: name for block, name in blocks.items() if name != host.name} for host in hosts)
