"""How many TCP connections a process takes, in all and of one address: looked at when they are accepted."""

from __future__ import annotations

import socket
from typing import Any

from fairway.quic.endpoint.admission import AdmissionLimits, place_of


class Gate:
    """Counts the connections that its listening sockets have accepted and that are not closed."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._count = 0
        self._of: dict[bytes | str, int] = {}

    def guard(self, sock: socket.socket) -> socket.socket:
        """In the place of a listening socket, which is taken over: one that closes who comes past a limit."""
        return _Listener(self, sock)

    def enters(self, place: bytes | str) -> bool:
        """Whether one more from there may come in; then it counts until it `leaves`."""
        of_it = self._of.get(place, 0)
        if self._count >= self._limits.connections or of_it >= self._limits.connections_per_address:
            return False
        self._count += 1
        self._of[place] = of_it + 1
        return True

    def leaves(self, place: bytes | str) -> None:
        """One from there is closed."""
        self._count -= 1
        self._of[place] -= 1
        if not self._of[place]:
            del self._of[place]


class _Listener(socket.socket):
    """As an event loop sees it, whoever is refused has gone before it was accepted."""

    def __init__(self, gate: Gate, sock: socket.socket) -> None:
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        self._gate = gate

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = super().accept()
        place = place_of(address)
        if not self._gate.enters(place):
            connection.close()
            raise ConnectionAbortedError("there are too many connections")
        return _Accepted(self._gate, place, connection), address


class _Accepted(socket.socket):
    """A connection that counts until it is closed."""

    def __init__(self, gate: Gate, place: bytes | str, sock: socket.socket) -> None:
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        self._gate: Gate | None = gate
        self._place = place

    def close(self) -> None:
        super().close()
        if self._gate is not None:
            self._gate.leaves(self._place)
            self._gate = None
