"""Single packets of the two ends: whole checksums; addresses and ports can be exchanged, bytes hurt."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from fairway.lab.faults.frames import VNET, VNET_HEADER, super_frame

_ETHERNET = 14
_NEEDS_CSUM = 1
_IPV4, _IPV6 = 0x0800, 0x86DD
UDP = 17


def singles(frame: bytes) -> Iterator[bytes]:
    """The Ethernet frames that a frame of an AF_PACKET socket stands for, their checksums filled in."""
    whole = super_frame(frame)
    parts = [frame] if whole is None else [whole.cut(at, at + 1) for at in range(whole.count)]
    for part in parts:
        flags, _, _, _, start, offset = VNET_HEADER.unpack_from(part)
        packet = bytearray(part[VNET:])
        if flags & _NEEDS_CSUM:
            struct.pack_into("!H", packet, start + offset, checksum(packet[start:]) or 0xFFFF)
        yield bytes(packet)


@dataclass(slots=True)
class Packet:
    """An Ethernet frame with IP and UDP or TCP in it; offsets count from the frame's beginning."""

    frame: bytearray
    version: int
    protocol: int
    transport: int

    @classmethod
    def parse(cls, frame: bytes) -> Self | None:
        """None for what is not of the two ends' conversation: ARP, neighbour discovery."""
        kind = int.from_bytes(frame[12:14], "big")
        if kind == _IPV4:
            return cls(bytearray(frame), 4, frame[23], _ETHERNET + (frame[14] & 15) * 4)
        if kind == _IPV6 and frame[20] in (6, UDP):
            return cls(bytearray(frame), 6, frame[20], _ETHERNET + 40)
        return None

    @property
    def source(self) -> tuple[bytes, int]:
        """Address and port."""
        at, size = (26, 4) if self.version == 4 else (22, 16)
        return bytes(self.frame[at : at + size]), int.from_bytes(self.frame[self.transport : self.transport + 2], "big")

    @source.setter
    def source(self, value: tuple[bytes, int]) -> None:
        self._exchange(26 if self.version == 4 else 22, self.transport, value)

    @property
    def destination(self) -> tuple[bytes, int]:
        """Address and port."""
        at, size = (30, 4) if self.version == 4 else (38, 16)
        port = int.from_bytes(self.frame[self.transport + 2 : self.transport + 4], "big")
        return bytes(self.frame[at : at + size]), port

    @destination.setter
    def destination(self, value: tuple[bytes, int]) -> None:
        self._exchange(30 if self.version == 4 else 38, self.transport + 2, value)

    def _exchange(self, address_at: int, port_at: int, value: tuple[bytes, int]) -> None:
        self.frame[address_at : address_at + len(value[0])] = value[0]
        self.frame[port_at : port_at + 2] = value[1].to_bytes(2, "big")
        self._sum()

    def hurt(self, at: int) -> None:
        """Change a byte of the UDP payload, and let the checksum agree: it is for QUIC to notice."""
        first = self.transport + 8
        self.frame[first + at % (len(self.frame) - first)] ^= 0xFF
        self._sum()

    def _sum(self) -> None:
        frame, at = self.frame, self.transport
        if self.version == 4:
            struct.pack_into("!H", frame, 24, 0)
            struct.pack_into("!H", frame, 24, checksum(frame[_ETHERNET:at]))
        if self.protocol != UDP:
            return
        (length,) = struct.unpack_from("!H", frame, at + 4)
        addresses = frame[26:34] if self.version == 4 else frame[22:54]
        struct.pack_into("!H", frame, at + 6, 0)
        covered = bytes(addresses) + struct.pack("!HH", UDP, length) + bytes(frame[at : at + length])
        struct.pack_into("!H", frame, at + 6, checksum(covered) or 0xFFFF)


def checksum(data: bytes | bytearray) -> int:
    """RFC 1071."""
    padded = bytes(data) + b"\0" * (len(data) & 1)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
