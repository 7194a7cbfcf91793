"""A socket in the event loop: reads in batches, queues what the kernel does not take, wakes who waited."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from fairway.aio.driver import Driver
from fairway.aio.udp import UdpSocket
from fairway.aio.workers.relay import Relay
from fairway.quic import Transmit

BUFFERS_PER_TURN = 8
"""Buffers read before what they caused is sent: acknowledgements go once a turn."""


def _nothing(*_: object) -> None:
    """What a closed transport calls."""


class Transport:
    """Connects a UDP socket to what `on_buffer` and `on_turn` do with its datagrams."""

    __slots__ = ("_closed", "_loop", "_on_buffer", "_on_error", "_on_turn", "_queue", "_relay", "_waiting", "socket")

    def __init__(
        self,
        sock: UdpSocket,
        loop: asyncio.AbstractEventLoop,
        *,
        on_buffer: Callable[[bytes, int, Any, float, int], None],
        on_turn: Callable[[], None],
        on_error: Callable[[OSError], None],
    ) -> None:
        self.socket = sock
        self._loop = loop
        self._on_buffer = on_buffer
        self._on_turn = on_turn
        self._on_error = on_error
        self._queue: deque[tuple[bytes, int, Any, int]] = deque()
        self._waiting: dict[Driver, None] = {}
        self._closed = False
        self._relay: Relay | None = None

    def listen(self) -> None:
        """Take in what arrives from now on."""
        if not self._closed:
            self._loop.add_reader(self.socket.fileno(), self._readable)

    def _readable(self) -> None:
        receive, on_buffer = self.socket.receive, self._on_buffer
        now = self._loop.time()
        try:
            for _ in range(BUFFERS_PER_TURN):
                received = receive()
                if received is None:
                    break
                on_buffer(received[0], received[1], received[2], now, received[3])
        except OSError as error:
            self._on_error(error)
        self._on_turn()

    def hear(self, relay: Relay) -> None:
        """Take in also what other processes hand on."""
        self._relay = relay
        self._loop.add_reader(relay.fileno(), self._relayed)

    def _relayed(self) -> None:
        if self._relay is None:
            return
        now = self._loop.time()
        for _ in range(BUFFERS_PER_TURN):
            received = self._relay.receive()
            if received is None:
                break
            self._on_buffer(received[0], received[1], received[2], now, 0)
        if self._relay.ended:
            self._loop.remove_reader(self._relay.fileno())
        self._on_turn()

    def send(self, transmit: Transmit, driver: Driver) -> bool:
        """Send datagrams; False if the socket is full now: the driver is flushed when it is not."""
        if self._queue:
            self._queue.append((transmit.data, transmit.segment, transmit.address, transmit.mark))
            self._waiting[driver] = None
            return False
        return self._send(transmit.data, transmit.segment, transmit.address, transmit.mark, driver)

    def _send(self, data: bytes, segment: int, address: Any, mark: int, driver: Driver | None) -> bool:
        if self._closed:
            return True
        taken = self._try(data, segment, address, mark)
        if taken == len(data):
            return True
        if not self._queue:
            self._loop.add_writer(self.socket.fileno(), self._writable)
        self._queue.append((data[taken:], segment, address, mark))
        if driver is not None:
            self._waiting[driver] = None
        return False

    def _try(self, data: bytes, segment: int, address: Any, mark: int) -> int:
        try:
            return self.socket.send(data, segment, address, mark)
        except OSError as error:
            self._loop.call_soon(self._on_error, error)
            return len(data)

    def send_alone(self, data: bytes, address: Any) -> None:
        """Send a datagram of no connection; dropped if the socket is full."""
        if not self._queue and not self._closed:
            self._try(data, len(data), address, 0)

    def _writable(self) -> None:
        while self._queue:
            data, segment, address, mark = self._queue[0]
            taken = self._try(data, segment, address, mark)
            if taken < len(data):
                self._queue[0] = (data[taken:], segment, address, mark)
                return
            self._queue.popleft()
        self._loop.remove_writer(self.socket.fileno())
        waiting, self._waiting = self._waiting, {}
        for driver in waiting:
            driver.flush()

    def close(self) -> None:
        """Stop and close the socket."""
        if not self._closed:
            self._closed = True
            self._on_buffer = self._on_turn = self._on_error = _nothing  # they lead back to who holds this
            if self._relay is not None:
                self._loop.remove_reader(self._relay.fileno())
                self._relay.close()
                self._relay = None
            self._loop.remove_reader(self.socket.fileno())
            if self._queue:
                self._queue.clear()
                self._loop.remove_writer(self.socket.fileno())
            self.socket.close()
