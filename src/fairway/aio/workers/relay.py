"""Datagrams from one process to another that shares a UDP port with it, through a pair of Unix sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from typing import Any

_HEAD = struct.Struct("!IH")  # length of a datagram; length of the address
MAX_MESSAGE = 65536 + 512
BUFFER = 4 << 20


class Relay:
    """One end. What does not fit is dropped, as on the network."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.ended = False
        """True once the other end is closed."""
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """Two ends to make relays of, in one process or two."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def send(self, data: bytes | bytearray | memoryview, segment: int, address: Any) -> None:
        """Hand on datagrams of `segment` bytes each that came from `address`."""
        if self.ended:
            return
        sender = json.dumps(address).encode("ascii")
        try:
            self._socket.sendmsg([_HEAD.pack(segment, len(sender)), sender, data])
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.ended = True

    def receive(self) -> tuple[bytes, int, Any] | None:
        """What was handed on; None if there is nothing now (or, `ended`, any more)."""
        try:
            message = self._socket.recv(MAX_MESSAGE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            message = b""
        if len(message) < _HEAD.size:
            self.ended = True
            return None
        segment, length = _HEAD.unpack_from(message)
        at = _HEAD.size + length
        return message[at:], segment, tuple(json.loads(message[_HEAD.size : at]))

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
