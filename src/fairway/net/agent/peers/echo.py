"""What other hosts' kernels answer to ICMP echo (RFC 792, RFC 4443), whatever becomes of their agents.

A host is there if it answers. A router passes on what is for a host's pods if an echo to them, sent with a hop limit
that ends there, comes back as an error from that host.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import blake2b
from ipaddress import ip_address

from fairway.net.model.facts import IPAddress

_ECHO = struct.Struct("!BBHHH16s")  # type, code, checksum, identifier, sequence, whose it is
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}
_ERRORS = {4: (3, 11), 6: (1, 3)}  # destination unreachable, time exceeded
_IP_HEADER = {4: 20, 6: 40}
_ERROR_HEADER = 8
_TRIES = 3
_HOPS = range(2, 9)
"""Hop limits of a trace: that many hosts and routers away, the nearest behind one router."""
_HOPS_MAX = 64
_TRACED_MAX = 4_096
_READ_AT_ONCE = 64
_SENDERS_KNOWN = 1_024
_SOL_RAW = 255  # linux/socket.h
_FILTER = 1  # linux/icmp.h and linux/icmpv6.h: the types that a raw socket is not given


class Echo:
    """Echoes sent; `on_answer` is told of every answer. Without the right to raw sockets there are none."""

    def __init__(self, on_answer: Callable[[IPAddress], None]) -> None:
        self._on_answer = on_answer
        self._loop = asyncio.get_running_loop()
        self._secret = os.urandom(16)
        self._sockets: dict[int, socket.socket] = {}
        self._known = lru_cache(_SENDERS_KNOWN)(self._identify)
        self._traced: dict[IPAddress, set[IPAddress]] = {}
        self._closed = False

    def send(self, address: IPAddress) -> None:
        """Send one."""
        sock = self._socket(address.version)
        if sock is not None:
            host = str(address)
            with contextlib.suppress(OSError):  # no way there: no answer
                sock.sendto(self._known(host)[2], (host, 0))

    def ask(self, address: IPAddress, within_s: float) -> None:
        """Send a few within that time."""
        for number in range(_TRIES):
            self._loop.call_later(number * within_s / (_TRIES + 1), self.send, address)

    def trace(self, target: IPAddress, host: IPAddress) -> None:
        """Send echoes to `target` that end on their way; `came_by` says a little later whether `host` was on it."""
        if len(self._traced) >= _TRACED_MAX:
            self._traced.clear()
        self._traced[target] = set()
        sock = self._socket(target.version)
        if sock is None:
            return
        mark, destination = self._mark(target), str(target)
        for hops in _HOPS:
            with contextlib.suppress(OSError):
                _limit_hops(sock, target.version, hops)
                sock.sendto(_request(target.version, hops, mark), (destination, 0))
        _limit_hops(sock, target.version, _HOPS_MAX)

    def came_by(self, target: IPAddress, host: IPAddress) -> bool:
        """Whether an echo to `target` came to `host`."""
        return host in self._traced.get(target, ())

    def close(self) -> None:
        """Close the sockets."""
        self._closed = True
        for sock in self._sockets.values():
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _socket(self, version: int) -> socket.socket | None:
        if self._closed:
            return None
        if version not in self._sockets:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
            try:
                sock = socket.socket(family, socket.SOCK_RAW, protocol)
            except OSError:
                return None
            sock.setblocking(False)
            _hear_only(sock, version, (_REPLY[version], *_ERRORS[version]))
            _limit_hops(sock, version, _HOPS_MAX)
            self._sockets[version] = sock
            self._loop.add_reader(sock, self._readable, sock, version)
        return self._sockets[version]

    def _readable(self, sock: socket.socket, version: int) -> None:
        for _ in range(_READ_AT_ONCE):  # the host's ICMP is for every such socket, and may be a flood
            try:
                data, address = sock.recvfrom(1024)
            except OSError:
                return
            start = (data[0] & 0x0F) * 4 if version == 4 and data else 0  # a raw IPv4 socket gives the IP header too
            if len(data) > start:
                self._received(data[start:], version, str(address[0]).partition("%")[0])

    def _received(self, message: bytes, version: int, host: str) -> None:
        inner = _ERROR_HEADER + _IP_HEADER[version]
        if message[0] == _REPLY[version]:
            sender, mark, _ = self._known(host)
            if _mark_of(message) == mark:
                self._on_answer(sender)
        elif message[0] in _ERRORS[version] and len(message) > inner:
            sender = ip_address(host)
            packed = message[inner - sender.max_prefixlen // 8 : inner]  # the destination ends either IP header
            target = ip_address(packed)
            if target in self._traced and _mark_of(message[inner:]) == self._mark(target):
                self._traced[target].add(sender)

    def _identify(self, host: str) -> tuple[IPAddress, bytes, bytes]:
        """A host's address, what our echoes to it bear, and such an echo."""
        address = ip_address(host)
        mark = self._mark(address)
        return address, mark, _request(address.version, 0, mark)

    def _mark(self, address: IPAddress) -> bytes:
        """What our echoes to that address bear: who gets one cannot answer for another."""
        return blake2b(address.packed, key=self._secret, digest_size=16).digest()


def _mark_of(message: bytes) -> bytes | None:
    return _ECHO.unpack_from(message)[-1] if len(message) >= _ECHO.size else None


def _request(version: int, number: int, mark: bytes) -> bytes:
    """An echo request."""
    fields = (_REQUEST[version], 0, 0, os.getpid() & 0xFFFF, number, mark)
    echo = _ECHO.pack(*fields)
    if version == 4:  # for ICMPv6 the kernel does it
        echo = _ECHO.pack(*fields[:2], _checksum(echo), *fields[3:])
    return echo


def _hear_only(sock: socket.socket, version: int, types: Iterable[int]) -> None:
    """Of the host's ICMP only these types are for us: what others ask of it would wake us each time."""
    words = [0xFFFFFFFF] * (1 if version == 4 else 8)
    for kind in types:
        words[kind >> 5] &= ~(1 << (kind & 31))
    level = _SOL_RAW if version == 4 else socket.IPPROTO_ICMPV6
    with contextlib.suppress(OSError):  # a kernel that has no such filter gives us more than we need
        sock.setsockopt(level, _FILTER, struct.pack(f"={len(words)}I", *words))


def _limit_hops(sock: socket.socket, version: int, hops: int) -> None:
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)


def _checksum(data: bytes) -> int:
    words: tuple[int, ...] = struct.unpack(f"!{len(data) // 2}H", data)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
