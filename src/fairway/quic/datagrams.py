"""Unreliable datagrams of a connection (RFC 9221): those that wait to be sent, those that arrived, and their count."""

from __future__ import annotations

from collections import deque

from fairway.quic.limits import MAX_DATAGRAM_BYTES_KEPT, MAX_DATAGRAMS_KEPT


class DatagramQueue:
    """Datagrams in their order, bounded in number and bytes."""

    __slots__ = ("_bytes", "_items", "dropped")

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._bytes = 0
        self.dropped = 0
        """Datagrams that `push` took out again, since nobody had fetched them."""

    def __len__(self) -> int:
        return len(self._items)

    @property
    def first(self) -> bytes:
        """The oldest one."""
        return self._items[0]

    def offer(self, data: bytes) -> bool:
        """Add one at the end if there is room."""
        if len(self._items) >= MAX_DATAGRAMS_KEPT or self._bytes + len(data) > MAX_DATAGRAM_BYTES_KEPT:
            return False
        self._items.append(data)
        self._bytes += len(data)
        return True

    def push(self, data: bytes) -> None:
        """Add one at the end, and drop the oldest ones until it has room."""
        while not self.offer(data):
            self.pop()
            self.dropped += 1

    def pop(self) -> bytes:
        """Take the oldest one."""
        data = self._items.popleft()
        self._bytes -= len(data)
        return data

    def take_all(self) -> list[bytes]:
        """Take all of them, the oldest first."""
        items = list(self._items)
        self._items.clear()
        self._bytes = 0
        return items


class Datagrams:
    """Both directions' datagrams of one connection."""

    __slots__ = ("arrived", "lost", "received", "sent", "waiting")

    def __init__(self) -> None:
        self.waiting = DatagramQueue()
        """To be sent."""
        self.received = DatagramQueue()
        """To be fetched by the application."""
        self.sent = 0
        self.lost = 0
        """Sent, but in packets that were declared lost, or waiting when the path no longer carried them."""
        self.arrived = 0

    def receive(self, data: bytes) -> None:
        """One arrived."""
        self.arrived += 1
        self.received.push(data)

    def statistics(self) -> dict[str, int]:
        """What became of the datagrams so far."""
        return {
            "datagrams_sent": self.sent,
            "datagrams_lost": self.lost,
            "datagrams_received": self.arrived,
            "datagrams_dropped": self.received.dropped,
        }


NO_DATAGRAMS = Datagrams()
"""Of a connection that never had any."""
