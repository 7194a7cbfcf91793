"""What is written to nf_tables as its own requests (linux/netfilter/nf_tables.h): chains of the netdev family.

A pod's chain is written so, not by libnftables: that reads every chain there is before it adds one, and a thousand
pods are a thousand chains. What is written here reads in `nft list` as if nft had written it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from fairway.net.model.facts import IPAddress

NEW_CHAIN, DELETE_CHAIN, NEW_RULE = 0x0A03, 0x0A05, 0x0A06  # NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_*
NFPROTO_INET, NFPROTO_NETDEV = 1, 5  # linux/netfilter.h
NETDEV_INGRESS = 0  # NF_NETDEV_INGRESS
CHAIN_TABLE, CHAIN_HANDLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE = 1, 2, 3, 4, 5, 7
HOOK_NUMBER, HOOK_PRIORITY, HOOK_DEVICE, HOOK_DEVICES = 1, 2, 3, 4
RULE_TABLE, RULE_CHAIN, RULE_EXPRESSIONS, RULE_USERDATA = 1, 2, 4, 7
LIST_ELEMENT, EXPRESSION_NAME, EXPRESSION_DATA = 1, 1, 2
CMP_DATA, DATA_VALUE = 3, 1
DROP = 0
UDATA_COMMENT = 0  # NFTNL_UDATA_RULE_COMMENT: libnftnl/udata.h

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11  # linux/netfilter/nfnetlink.h
_NFNL_SUBSYS_NFTABLES = 10
_REQUEST, _ACK, _CREATE, _APPEND = 0x1, 0x4, 0x400, 0x800
_NESTED = 0x8000
_META_DREG, _META_KEY, _META_PROTOCOL = 1, 2, 1
_CMP_SREG, _CMP_OP, _CMP_EQ = 1, 2, 0
_PAYLOAD_DREG, _PAYLOAD_BASE, _PAYLOAD_OFFSET, _PAYLOAD_LENGTH, _NETWORK_HEADER = 1, 2, 3, 4, 1
_IMMEDIATE_DREG, _IMMEDIATE_DATA = 1, 2
_DATA_VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 2, 1, 2
_REGISTER_VERDICT, _REGISTER = 0, 1
_ACCEPT, _GOTO = 1, 0xFFFFFFFC
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}  # IEEE 802 Numbers
_ETHERTYPE_ARP = 0x0806
_SOURCE_AT = {4: 12, 6: 8}  # RFC 791 3.1, RFC 8200 3
_ARP_SENDER_AT = 14  # RFC 826: 8 bytes, and the sender's hardware address

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_FAMILY = struct.Struct(">BBH")  # struct nfgenmsg: family, version, resource
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type

Request = tuple[int, int, bytes]
"""A message's type, flags and body, without the sequence number, which is for whoever sends it."""


def batch(requests: Sequence[Request], first: int) -> bytes:
    """All of `requests` as one transaction; its own sequence number is `first`, theirs are those that follow."""
    edge = _FAMILY.pack(0, 0, _NFNL_SUBSYS_NFTABLES)
    whole = [(_BATCH_BEGIN, _REQUEST, edge), *requests, (_BATCH_END, _REQUEST, edge)]
    return b"".join(
        _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body
        for sequence, (kind, flags, body) in enumerate(whole, first)
    )


def plain_chain(table: str, name: str) -> Request:
    """Make the chain, off any hook; one of that name that is there stays as it is."""
    return _request(NEW_CHAIN, _CREATE, string(CHAIN_TABLE, table) + string(CHAIN_NAME, name))


def ingress_chain(table: str, name: str, device: str, priority: int) -> Request:
    """Make a base chain that what enters by `device` passes; what comes to its end is dropped."""
    hook = number(HOOK_NUMBER, NETDEV_INGRESS) + number(HOOK_PRIORITY, priority & 0xFFFFFFFF)
    body = string(CHAIN_TABLE, table) + string(CHAIN_NAME, name)
    body += nested(CHAIN_HOOK, hook + string(HOOK_DEVICE, device))
    return _request(NEW_CHAIN, _CREATE, body + number(CHAIN_POLICY, DROP) + string(CHAIN_TYPE, "filter"))


