import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.lab.faults.frames import VNET, VNET_HEADER, super_frame, with_vlan_tag

NEEDS_CSUM = 1
TCPV4, TCPV6, UDP_L4 = 1, 4, 5
FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80
ETHERNET = bytes.fromhex("020000000002 020000000001")
SOURCE4, TARGET4 = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
SOURCE6, TARGET6 = bytes.fromhex("fd09" + "00" * 13 + "01"), bytes.fromhex("fd09" + "00" * 13 + "02")


def ones(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ip4(protocol: int, above: bytes, identification: int = 65535) -> bytes:
    header = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(above), identification, 0x4000, 64, protocol, 0))
    header += SOURCE4 + TARGET4
    header[10:12] = struct.pack("!H", ~ones(header) & 0xFFFF)
    return bytes(header) + above


def ip6(protocol: int, above: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(above), protocol, 64) + SOURCE6 + TARGET6 + above


def pseudo(version: int, protocol: int, length: int) -> bytes:
    addresses = SOURCE4 + TARGET4 if version == 4 else SOURCE6 + TARGET6
    return addresses + struct.pack("!IHH", length, 0, protocol)


def tcp(version: int, payload: bytes) -> bytes:
    pending = ones(pseudo(version, 6, 20 + len(payload)))
    flags = FIN | PSH | ACK | CWR
    return struct.pack("!HHIIBBHHH", 1, 2, 0xFFFFFF00, 7, 5 << 4, flags, 512, pending, 0) + payload


