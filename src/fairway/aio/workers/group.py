"""The UDP sockets of one port, one for each worker that there is or was: a reuseport group, steered by `steering`.

A socket's index in the group is its worker's number, and the number is in its connection IDs. A socket that closes
would give its index to the last one; so the process that made the group keeps all of them open, and the workers inherit
theirs. A later generation of workers gets other sockets: those before keep theirs, and their connections, to the end.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fairway.aio.workers.relay import Relay
from fairway.aio.workers.shared import Shared
from fairway.aio.workers.steering import attach, program
from fairway.quic.endpoint.ids import ANY_WORKER, Ids, ServerId
from fairway.quic.packets.headers import Buffer

_LEAST = 2
"""Sockets that make a group of one that was bound alone."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What belongs to a worker number."""

    udp: socket.socket
    inbox: socket.socket
    """What other workers hand on is read here."""
    letterbox: socket.socket
    """Its other end."""

    def close(self) -> None:
        """Close all three."""
        for sock in (self.udp, self.inbox, self.letterbox):
            sock.close()


class Group:
    """Made of one bound UDP socket, which it takes over. `server` is who the host is to a balancer."""

    def __init__(self, first: socket.socket, server: ServerId | None = None) -> None:
        self._server = server or ServerId()
        self._first: socket.socket | None = first
        self._address: Any = first.getsockname()
        self._family = first.family
        self._slots: list[Slot] = []
        self._given = 0
        """How many of them belong to a number that was given out."""
        # Only now: whoever else had bound the port this way would have made `first` fail, not join its group.
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    @property
    def address(self) -> Any:
        """What the sockets are bound to."""
        return self._address

    def grow(self, count: int) -> list[int]:
        """Bind so many more sockets; give their numbers."""
        numbers = list(range(self._given, self._given + count))
        if self._given + count > ANY_WORKER:
            raise OSError(errno.ENFILE, "there are too many workers that end what was begun")
        while len(self._slots) < max(self._given + count, _LEAST):
            with contextlib.ExitStack() as stack:
                udp = stack.enter_context(self._first or self._another())
                inbox, letterbox = Relay.pair()
                self._first = None
                stack.pop_all()
                self._slots.append(Slot(udp, inbox, letterbox))
        self._given += count
        return numbers

    def _another(self) -> socket.socket:
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self._family == socket.AF_INET6:
                only = self._slots[0].udp.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            sock.bind(self._address)
        except OSError:
            sock.close()
            raise
        return sock

    def steer(self, newcomers: Sequence[int], running: Iterable[int]) -> None:
        """From the next datagram on: these workers take newcomers, and those keep their connections."""
        attach(self._slots[0].udp, program(self._server, newcomers, running))

    def take(self, number: int, shared: Shared) -> Place:
        """In a worker's process: what it needs; the others' sockets are closed here, which does not end them."""
        for other, slot in enumerate(self._slots):
            if other != number:
                slot.udp.close()
                slot.inbox.close()
        slot = self._slots[number]
        return Place(number, slot.udp, Ids(self._server, number), shared, slot.inbox, self._letterboxes(number))

    def _letterboxes(self, number: int) -> dict[int, Relay]:
        return {other: Relay(slot.letterbox) for other, slot in enumerate(self._slots) if other != number}

    def close(self) -> None:
        """Close all sockets."""
        if self._first is not None:
            self._first.close()
        for slot in self._slots:
            slot.close()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one worker of several stands: its socket, its connection IDs, and how it reaches the others."""

    number: int
    udp: socket.socket
    ids: Ids
    shared: Shared
    inbox: socket.socket
    letterboxes: dict[int, Relay]

    def elsewhere(self, worker: int, buffer: Buffer, segment: int, address: Any) -> bool:
        """Hand datagrams on to the worker that they are for; False if it does not run."""
        if not self.shared.runs(worker):
            return False
        relay = self.letterboxes.get(worker)
        if relay is not None:  # one that came after us cannot be reached from here: as if lost on the way
            relay.send(buffer, segment, address)
        return True
