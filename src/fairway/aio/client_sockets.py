"""The sockets of one client connection: the first, and one more for each path that it tries."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from fairway.aio.driver import Driver
from fairway.aio.transport import Transport
from fairway.aio.udp import UdpSocket
from fairway.quic import Transmit


class ClientSockets:
    """Sockets by the names that the connection's core knows them by: None for the first, then numbers."""

    __slots__ = ("_count", "_driver", "_loop", "_on_error", "_transports")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, driver: Driver, on_error: Callable[[OSError, int | None], None]
    ) -> None:
        self._loop = loop
        self._driver = driver
        self._on_error = on_error
        self._transports: dict[Any, Transport] = {}
        self._count = 0

    def add(self, udp: UdpSocket, local: int | None) -> None:
        """Take in a connected socket; what arrives, once `listen` was called, is for the connection."""
        driver, on_error = self._driver, self._on_error

        def on_buffer(data: bytes, segment: int, address: Any, now: float, mark: int) -> None:
            driver.receive(data, segment, now, local, mark)

        self._transports[local] = Transport(
            udp,
            self._loop,
            on_buffer=on_buffer,
            on_turn=driver.process,
            on_error=lambda error: on_error(error, local),
        )

    def listen(self, local: int | None) -> None:
        """Begin to read from a socket."""
        self._transports[local].listen()

    def open(self, local_address: tuple[str, int] | None, peer: Any) -> int:
        """A new socket to `peer`, from this host and port or from where the route leads; gives its name.

        Raises `OSError` where there is no such address, or no route.
        """
        sock = connected(local_address, peer)
        self._count += 1
        self.add(UdpSocket(sock), self._count)
        self.listen(self._count)
        return self._count

    def send(self, transmit: Transmit, driver: Driver) -> bool:
        """Send datagrams from the socket that they are meant for; if it is closed they are lost."""
        transport = self._transports.get(transmit.local)
        return True if transport is None else transport.send(transmit, driver)

    def address(self, local: Any) -> Any:
        """The local address of a socket; None if it is closed."""
        transport = self._transports.get(local)
        return None if transport is None else transport.socket.address

    def close(self, local: Any) -> None:
        """Close one socket."""
        transport = self._transports.pop(local, None)
        if transport is not None:
            transport.close()

    def close_all(self) -> None:
        """Close every socket, for good."""
        self._on_error = _nobody  # it leads back to who holds this
        for local in list(self._transports):
            self.close(local)


def _nobody(error: OSError, local: int | None) -> None:
    """Whom the errors of closed sockets interest."""


def connected(local_address: tuple[str, int] | None, peer: Any) -> socket.socket:
    """A UDP socket that talks to `peer` only."""
    family = socket.AF_INET6 if ":" in str(peer[0]) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if local_address is not None:
            sock.bind(local_address)
        sock.connect(peer)
    except OSError:
        sock.close()
        raise
    return sock
