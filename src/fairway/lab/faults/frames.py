"""Frames as an AF_PACKET socket with PACKET_VNET_HDR gives and takes them, and super-frames cut into their segments.

A frame here is `bytes`: a `struct virtio_net_hdr` (linux/virtio_net.h), then the Ethernet frame. That header says which
checksum is still to be filled in, and that a frame of up to 64 KiB stands for many segments of `gso_size` bytes of
payload, as sent by TCP, by UDP with UDP_SEGMENT, or merged by GRO. A run of segments cut out of a super-frame is again
a super-frame: headers copied, lengths, sequence number, IP identification and pending checksum adjusted.

A tunnel's super-frame (VXLAN, Geneve, IP in IP) is described by that header as if it were its inner packet, and the
kernel refuses it when it is sent back like that: it can only be sent on as single segments.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

VNET_HEADER = struct.Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
VNET = VNET_HEADER.size

_NEEDS_CSUM = 1
_GSO_TCPV4, _GSO_TCPV6, _GSO_UDP_L4 = 1, 4, 5
_GSO_ECN = 0x80
_VLAN_TYPES = (b"\x81\x00", b"\x88\xa8")
_TCP, _UDP = 6, 17
_FIN_PSH, _CWR = 0x09, 0x80
_LARGEST = 0xFFFF  # what an IP header's length says


@dataclass(frozen=True, slots=True)
class SuperFrame:
    """Many segments in one frame. Offsets count from the Ethernet header."""

    frame: bytes
    header: int  # bytes of all headers, which every segment repeats
    size: int  # payload bytes of a segment; the last one's may be fewer
    count: int
    transport: int  # where the TCP or UDP header begins
    tcp: bool
    networks: tuple[int, ...]  # where IP headers begin: the packet's; in a tunnel, also the inner packet's
    carrier: int  # where a tunnel's own UDP header begins; 0: none

    @property
    def tunnelled(self) -> bool:
        """Whether its segments can only be sent on one by one."""
        return len(self.networks) > 1

    @property
    def longest_run(self) -> int:
        """How many of its segments one frame may hold."""
        return 1 if self.tunnelled else max(1, (_LARGEST - self.header) // self.size)

    @property
    def segment(self) -> int:
        """Bytes on the wire of a full segment."""
        return self.header + self.size

    def length(self, first: int, last: int) -> int:
        """Bytes on the wire of the segments from `first` up to but without `last`."""
        payload = min(last * self.size, len(self.frame) - VNET - self.header) - first * self.size
        return (last - first) * self.header + payload

    def cut(self, first: int, last: int) -> bytes:
        """A frame of the segments from `first` up to but without `last`; of a tunnel's, only one at a time."""
        start = VNET + self.header
        payload = self.frame[start + first * self.size : start + last * self.size]
        frame = bytearray(self.frame[:start])
        self._describe(frame, last - first)
        _adjust_transport(frame, self, first, last, len(payload))
        for offset in reversed(self.networks):
            _adjust_network(frame, VNET + offset, start + len(payload), first)
        if self.carrier:
            _adjust_carrier(frame, self, len(payload))
        return bytes(frame) + payload

    def _describe(self, frame: bytearray, segments: int) -> None:
        flags, kind, _, size, csum_start, csum_offset = VNET_HEADER.unpack_from(frame)
        if segments == 1:
            kind, size = 0, 0
        VNET_HEADER.pack_into(frame, 0, flags, kind, self.header, size, csum_start, csum_offset)


