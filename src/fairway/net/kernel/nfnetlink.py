"""What is cheaper asked of the kernel than of libnftables, which reads all sets' elements to list anything."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from fairway.net.model.errors import KernelError

_NETLINK_NETFILTER = 12  # linux/netlink.h
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 1
_NLM_F_DUMP = 0x300
_NLM_F_DUMP_INTR = 16
_GET_RULE = 10 << 8 | 7  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETRULE: linux/netfilter/nf_tables.h
_GET_TABLE = 10 << 8 | 1  # NFT_MSG_GETTABLE
_NFTA_TABLE_NAME = 1
_NFTA_TABLE_FLAGS = 2
_NFTA_RULE_TABLE = 1
_NFTA_RULE_CHAIN = 2
_NFTA_RULE_USERDATA = 7
_UDATA_COMMENT = 0  # NFTNL_UDATA_RULE_COMMENT: libnftnl/udata.h
_GET_CHAIN = 10 << 8 | 4  # NFT_MSG_GETCHAIN
_NFTA_CHAIN_TABLE = 1
_NFTA_CHAIN_HOOK = 4
_NFTA_HOOK_HOOKNUM = 1
_NF_INET_FORWARD = 2
_NFPROTO_UNSPEC = 0
_NFPROTO_INET = 1
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_FAMILY = struct.Struct("=BBH")  # struct nfgenmsg: family, version, resource
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_BUFFER = 1 << 16
_TRIES = 8


class TableReader:
    """A socket in the network namespace of the thread that makes it; it reads tables of the inet family."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        except OSError as error:
            raise KernelError(f"nftables: {error.strerror}", error.errno or 0) from None
        self._sequence = 0

    def close(self) -> None:
        """End the socket."""
        self._socket.close()

    def flags(self, table: str) -> int | None:
        """The flags of `table`, such as 1 for dormant; None if there is no such table."""
        for message in self._dump(_GET_TABLE, b""):
            attributes = dict(_attributes(message[_FAMILY.size :]))
            if attributes.get(_NFTA_TABLE_NAME, b"").rstrip(b"\0") == table.encode():
                return int.from_bytes(attributes.get(_NFTA_TABLE_FLAGS, b""), "big")
        return None

    def comments(self, table: str, chain: str) -> list[str]:
        """The comment of each rule of the chain, in order; empty where there is none. No such chain: no rules."""
        place = _string(_NFTA_RULE_TABLE, table) + _string(_NFTA_RULE_CHAIN, chain)
        rules = [dict(_attributes(message[_FAMILY.size :])) for message in self._dump(_GET_RULE, place)]
        return [_comment_in(rule.get(_NFTA_RULE_USERDATA, b"")) for rule in rules]

    def forward_tables(self) -> list[str]:
        """The names of the tables, of any family, that have a chain on the forward hook; one for each chain."""
        found = []
        for message in self._dump(_GET_CHAIN, b"", _NFPROTO_UNSPEC):
            attributes = dict(_attributes(message[_FAMILY.size :]))
            hook = dict(_attributes(attributes.get(_NFTA_CHAIN_HOOK, b"")))
            if int.from_bytes(hook.get(_NFTA_HOOK_HOOKNUM, b"\xff"), "big") == _NF_INET_FORWARD:
                found.append(attributes[_NFTA_CHAIN_TABLE].rstrip(b"\0").decode(errors="replace"))
        return found

    def _dump(self, kind: int, attributes: bytes, family: int = _NFPROTO_INET) -> list[bytes]:
        for _ in range(_TRIES):
            messages, interrupted = self._dump_once(kind, attributes, family)
            if not interrupted:
                return messages
        raise KernelError("nftables: the tables changed during every try to read them", errno.EINTR, mend="try again")

    def _dump_once(self, kind: int, attributes: bytes, family: int) -> tuple[list[bytes], bool]:
        self._sequence += 1
        body = _FAMILY.pack(family, 0, 0) + attributes
        flags = _NLM_F_REQUEST | _NLM_F_DUMP
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        messages: list[bytes] = []
        interrupted = False
        while True:
            for answer, flags, message in self._receive():
                interrupted |= bool(flags & _NLM_F_DUMP_INTR)
                if answer == _NLMSG_DONE:
                    return messages, interrupted
                if answer == _NLMSG_ERROR:
                    number = -int(struct.unpack_from("=i", message)[0])
                    if number == errno.ENOENT:
                        return [], False
                    mend = "run it as root (CAP_NET_ADMIN)" if number == errno.EPERM else ""
                    raise KernelError(f"nftables: {os.strerror(number)}", number, mend=mend)
                messages.append(message)

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        """Type, flags and body of each message of one datagram that answers our last request."""
        data = self._socket.recv(_BUFFER)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            if sequence == self._sequence:
                yield kind, flags, data[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3


def _string(kind: int, text: str) -> bytes:
    value = text.encode() + b"\0"
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each netlink attribute."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        yield kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += max((length + 3) & ~3, _ATTRIBUTE.size)


def _comment_in(userdata: bytes) -> str:
    """The comment among nft's own notes on a rule: a type, a length and a value each, a byte for the first two."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset], userdata[offset + 1]
        if kind == _UDATA_COMMENT:
            return userdata[offset + 2 : offset + 2 + length].rstrip(b"\0").decode(errors="replace")
        offset += 2 + length
    return ""
