"""A NAT in a test: a UDP relay on loopback that can forget its mapping, so that the server sees another port."""

from __future__ import annotations

import asyncio
import socket
from typing import Any


class Relay:
    """Passes datagrams between one client and a server; `rebind` exchanges the socket that the server sees."""

    def __init__(self, server: tuple[str, int], host: str = "127.0.0.1") -> None:
        self._server = server
        self._client: Any = None
        self._loop = asyncio.get_running_loop()
        self._inside = self._bound("127.0.0.1")
        self._outside = self._bound(host)
        self.open = True
        """False to lose everything."""
        self.passed = 0
        """Datagrams of the client that were passed on."""
        self.record: list[bytes] | None = None
        """Where to note them, if anywhere."""
        self._loop.add_reader(self._inside, self._from_client)
        self._loop.add_reader(self._outside, self._from_server)

    @staticmethod
    def _bound(host: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((host, 0))
        return sock

    @property
    def port(self) -> int:
        """Where the client finds the relay."""
        return int(self._inside.getsockname()[1])

    def rebind(self, host: str = "127.0.0.1") -> None:
        """Forget the mapping: what comes for the old one is lost."""
        self._loop.remove_reader(self._outside)
        self._outside.close()
        self._outside = self._bound(host)
        self._loop.add_reader(self._outside, self._from_server)

    def _from_client(self) -> None:
        for _ in range(64):
            try:
                data, self._client = self._inside.recvfrom(65535)
                if self.open:
                    self.passed += 1
                    if self.record is not None:
                        self.record.append(data)
                    self._outside.sendto(data, self._server)
            except OSError:
                return

    def _from_server(self) -> None:
        for _ in range(64):
            try:
                data = self._outside.recv(65535)
                if self.open and self._client is not None:
                    self._inside.sendto(data, self._client)
            except OSError:
                return

    def close(self) -> None:
        """Close both sockets."""
        for sock in (self._inside, self._outside):
            self._loop.remove_reader(sock)
            sock.close()
