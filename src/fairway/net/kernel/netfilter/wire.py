"""What is written to nf_tables as its own requests (linux/netfilter/nf_tables.h): chains and elements, netdev family.

A pod's chain is written so, not by libnftables: that reads every chain there is before it adds one, and a thousand
pods are a thousand chains. What is written here reads in `nft list` as if nft had written it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

NEW_CHAIN, DELETE_CHAIN, NEW_RULE = 0x0A03, 0x0A05, 0x0A06  # NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_*
GET_SET, NEW_ELEMENTS, GET_ELEMENTS, DELETE_ELEMENTS = 0x0A0A, 0x0A0C, 0x0A0D, 0x0A0E
NFPROTO_INET, NFPROTO_NETDEV = 1, 5  # linux/netfilter.h
NETDEV_INGRESS = 0  # NF_NETDEV_INGRESS
CHAIN_TABLE, CHAIN_HANDLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE = 1, 2, 3, 4, 5, 7
HOOK_NUMBER, HOOK_PRIORITY, HOOK_DEVICE, HOOK_DEVICES = 1, 2, 3, 4
RULE_TABLE, RULE_CHAIN, RULE_EXPRESSIONS, RULE_USERDATA = 1, 2, 4, 7
SET_TABLE, SET_NAME, SET_FLAGS, SET_KEY_TYPE, SET_KEY_LENGTH = 1, 2, 3, 4, 5
LIST_TABLE, LIST_SET, LIST_ELEMENTS = 1, 2, 3
ELEMENT_KEY, ELEMENT_DATA, ELEMENT_FLAGS = 1, 2, 3
DATA_VALUE, DATA_VERDICT, VERDICT_CHAIN = 1, 2, 2
DROP = 0
UDATA_COMMENT = 0  # NFTNL_UDATA_RULE_COMMENT: libnftnl/udata.h

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11  # linux/netfilter/nfnetlink.h
_NFNL_SUBSYS_NFTABLES = 10
_REQUEST, _ACK, _EXCLUSIVE, _CREATE, _APPEND = 0x1, 0x4, 0x200, 0x400, 0x800
_NESTED = 0x8000
_LIST_ELEMENT, _EXPRESSION_NAME, _EXPRESSION_DATA = 1, 1, 2
_IMMEDIATE_DREG, _IMMEDIATE_DATA = 1, 2
_REGISTER_VERDICT, _VERDICT_CODE, _GOTO = 0, 1, 0xFFFFFFFC

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
    """Make a base chain that what enters by `device` passes; what comes to its end is dropped. EEXIST: it is there."""
    hook = number(HOOK_NUMBER, NETDEV_INGRESS) + number(HOOK_PRIORITY, priority & 0xFFFFFFFF)
    body = string(CHAIN_TABLE, table) + string(CHAIN_NAME, name)
    body += nested(CHAIN_HOOK, hook + string(HOOK_DEVICE, device))
    return _request(NEW_CHAIN, _CREATE | _EXCLUSIVE, body + number(CHAIN_POLICY, DROP) + string(CHAIN_TYPE, "filter"))


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


def goto(chain: str) -> bytes:
    """The expression that goes on in another chain, and does not come back."""
    verdict = nested(DATA_VERDICT, number(_VERDICT_CODE, _GOTO) + string(VERDICT_CHAIN, chain))
    data = number(_IMMEDIATE_DREG, _REGISTER_VERDICT) + nested(_IMMEDIATE_DATA, verdict)
    return nested(_LIST_ELEMENT, string(_EXPRESSION_NAME, "immediate") + nested(_EXPRESSION_DATA, data))


def change_elements(kind: int, table: str, name: str, keys: Iterable[bytes]) -> Request:
    """Put elements into the set of that name (`NEW_ELEMENTS`), or take them out (`DELETE_ELEMENTS`)."""
    return _request(kind, _CREATE if kind == NEW_ELEMENTS else 0, elements(table, name, keys))


def elements(table: str, name: str, keys: Iterable[bytes]) -> bytes:
    """The attributes that name elements of a set by their keys."""
    listed = (nested(_LIST_ELEMENT, nested(ELEMENT_KEY, attribute(DATA_VALUE, key))) for key in keys)
    return string(LIST_TABLE, table) + string(LIST_SET, name) + nested(LIST_ELEMENTS, b"".join(listed))


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