def super_frame(frame: bytes) -> SuperFrame | None:
    """`frame` as a super-frame; None if it is a plain frame, or one that no run can be cut out of."""
    flags, kind, _, size, transport, _ = VNET_HEADER.unpack_from(frame)
    if not kind or not size or not flags & _NEEDS_CSUM:
        return None
    kind &= ~_GSO_ECN
    tcp = kind in (_GSO_TCPV4, _GSO_TCPV6)
    if not tcp and kind != _GSO_UDP_L4:
        return None
    network = 14
    while frame[VNET + network - 2 : VNET + network] in _VLAN_TYPES:
        network += 4
    if len(frame) < VNET + max(network, transport) + 20:
        return None
    protocol, above = _network_header(frame, VNET + network)
    header = transport + (max(20, (frame[VNET + transport + 12] >> 4) * 4) if tcp else 8)
    count = -(-(len(frame) - VNET - header) // size)
    if count < 1 or header > _LARGEST:
        return None
    if above - VNET == transport and protocol == (_TCP if tcp else _UDP):
        return SuperFrame(frame, header, size, count, transport, tcp, (network,), 0)
    inner = _inner_network(frame, transport)
    if not inner:
        return None
    carrier = above - VNET if protocol == _UDP else 0
    return SuperFrame(frame, header, size, count, transport, tcp, (network, inner), carrier)


def with_vlan_tag(frame: bytes, tpid: int, tci: int) -> bytes:
    """`frame` with the tag that the kernel took out of it put back."""
    flags, kind, header, size, csum_start, csum_offset = VNET_HEADER.unpack_from(frame)
    if flags & _NEEDS_CSUM:
        csum_start = min(csum_start + 4, 0xFFFF)
    if header:
        header = min(header + 4, 0xFFFF)
    described = VNET_HEADER.pack(flags, kind, header, size, csum_start, csum_offset)
    return described + frame[VNET : VNET + 12] + struct.pack("!HH", tpid, tci) + frame[VNET + 12 :]


def _network_header(frame: bytes, at: int) -> tuple[int, int]:
    """The protocol above the IP header at `at`, and where it begins; (0, 0) if that is no IP header."""
    version = frame[at] >> 4
    if version == 4:
        return frame[at + 9], at + (frame[at] & 15) * 4
    if version == 6:
        return frame[at + 6], at + 40
    return 0, 0


def _inner_network(frame: bytes, transport: int) -> int:
    """Where the IP header that ends at `transport` begins; 0 if none does."""
    for length, first in ((20, 0x45), (40, 0x60)):
        at = transport - length
        if at > 14 and frame[VNET + at] & (0xFF if length == 20 else 0xF0) == first:
            protocol, above = _network_header(frame, VNET + at)
            if above == VNET + transport and protocol in (_TCP, _UDP):
                return at
    return 0


def _adjust_transport(frame: bytearray, whole: SuperFrame, first: int, last: int, payload: int) -> None:
    at = VNET + whole.transport
    checksum = at + (16 if whole.tcp else 6)
    before = len(whole.frame) - at
    after = whole.header - whole.transport + payload
    if whole.tcp:
        (sequence,) = struct.unpack_from("!I", frame, at + 4)
        struct.pack_into("!I", frame, at + 4, (sequence + first * whole.size) & 0xFFFFFFFF)
        if last < whole.count:
            frame[at + 13] &= ~_FIN_PSH & 0xFF
        if first:
            frame[at + 13] &= ~_CWR & 0xFF
    else:
        struct.pack_into("!H", frame, at + 4, after & 0xFFFF)
    (pending,) = struct.unpack_from("!H", frame, checksum)  # the pseudo-header's sum, which holds the length
    struct.pack_into("!H", frame, checksum, _fold(pending + (~before & 0xFFFF) + after))


def _adjust_network(frame: bytearray, at: int, end: int, first: int) -> None:
    if frame[at] >> 4 == 6:
        struct.pack_into("!H", frame, at + 4, (end - at - 40) & 0xFFFF)
        return
    length = (frame[at] & 15) * 4
    (identification,) = struct.unpack_from("!H", frame, at + 4)
    struct.pack_into("!HH", frame, at + 2, (end - at) & 0xFFFF, (identification + first) & 0xFFFF)
    struct.pack_into("!H", frame, at + 10, 0)
    struct.pack_into("!H", frame, at + 10, ~_sum(frame[at : at + length]) & 0xFFFF)


def _adjust_carrier(frame: bytearray, whole: SuperFrame, payload: int) -> None:
    """The tunnel's UDP header. Once filled in, what the inner checksum covers sums to the complement of its pending
    value, so the outer sum needs no look at the payload."""
    at = VNET + whole.carrier
    network = VNET + whole.networks[0]
    length = len(frame) - at + payload
    (checksum,) = struct.unpack_from("!H", frame, at + 6)
    struct.pack_into("!HH", frame, at + 4, length & 0xFFFF, 0)
    if not checksum:
        return
    addresses = frame[network + 12 : network + 20] if frame[network] >> 4 == 4 else frame[network + 8 : network + 40]
    transport = VNET + whole.transport
    (pending,) = struct.unpack_from("!H", frame, transport + (16 if whole.tcp else 6))
    total = _sum(addresses) + _UDP + length + _sum(frame[at:transport]) + (~pending & 0xFFFF)
    struct.pack_into("!H", frame, at + 6, (~_fold(total) & 0xFFFF) or 0xFFFF)


def _sum(data: bytes | bytearray) -> int:
    """The ones' complement sum (RFC 1071) of `data`."""
    return _fold(
        sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    )


def _fold(total: int) -> int:
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