def udp(version: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", 1, 2, 8 + len(payload), ones(pseudo(version, 17, 8 + len(payload)))) + payload


def network(version: int, protocol: int, above: bytes) -> bytes:
    kind = b"\x08\x00" if version == 4 else b"\x86\xdd"
    return kind + (ip4(protocol, above) if version == 4 else ip6(protocol, above))


def described(kind: int, size: int, transport: int, offset: int, packet: bytes) -> bytes:
    return VNET_HEADER.pack(NEEDS_CSUM, kind, transport + 20, size, transport, offset) + packet


def plain_super_frame(version: int, protocol: int, size: int, payload: bytes, tags: bytes = b"") -> bytes:
    above = tcp(version, payload) if protocol == 6 else udp(version, payload)
    kind = UDP_L4 if protocol == 17 else TCPV4 if version == 4 else TCPV6
    transport = 14 + len(tags) + (20 if version == 4 else 40)
    packet = ETHERNET + tags + network(version, protocol, above)
    return described(kind, size, transport, 16 if protocol == 6 else 6, packet)


def finished(frame: bytes) -> bytes:
    """The frame after its pending checksum is filled in, as the kernel does it; no virtio header."""
    flags, _, _, _, start, offset = VNET_HEADER.unpack_from(frame)
    assert flags & NEEDS_CSUM
    packet = bytearray(frame[VNET:])
    packet[start + offset : start + offset + 2] = struct.pack("!H", ~ones(packet[start:]) & 0xFFFF)
    return bytes(packet)


def check_packet(version: int, packet: bytes) -> tuple[int, bytes]:
    """The protocol and what is above an IP packet whose lengths and checksums all hold."""
    if version == 4:
        assert ones(packet[:20]) == 0xFFFF
        assert struct.unpack_from("!H", packet, 2)[0] == len(packet)
        protocol, above = packet[9], packet[20:]
    else:
        assert struct.unpack_from("!H", packet, 4)[0] == len(packet) - 40
        protocol, above = packet[6], packet[40:]
    assert ones(pseudo(version, protocol, len(above)) + above) == 0xFFFF
    if protocol == 17:
        assert struct.unpack_from("!H", above, 4)[0] == len(above)
    return protocol, above


@given(
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([6, 17]),
    size=st.integers(8, 1448),
    payload=st.binary(min_size=1, max_size=20).map(lambda seed: seed * 300),
    tags=st.sampled_from([b"", b"\x81\x00\x00\x05", b"\x88\xa8\x00\x01\x81\x00\x00\x05"]),
    data=st.data(),
)
def test_runs_of_segments_make_up_the_whole_and_every_length_and_checksum_holds(
    version, protocol, size, payload, tags, data
):
    whole = super_frame(plain_super_frame(version, protocol, size, payload, tags))
    assert whole is not None
    assert not whole.tunnelled
    assert whole.count == -(-len(payload) // size)
    cuts = sorted({0, whole.count, *data.draw(st.lists(st.integers(0, whole.count), max_size=5))})
    rebuilt = b""
    for first, last in pairwise(cuts):
        run = whole.cut(first, last)
        got, above = check_packet(version, finished(run)[14 + len(tags) :])
        assert got == protocol
        if protocol == 6:
            assert struct.unpack_from("!I", above, 4)[0] == (0xFFFFFF00 + first * size) % 2**32
            assert bool(above[13] & FIN) == bool(above[13] & PSH) == (last == whole.count)
            assert bool(above[13] & CWR) == (first == 0)
        if last - first == 1:
            assert super_frame(run) is None
            assert run[1] == 0
            assert whole.length(first, last) == len(run) - VNET
        else:
            again = super_frame(run)
            assert again is not None
            assert again.count == last - first
        rebuilt += above[20 if protocol == 6 else 8 :]
    assert rebuilt == payload


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_a_tunnels_super_frame_becomes_single_segments_whose_inner_and_outer_checksums_hold(outer, inner):
    payload = bytes(range(256)) * 20
    carried = ETHERNET + network(inner, 6, tcp(inner, payload))
    vxlan = bytes.fromhex("0800000000000700")
    packet = ETHERNET + network(outer, 17, udp(outer, vxlan + carried))
    transport = len(packet) - len(payload) - 20
    whole = super_frame(described(TCPV4 if inner == 4 else TCPV6, 1000, transport, 16, packet))
    assert whole is not None
    assert whole.tunnelled
    assert whole.count == 6
    rebuilt = b""
    for number in range(whole.count):
        segment = whole.cut(number, number + 1)
        assert segment[1] == 0
        _, above = check_packet(outer, finished(segment)[14:])
        _, innermost = check_packet(inner, above[8 + 8 + 14 :])
        rebuilt += innermost[20:]
    assert rebuilt == payload


def test_a_tunnel_without_an_outer_checksum_stays_without():
    payload = bytes(3000)
    carried = ETHERNET + network(4, 6, tcp(4, payload))
    outer = bytearray(udp(4, bytes(8) + carried))
    outer[6:8] = b"\0\0"
    packet = ETHERNET + network(4, 17, bytes(outer))
    whole = super_frame(described(TCPV4, 1000, len(packet) - 3020, 16, packet))
    assert whole is not None
    segment = finished(whole.cut(1, 2))
    assert segment[14 + 20 + 6 : 14 + 20 + 8] == b"\0\0"


def test_the_ip_identification_counts_on_with_the_segments():
    whole = super_frame(plain_super_frame(4, 6, 100, bytes(300)))
    assert whole is not None
    found = [struct.unpack_from("!H", whole.cut(n, n + 1), VNET + 14 + 4)[0] for n in range(3)]
    assert found == [65535, 0, 1]


def test_a_plain_frame_is_no_super_frame():
    assert super_frame(VNET_HEADER.pack(0, 0, 0, 0, 0, 0) + bytes(60)) is None
    assert super_frame(VNET_HEADER.pack(NEEDS_CSUM, 0, 54, 0, 34, 16) + bytes(60)) is None


@given(
    st.binary(min_size=14, max_size=300),
    st.sampled_from([b"", b"\x45", b"\x4f", b"\x40", b"\x60", b"\x81\x00\x00\x01" * 90]),
    st.integers(0, 0xFFFF) | st.integers(0, 100),
    st.integers(1, 0xFFFF),
    st.sampled_from([1, 4, 5, 0x81, 9]),
)
def test_a_frame_that_is_not_what_its_header_says_is_passed_over_or_cut_without_an_error(data, at14, start, size, kind):
    packet = (data[:12] if len(at14) > 1 else data[:14]) + at14 + data[14:]
    whole = super_frame(VNET_HEADER.pack(NEEDS_CSUM, kind, 0, size, start, 16) + packet)
    if whole is not None:
        for run in {1, min(whole.count, whole.longest_run)}:
            whole.cut(whole.count - run, whole.count)


def test_a_vlan_tag_goes_back_behind_the_addresses_and_moves_the_pending_checksum():
    frame = with_vlan_tag(plain_super_frame(4, 6, 100, bytes(300)), 0x8100, 0x2005)
    assert frame == plain_super_frame(4, 6, 100, bytes(300), b"\x81\x00\x20\x05")