def delete_chain(table: str, name: str) -> Request:
    """Take the chain away, with its rules."""
    return _request(DELETE_CHAIN, 0, string(CHAIN_TABLE, table) + string(CHAIN_NAME, name))


def delete_chain_of_handle(table: str, handle: int) -> Request:
    """As `delete_chain`, the chain known by its handle."""
    body = string(CHAIN_TABLE, table) + attribute(CHAIN_HANDLE, handle.to_bytes(8, "big"))
    return _request(DELETE_CHAIN, 0, body)


def new_rule(table: str, chain: str, comment: str, expressions: bytes) -> Request:
    """Put a rule at the end of the chain."""
    note = comment.encode() + b"\0"
    body = string(RULE_TABLE, table) + string(RULE_CHAIN, chain) + nested(RULE_EXPRESSIONS, expressions)
    body += attribute(RULE_USERDATA, bytes([UDATA_COMMENT, len(note)]) + note)
    return _request(NEW_RULE, _CREATE | _APPEND, body)


def source_is(address: IPAddress) -> bytes:
    """The expressions that go on if a frame carries the address's version of IP, and comes from it."""
    return _carries(_ETHERTYPES[address.version]) + _is_at(_SOURCE_AT[address.version], address.packed)


def arp_sender_is(address: IPAddress) -> bytes:
    """The expressions that go on if ARP for Ethernet and IPv4 (RFC 826) says that it comes from the address."""
    return _carries(_ETHERTYPE_ARP) + _is_at(_ARP_SENDER_AT, address.packed)


def accept() -> bytes:
    """The expression that accepts."""
    return _verdict(number(_VERDICT_CODE, _ACCEPT))


def goto(chain: str) -> bytes:
    """The expression that goes on in another chain, and does not come back."""
    return _verdict(number(_VERDICT_CODE, _GOTO) + string(_VERDICT_CHAIN, chain))


def attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def nested(kind: int, attributes: bytes) -> bytes:
    """An attribute of attributes."""
    return attribute(kind | _NESTED, attributes)


def number(kind: int, value: int) -> bytes:
    """An attribute of 32 bits, in network byte order as all of nf_tables' are."""
    return attribute(kind, value.to_bytes(4, "big"))


def string(kind: int, text: str) -> bytes:
    """An attribute of text."""
    return attribute(kind, text.encode() + b"\0")


def _request(kind: int, flags: int, body: bytes) -> Request:
    return kind, _REQUEST | _ACK | flags, _FAMILY.pack(NFPROTO_NETDEV, 0, 0) + body


def _expression(name: str, data: bytes) -> bytes:
    return nested(LIST_ELEMENT, string(EXPRESSION_NAME, name) + nested(EXPRESSION_DATA, data))


def _carries(ethertype: int) -> bytes:
    """Go on if a frame carries that, but for one outer VLAN tag."""
    load = number(_META_DREG, _REGISTER) + number(_META_KEY, _META_PROTOCOL)
    return _expression("meta", load) + _equal(ethertype.to_bytes(2, "big"))


def _is_at(offset: int, value: bytes) -> bytes:
    """Go on if what the frame carries has `value` at `offset`."""
    place = number(_PAYLOAD_BASE, _NETWORK_HEADER) + number(_PAYLOAD_OFFSET, offset)
    place += number(_PAYLOAD_LENGTH, len(value))
    return _expression("payload", number(_PAYLOAD_DREG, _REGISTER) + place) + _equal(value)


def _equal(value: bytes) -> bytes:
    data = number(_CMP_SREG, _REGISTER) + number(_CMP_OP, _CMP_EQ) + nested(CMP_DATA, attribute(DATA_VALUE, value))
    return _expression("cmp", data)


def _verdict(verdict: bytes) -> bytes:
    data = number(_IMMEDIATE_DREG, _REGISTER_VERDICT) + nested(_IMMEDIATE_DATA, nested(_DATA_VERDICT, verdict))
    return _expression("immediate", data)
