"""A port of the relay: an AF_PACKET socket on one interface of the namespace that the process is in."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

from fairway.lab.faults.frames import with_vlan_tag

# linux/if_packet.h, asm-generic/socket.h
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_SO_RCVBUFFORCE = 33
_ETH_P_ALL = 3
_TP_STATUS_VLAN_VALID = 0x10
_TP_STATUS_VLAN_TPID_VALID = 0x40
_AUXDATA = struct.Struct("=IIIHHHH")  # status, len, snaplen, mac, net, vlan_tci, vlan_tpid
_ANCILLARY = socket.CMSG_SPACE(_AUXDATA.size)
_VLAN_TPID = 0x8100

_RECEIVE_BUFFER = 8 << 20  # asked of the kernel, which without root gives what net.core.rmem_max allows
_LARGEST_FRAME = 128 << 10
_ABSENT = (errno.ENETDOWN, errno.ENXIO, errno.ENODEV)

_buffer = bytearray(_LARGEST_FRAME)  # one for all ports: a frame is copied out of it at once
_view = memoryview(_buffer)


class Port:
    """`name` while an interface of that name is there. One that is down, gone, or made again is no error."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.doubtful = False  # the socket said that the interface is down, or gone
        self._index = 0
        self._socket: socket.socket | None = None

    @property
    def socket(self) -> socket.socket | None:
        """What to wait on; None while there is no such interface."""
        return self._socket

    def look(self) -> bool:
        """Find the interface, by its name, and open it if it is another than before; False if there is none."""
        try:
            index = socket.if_nametoindex(self.name)
        except OSError:
            self.close()
            return False
        if index != self._index:
            self.close()
            try:
                self._socket = _open(self.name)
            except OSError as error:
                if error.errno in _ABSENT:
                    return False
                raise
            self._index = index
            self.doubtful = False
        return True

    def receive(self) -> bytes | None:
        """The next frame, None if there is none now. See `frames` for its form."""
        while self._socket is not None:
            try:
                length, ancillary, flags, _ = self._socket.recvmsg_into([_buffer], _ANCILLARY)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in _ABSENT:
                    self.doubtful = True
                    return None
                continue  # EINVAL: a super-frame of a kind that the header has no word for; the kernel dropped it
            if flags & socket.MSG_TRUNC:
                continue
            self.doubtful = False
            frame = bytes(_view[:length])
            for _, kind, data in ancillary:
                if kind == _PACKET_AUXDATA:
                    status, _, _, _, _, tci, tpid = _AUXDATA.unpack_from(data)
                    if status & _TP_STATUS_VLAN_VALID:
                        known = status & _TP_STATUS_VLAN_TPID_VALID
                        frame = with_vlan_tag(frame, tpid if known else _VLAN_TPID, tci)
            return frame
        return None

    def send(self, frame: bytes) -> None:
        """Send it, or lose it where the interface cannot take it: down, gone, full, or of a smaller MTU."""
        if self._socket is None:
            return
        try:
            self._socket.send(frame)
        except OSError as error:
            if error.errno in _ABSENT:
                self.doubtful = True

    def close(self) -> None:
        """Leave the interface."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._index = 0


def _open(name: str) -> socket.socket:
    _silence(name)
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    try:
        opened.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        opened.bind((name, _ETH_P_ALL))
    except BaseException:
        opened.close()
        raise
    return opened


def _silence(name: str) -> None:
    """Keep the kernel's IPv6 from speaking on the port: its own address and its multicast reports are no member's."""
    with contextlib.suppress(OSError), open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
        file.write("1")
