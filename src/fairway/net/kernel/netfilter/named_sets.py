"""Named sets and maps of an nftables table, read from the kernel without libnftables, which would read all of them."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fairway.net.kernel.netfilter import wire
from fairway.net.kernel.netfilter.table_socket import TableSocket, attributes, family_body, text
from fairway.net.model.policy_table import Element, SetKind

_INTERVAL_END = 1  # NFT_SET_ELEM_INTERVAL_END
_INTERVAL, _MAP = 0x4, 0x8  # NFT_SET_*
_TYPE_BITS = 6  # of each part of a concatenation: nft's own numbers, which the kernel keeps for it
_ADDRESS_TYPES = {7: 4, 8: 6}  # ipv4_addr, ipv6_addr: nftables' enum datatypes
_PROTOCOL_TYPE, _PORT_TYPE = 12, 13
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
_SIZES = {4: 4, 6: 16}

Interval = tuple[int, int]
"""The first address, as a number, and the first behind the last."""


@dataclass(frozen=True, slots=True)
class SetRecord:
    """A named set or map; `kind` is None if it is not one that policies are made of."""

    name: str
    kind: SetKind | None
    is_map: bool


def named_sets(socket: TableSocket, table: str) -> list[SetRecord]:
    """The named sets and maps of a table of the inet family; those of rules' own are left out."""
    place = wire.string(wire.SET_TABLE, table)
    found = (dict(attributes(family_body(message))) for message in socket.dump(wire.GET_SET, place))
    return [
        SetRecord(text(each[wire.SET_NAME]), _kind(each), bool(_number(each.get(wire.SET_FLAGS, b"")) & _MAP))
        for each in found
        if not text(each[wire.SET_NAME]).startswith("__")
    ]


def members(socket: TableSocket, table: str, record: SetRecord) -> set[Element]:
    """What a set holds that is not one of networks."""
    assert record.kind is not None
    size = _SIZES[record.kind.version]
    return {_element(key, size, record.kind.with_port) for key, _, _ in elements(socket, table, record.name)}


def intervals(socket: TableSocket, table: str, record: SetRecord) -> list[Interval]:
    """What a set of networks holds. The kernel has where an interval begins, and (flagged) the first behind its end."""
    assert record.kind is not None
    edges = sorted((int.from_bytes(key, "big"), not ends) for key, ends, _ in elements(socket, table, record.name))
    behind_all = 1 << 8 * _SIZES[record.kind.version]
    found: list[Interval] = []
    for (edge, begins), (following, _) in itertools.zip_longest(edges, edges[1:], fillvalue=(behind_all, False)):
        if begins:
            found.append((edge, following))
    return _joined(found)


def intervals_of(networks: Iterable[Element]) -> list[Interval]:
    """What a set of these networks would hold."""
    parsed = (ipaddress.ip_network(str(network)) for network in networks)
    return _joined((int(each.network_address), int(each.broadcast_address) + 1) for each in parsed)


def _joined(intervals: Iterable[Interval]) -> list[Interval]:
    joined: list[Interval] = []
    for first, behind in sorted(intervals):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(behind, joined[-1][1]))
        else:
            joined.append((first, behind))
    return joined


def verdicts(socket: TableSocket, table: str, name: str) -> dict[str, str]:
    """The chain that each address of a verdict map goes by."""
    return {str(ipaddress.ip_address(key)): chain for key, _, chain in elements(socket, table, name)}


def elements(
    socket: TableSocket, table: str, name: str, family: int = wire.NFPROTO_INET
) -> Iterator[tuple[bytes, bool, str]]:
    """Key, whether it is the end of an interval, and the chain that it leads to, of each element."""
    place = wire.string(wire.LIST_TABLE, table) + wire.string(wire.LIST_SET, name)
    for message in socket.dump(wire.GET_ELEMENTS, place, family):
        for _, element in attributes(dict(attributes(family_body(message))).get(wire.LIST_ELEMENTS, b"")):
            found = dict(attributes(element))
            key = dict(attributes(found.get(wire.ELEMENT_KEY, b""))).get(wire.DATA_VALUE, b"")
            verdict = dict(attributes(found.get(wire.ELEMENT_DATA, b""))).get(wire.DATA_VERDICT, b"")
            chain = text(dict(attributes(verdict)).get(wire.VERDICT_CHAIN, b""))
            yield key, bool(_number(found.get(wire.ELEMENT_FLAGS, b"")) & _INTERVAL_END), chain


def _kind(found: dict[int, bytes]) -> SetKind | None:
    flags, whole = _number(found.get(wire.SET_FLAGS, b"")), _number(found.get(wire.SET_KEY_TYPE, b""))
    mask = (1 << _TYPE_BITS) - 1
    parts = [whole >> shift & mask for shift in (2 * _TYPE_BITS, _TYPE_BITS, 0)]
    networks = bool(flags & _INTERVAL)
    if parts[1:] == [_PROTOCOL_TYPE, _PORT_TYPE] and parts[0] in _ADDRESS_TYPES:
        return SetKind(_ADDRESS_TYPES[parts[0]], networks, with_port=True)
    if parts[:2] == [0, 0] and parts[2] in _ADDRESS_TYPES:
        return SetKind(_ADDRESS_TYPES[parts[2]], networks)
    return None


def _element(key: bytes, size: int, with_port: bool) -> Element:
    address = str(ipaddress.ip_address(key[:size]))
    if not with_port:
        return address
    number = key[size]  # each part begins at a multiple of four bytes
    return (address, _PROTOCOLS.get(number, str(number)), int.from_bytes(key[size + 4 : size + 6], "big"))


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")
