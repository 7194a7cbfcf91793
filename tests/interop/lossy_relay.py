"""A UDP relay on loopback that loses datagrams: a bad path between real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from typing import Any

_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_QUEUE = 8 << 20
"""Bytes that may wait for a side to be read. A whole window that comes at once has to fit: else the path loses some."""


class LossyRelay:
    """Relays between one client and a server, dropping each datagram with probability `loss`."""

    def __init__(self, target: tuple[str, int], loss: float, seed: int = 1) -> None:
        self._target = target
        self._loss = loss
        self._rng = random.Random(seed)
        self.dropped = 0
        self._client: Any = None
        self.port = 0

    async def __aenter__(self) -> LossyRelay:
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(
            lambda: _Side(self._from_client), local_addr=("127.0.0.1", 0)
        )
        await self._reach_back()
        self.port = self._front.get_extra_info("sockname")[1]
        return self

    async def rebind(self) -> None:
        """Show the server another port from now on, as a NAT that forgot does; what comes to the old one is lost."""
        old = self._back
        await self._reach_back()
        old.close()

    async def _reach_back(self) -> None:
        loop = asyncio.get_running_loop()
        self._back, _ = await loop.create_datagram_endpoint(lambda: _Side(self._from_server), remote_addr=self._target)

    async def __aexit__(self, *error: object) -> None:
        self._front.close()
        self._back.close()

    def _from_client(self, data: bytes, address: Any) -> None:
        self._client = address
        if self._passes():
            self._back.sendto(data)

    def _from_server(self, data: bytes, address: Any) -> None:
        if self._client is not None and self._passes():
            self._front.sendto(data, self._client)

    def _passes(self) -> bool:
        if self._rng.random() < self._loss:
            self.dropped += 1
            return False
        return True


class _Side(asyncio.DatagramProtocol):
    def __init__(self, received: Any) -> None:
        self._received = received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        with contextlib.suppress(OSError):  # only root may have so much
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._received(data, addr)
