"""The UDP socket: whole batches in and out (GRO, GSO), large buffers; one by one where the kernel lacks them."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import Any

SOL_UDP = 17
UDP_SEGMENT = 103  # linux/udp.h: GSO
UDP_GRO = 104
IP_MTU_DISCOVER = 10  # linux/in.h
IPV6_MTU_DISCOVER = 23  # linux/in6.h
PMTUDISC_PROBE = 3  # set don't-fragment, believe no ICMP
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33

SOCKET_BUFFER = 8 << 20
"""Bytes asked for in each direction: a burst must fit while Python is busy."""

MAX_DATAGRAM = 65535
_CONTROL_BYTES = socket.CMSG_SPACE(4) * 3
IP_RECVTOS = 13  # linux/in.h
IPV6_RECVTCLASS = 66  # linux/in6.h
IPV6_TCLASS = 67
_ECN_BITS = 3
_SEGMENT = struct.Struct("=H")
_INT = struct.Struct("=i")

_MARKS = tuple(_INT.pack(mark) for mark in range(4))

_TRY_LATER = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.ENODEV})
"""The kernel itself cannot send from here: ICMP from the network does not reach a socket without IP_RECVERR so."""

_NO_GSO = frozenset({errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT})


class UdpSocket:
    """A non-blocking UDP socket that moves buffers of equal datagrams."""

    __slots__ = ("_connected", "_gso_works", "_six", "_socket", "gro", "gso")

    def __init__(self, sock: socket.socket, *, gso: bool = True, gro: bool = True) -> None:
        self._socket = sock
        sock.setblocking(False)
        self.gso = self._gso_works = gso and sys.platform == "linux"
        self.gro = gro and sys.platform == "linux" and _set(sock, SOL_UDP, UDP_GRO, 1)
        self._connected = False
        self._six = sock.family == socket.AF_INET6
        _receive_marks(sock, self._six)
        _buffers(sock)
        _dont_fragment(sock, self._six)

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def connect(self, address: Any) -> None:
        """Talk to this address only."""
        self._socket.connect(address)
        self._connected = True

    @property
    def address(self) -> Any:
        """The local address."""
        return self._socket.getsockname()

    def receive(self) -> tuple[bytes, int, Any, int] | None:
        """A buffer of datagrams, the length of each (but the last), who sent them, and their ECN bits.

        None if there is nothing.

        `OSError` if the network reports that the peer is not there.
        """
        try:
            data, control, _, address = self._socket.recvmsg(MAX_DATAGRAM, _CONTROL_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        segment, mark = len(data), 0
        for level, kind, value in control:
            if level == SOL_UDP:
                if kind == UDP_GRO:
                    segment = _INT.unpack_from(value)[0]
            elif kind == socket.IP_TOS or kind == IPV6_TCLASS:
                mark = value[0] & _ECN_BITS
        return data, segment or 1, address, mark

    def send(self, data: bytes, segment: int, address: Any, mark: int = 0) -> int:
        """Send datagrams of `segment` bytes each; give how many bytes the kernel took, fewer if it is full.

        `mark` are the ECN bits of their IP headers.

        `ConnectionRefusedError` if the network reported that nobody is there, another `OSError` if there is no way.
        """
        size = len(data)
        target = None if self._connected else address
        if size > segment and self.gso:
            try:
                control: list[tuple[int, int, bytes]] = [(SOL_UDP, UDP_SEGMENT, _SEGMENT.pack(segment))]
                if mark:
                    control.append(self._mark_control(mark, address))
                if target is None:
                    self._socket.sendmsg([data], control)
                else:
                    self._socket.sendmsg([data], control, 0, target)
                return size
            except OSError as error:
                if error.errno in _TRY_LATER:
                    return 0
                if isinstance(error, ConnectionRefusedError) or error.errno in _NO_WAY:
                    raise
                if error.errno in _NO_GSO:
                    self.gso = False
                elif error.errno != errno.EMSGSIZE:  # which a forged ICMP message can cause once: try one by one
                    return size  # lost, as on the network
        for start in range(0, size, segment):
            if not self._send_one(data[start : start + segment], target, mark, address):
                return start
        return size

    def _mark_control(self, mark: int, address: Any) -> tuple[int, int, bytes]:
        """What tells the kernel the ECN bits: by the family of the packet, not of the socket."""
        mapped = self._six and address is not None and str(address[0]).startswith("::ffff:")
        six = self._six and not mapped
        return (
            (socket.IPPROTO_IPV6, IPV6_TCLASS, _MARKS[mark])
            if six
            else (socket.IPPROTO_IP, socket.IP_TOS, _MARKS[mark])
        )

    def _send_one(self, datagram: bytes, target: Any, mark: int, address: Any) -> bool:
        try:
            if mark:
                control = [self._mark_control(mark, address)]
                if target is None:
                    self._socket.sendmsg([datagram], control)
                else:
                    self._socket.sendmsg([datagram], control, 0, target)
            elif target is None:
                self._socket.send(datagram)
            else:
                self._socket.sendto(datagram, target)
        except OSError as error:
            if error.errno in _TRY_LATER:
                return False
            if error.errno == errno.EMSGSIZE:  # larger than the link: it was not for want of GSO that a buffer failed
                self.gso = self._gso_works
            elif isinstance(error, ConnectionRefusedError) or error.errno in _NO_WAY or error.errno == errno.EINVAL:
                raise  # EINVAL: the address that the socket sends from is gone
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _set(sock: socket.socket, level: int, option: int, value: int) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True


def _buffers(sock: socket.socket) -> None:
    for forced, plain in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        if not (sys.platform == "linux" and _set(sock, socket.SOL_SOCKET, forced, SOCKET_BUFFER)):
            _set(sock, socket.SOL_SOCKET, plain, SOCKET_BUFFER)


def _receive_marks(sock: socket.socket, six: bool) -> None:
    """RFC 9000 section 13.4.1: the ECN bits of what arrives are counted."""
    if sys.platform == "linux":
        _set(sock, socket.IPPROTO_IP, IP_RECVTOS, 1)
        if six:
            _set(sock, socket.IPPROTO_IPV6, IPV6_RECVTCLASS, 1)


def _dont_fragment(sock: socket.socket, six: bool) -> None:
    """RFC 9000 section 14: datagrams must not be fragmented."""
    if sys.platform != "linux":
        return
    if six:
        _set(sock, socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
    _set(sock, socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)


def bind(host: str | None, port: int) -> socket.socket:
    """A bound UDP socket; without a host, for IPv4 and IPv6 at once where the system has both."""
    if host is None or host in ("", "::"):
        try:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", port))
        except OSError:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("0.0.0.0", port))
        return sock
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
