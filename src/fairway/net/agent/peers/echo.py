"""Whether a host is there whose agent says nothing: its kernel answers ICMP echo (RFC 792, RFC 4443) all the same."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable

from fairway.net.model.facts import IPAddress

_ECHO = struct.Struct("!BBHHH16s")  # type, code, checksum, identifier, sequence, whose it is
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}
_TRIES = 3


class Echo:
    """Echoes sent and answered; `on_answer` is told who answers. Without the right to raw sockets nobody does."""

    def __init__(self, on_answer: Callable[[IPAddress], None]) -> None:
        self._on_answer = on_answer
        self._loop = asyncio.get_running_loop()
        self._secret = os.urandom(16)
        self._sockets: dict[int, socket.socket] = {}
        self._asked: dict[IPAddress, int] = {}

    def ask(self, address: IPAddress, within_s: float) -> None:
        """Send a few echoes within that time."""
        self._asked[address] = self._asked.get(address, 0) + 1
        for number in range(_TRIES):
            self._loop.call_later(number * within_s / (_TRIES + 1), self._send, address, number)
        self._loop.call_later(within_s, self._forget, address)

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._sockets.values():
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()
        self._asked.clear()

    def _forget(self, address: IPAddress) -> None:
        left = self._asked.get(address, 0) - 1
        if left > 0:
            self._asked[address] = left
        else:
            self._asked.pop(address, None)

    def _send(self, address: IPAddress, number: int) -> None:
        if address not in self._asked:
            return
        sock = self._socket(address.version)
        if sock is not None:
            fields = (_REQUEST[address.version], 0, 0, os.getpid() & 0xFFFF, number, self._secret)
            echo = _ECHO.pack(*fields)
            if address.version == 4:  # for ICMPv6 the kernel does it
                echo = _ECHO.pack(*fields[:2], _checksum(echo), *fields[3:])
            try:
                sock.sendto(echo, (str(address), 0))
            except OSError:
                return  # no way there: no answer

    def _socket(self, version: int) -> socket.socket | None:
        if version not in self._sockets:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
            try:
                sock = socket.socket(family, socket.SOCK_RAW, protocol)
            except OSError:
                return None
            sock.setblocking(False)
            self._sockets[version] = sock
            self._loop.add_reader(sock, self._readable, sock, version)
        return self._sockets[version]

    def _readable(self, sock: socket.socket, version: int) -> None:
        while True:
            try:
                data, address = sock.recvfrom(512)
            except OSError:
                return
            start = (data[0] & 0x0F) * 4 if version == 4 and data else 0  # a raw IPv4 socket gives the IP header too
            if len(data) < start + _ECHO.size:
                continue
            kind, _, _, _, _, secret = _ECHO.unpack_from(data, start)
            if kind == _REPLY[version] and secret == self._secret:
                for asked in [asked for asked in self._asked if str(asked) == address[0].partition("%")[0]]:
                    del self._asked[asked]
                    self._on_answer(asked)


def _checksum(data: bytes) -> int:
    words: tuple[int, ...] = struct.unpack(f"!{len(data) // 2}H", data)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
