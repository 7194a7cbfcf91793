"""A route-netlink socket: whole batches of requests in one call, an answer to each, and dumps that are complete.

pyroute2 knows the format of every message; its own sockets run an event loop each and fork to enter a namespace, so the
socket is ours.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Sequence

from fairway.net.kernel import ports
from fairway.net.model.errors import KernelError

_NETLINK_ROUTE = 0
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10  # an answer need not repeat the request
_NETLINK_EXT_ACK = 11  # an error may come with words
_NETLINK_GET_STRICT_CHK = 12  # a dump's header filters in the kernel
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_MULTI = 2
_NLM_F_DUMP_INTR = 16
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_SIOCGIFNAME = 0x8910
_SIOCGIFINDEX = 0x8933
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port: struct nlmsghdr
_BATCH = 64  # requests a call; their answers must fit into the receive buffer
_BUFFER = 1 << 20
_DUMP_TRIES = 8


class Netlink:
    """A socket in the namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            with contextlib.suppress(OSError):  # older kernels: the answers are longer, the dumps unfiltered
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        self.port = ports.note(self._socket)
        self._sequence = 0

    def close(self) -> None:
        """End the socket."""
        ports.forget(self.port)
        self._socket.close()

    def index(self, name: str) -> int:
        """The index of the interface `name`; 0 if there is none."""
        request = struct.pack("=16si20x", name.encode()[:15], 0)
        try:
            answer = fcntl.ioctl(self._socket, _SIOCGIFINDEX, request)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return 0
            raise
        return int(struct.unpack_from("=i", answer, 16)[0])

    def name(self, index: int) -> str:
        """The name of the interface with that index; empty if there is none."""
        request = struct.pack("=16si20x", b"", index)
        try:
            answer = fcntl.ioctl(self._socket, _SIOCGIFNAME, request)
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ENXIO):
                return ""
            raise
        return answer[:16].split(b"\0")[0].decode()

    def batch(self, requests: Sequence[bytes]) -> list[KernelError | None]:
        """Send `requests`, as few calls as fit; for each, None or what the kernel said. One failing stops no other."""
        answers: list[KernelError | None] = []
        for start in range(0, len(requests), _BATCH):
            answers += self._exchange(requests[start : start + _BATCH])
        return answers

    def dump(self, request: bytes) -> list[bytes]:
        """Every message that answers a dump `request`; begun anew when something changed while it ran."""
        for _ in range(_DUMP_TRIES):
            messages, interrupted = self._dump(request)
            if not interrupted:
                return messages
        raise KernelError("the kernel's tables changed during every try to read them", errno.EINTR, mend="try again")

    def get(self, request: bytes) -> bytes | None:
        """The one message that answers `request`; None if there is no such thing."""
        self._send(self._numbered(request))
        for kind, _, sequence, message in self._receive():
            if sequence != self._sequence:
                continue
            if kind != _NLMSG_ERROR:
                return message
            error = _error_of(message)
            if error is None or error.errno in (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.ENETUNREACH):
                return None
            raise error
        return None

    def _exchange(self, requests: Sequence[bytes]) -> list[KernelError | None]:
        first = self._sequence + 1
        self._send(b"".join([self._numbered(request) for request in requests]))
        answers: list[KernelError | None] = [None] * len(requests)
        missing = len(requests)
        while missing:
            for kind, _, sequence, message in self._receive():
                if kind == _NLMSG_ERROR and 0 <= sequence - first < len(requests):
                    answers[sequence - first] = _error_of(message)
                    missing -= 1
        return answers

    def _dump(self, request: bytes) -> tuple[list[bytes], bool]:
        self._send(self._numbered(request))
        messages: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, sequence, message in self._receive():
                if sequence != self._sequence:
                    continue
                interrupted |= bool(flags & _NLM_F_DUMP_INTR)
                if kind == _NLMSG_DONE:
                    return messages, interrupted
                if kind == _NLMSG_ERROR:
                    error = _error_of(message)
                    if error is not None:
                        raise error
                    return messages, interrupted
                messages.append(message)

    def _numbered(self, request: bytes) -> bytes:
        self._sequence += 1
        return request[:8] + struct.pack("=II", self._sequence, 0) + request[16:] + b"\0" * (-len(request) % 4)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            raise KernelError(f"netlink: {error.strerror}", error.errno or 0) from None

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = self._socket.recv(_BUFFER)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            yield kind, flags, sequence, data[offset : offset + length]
            offset += (length + 3) & ~3


def _error_of(message: bytes) -> KernelError | None:
    """What an NLMSG_ERROR says: None for success; the kernel's own words where it gave any."""
    number = -int(struct.unpack_from("=i", message, _HEADER.size)[0])
    if number == 0:
        return None
    words = _words_of(message) or os.strerror(number)
    mend = "run it as root (CAP_NET_ADMIN)" if number == errno.EPERM else ""
    return KernelError(words, number, mend=mend)


def _words_of(message: bytes) -> str:
    _, _, flags, _, _ = _HEADER.unpack_from(message, 0)
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    (inner,) = struct.unpack_from("=I", message, _HEADER.size + 4)
    offset = _HEADER.size + 4 + (_HEADER.size if flags & _NLM_F_CAPPED else (inner + 3) & ~3)
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, offset)
        if length < 4:
            break
        if kind == _NLMSGERR_ATTR_MSG:
            return message[offset + 4 : offset + length].split(b"\0")[0].decode(errors="replace")
        offset += (length + 3) & ~3
    return ""
