"""What is cheaper asked of the kernel than of libnftables, which reads all sets' elements to list anything."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairway.net.kernel import ports
from fairway.net.kernel.netfilter import wire
from fairway.net.kernel.netfilter.wire import Request
from fairway.net.model.errors import KernelError

_NETLINK_NETFILTER = 12  # linux/netlink.h
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 1
_NLM_F_ACK = 4
_NLM_F_DUMP = 0x300
_NLM_F_DUMP_INTR = 16
_GET_RULE = 10 << 8 | 7  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETRULE: linux/netfilter/nf_tables.h
_GET_TABLE = 10 << 8 | 1  # NFT_MSG_GETTABLE
_GET_CHAIN = 10 << 8 | 4  # NFT_MSG_GETCHAIN
_NFTA_TABLE_NAME = 1
_NFTA_TABLE_FLAGS = 2
_NFTA_DEVICE_NAME = 1
_NF_INET_FORWARD = 2
_NFPROTO_UNSPEC = 0
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}  # NFPROTO_*: linux/netfilter.h
_IP = (1, 2, 10)  # of these, the families that see IP packets on their way through
_SIOCGIFNAME, _SIOCGIFINDEX = 0x8910, 0x8933  # linux/sockios.h
_INTERFACE = struct.Struct("=16sI20x")  # struct ifreq: name, index
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_FAMILY = struct.Struct("=BBH")  # struct nfgenmsg: family, version, resource
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_BUFFER = 1 << 16
_TRIES = 8


@dataclass(frozen=True, slots=True)
class ChainRecord:
    """A chain as the kernel describes it; without a hook, `hook` is None. `devices` are None if they cannot be read."""

    family: str
    table: str
    name: str
    handle: int
    kind: str
    hook: int | None  # NF_INET_*, which depends on the family
    priority: int
    policy: int | None  # 0: drop, 1: accept
    devices: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A rule of a chain, known by its comment."""

    chain: str
    comment: str


class TableSocket:
    """A socket in the network namespace of the thread that makes it; what is not said is of the inet family."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        except OSError as error:
            raise KernelError(f"nftables: {error.strerror}", error.errno or 0) from None
        self._socket.bind((0, 0))
        self._port = ports.note(self._socket)
        self._sequence = 0

    def close(self) -> None:
        """End the socket."""
        ports.forget(self._port)
        self._socket.close()

    def index(self, link: str) -> int:
        """The index of the interface of that name; 0 if there is none."""
        try:
            found = fcntl.ioctl(self._socket, _SIOCGIFINDEX, _INTERFACE.pack(link.encode(), 0))
        except OSError:
            return 0
        return int(_INTERFACE.unpack(found)[1])

    def link(self, index: int) -> str:
        """The name of the interface of that index; empty if there is none."""
        try:
            found = fcntl.ioctl(self._socket, _SIOCGIFNAME, _INTERFACE.pack(b"", index))
        except OSError:
            return ""
        return text(_INTERFACE.unpack(found)[0])

    def flags(self, table: str, family: int = wire.NFPROTO_INET) -> int | None:
        """The flags of `table`, such as 1 for dormant; None if there is no such table."""
        for message in self.dump(_GET_TABLE, b"", family):
            if _table_name(message) == table:
                return int.from_bytes(dict(attributes(family_body(message))).get(_NFTA_TABLE_FLAGS, b""), "big")
        return None

    def comments(self, table: str, chain: str, family: int = wire.NFPROTO_INET) -> list[str]:
        """The comment of each rule of the chain, in order; empty where there is none. No such chain: no rules."""
        return [rule.comment for rule in self.rules(table, chain, family)]

    def rules(self, table: str, chain: str = "", family: int = wire.NFPROTO_INET) -> list[RuleRecord]:
        """The rules of a chain, or of all chains of the table, in order."""
        place = wire.string(wire.RULE_TABLE, table)
        place += wire.string(wire.RULE_CHAIN, chain) if chain else b""
        return [_rule(message) for message in self.dump(_GET_RULE, place, family)]

    def chains(self, family: int = _NFPROTO_UNSPEC) -> list[ChainRecord]:
        """The chains of every table of that family, or of all."""
        return [_chain(message) for message in self.dump(_GET_CHAIN, b"", family)]

    def chain(self, table: str, name: str, family: int = wire.NFPROTO_INET) -> ChainRecord | None:
        """One chain; None if there is no such."""
        place = wire.string(wire.CHAIN_TABLE, table) + wire.string(wire.CHAIN_NAME, name)
        found = self.ask(_GET_CHAIN, place, family)
        return _chain(found) if found is not None else None

    def others_forward(self, own: str) -> bool:
        """Whether a table for IP, other than `own` of the inet family, has a chain on the forward hook."""
        tables = [(message[0], _table_name(message)) for message in self.dump(_GET_TABLE, b"", _NFPROTO_UNSPEC)]
        # Each pod has a chain in our table: where no other table is of its family, they need not be read.
        families = {family for family, name in tables if family in _IP and (_FAMILIES[family], name) != ("inet", own)}
        found = (chain for family in families for chain in self.chains(family))
        return any(chain.hook == _NF_INET_FORWARD and (chain.family, chain.table) != ("inet", own) for chain in found)

    def change(self, requests: Sequence[Request]) -> None:
        """Do all of `requests` in one transaction, or none; KernelError: the first that the kernel refused."""
        first = self._sequence + 1
        self._sequence += len(requests) + 2
        self._socket.send(wire.batch(requests, first))
        refused: dict[int, int] = {}
        waited = len(requests)
        while waited and first not in refused:  # an answer to the batch as a whole is the only one, and a refusal
            for kind, _, sequence, message in self._receive():
                if kind != _NLMSG_ERROR or sequence < first:
                    continue
                waited -= 1
                number = _number(message)
                if number:
                    refused[sequence] = number
        if refused:
            raise _refusal(refused[min(refused)])

    def delete(self, kind: int, attributes: bytes, family: int) -> bool:
        """Take one thing away, off any transaction; False if there is no such thing."""
        self._send(kind, _NLM_F_ACK, attributes, family)
        while True:
            for answer, _, sequence, message in self._receive():
                if sequence != self._sequence or answer != _NLMSG_ERROR:
                    continue
                number = _number(message)
                if number not in (0, errno.ENOENT):
                    raise _refusal(number)
                return not number

    def ask(self, kind: int, attributes: bytes, family: int) -> bytes | None:
        """The one message that answers; None if there is no such thing."""
        self._send(kind, 0, attributes, family)
        while True:
            for answer, _, sequence, message in self._receive():
                if sequence != self._sequence:
                    continue
                if answer != _NLMSG_ERROR:
                    return message
                number = _number(message)
                if number == errno.ENOENT:
                    return None
                raise _refusal(number)

    def dump(self, kind: int, attributes: bytes, family: int = wire.NFPROTO_INET) -> list[bytes]:
        """What answers a request of that type and those attributes: a message each, none where there is no such thing.

        It is whole: where the tables change while they are read, they are read again.
        """
        for _ in range(_TRIES):
            answers, interrupted = self._dump_once(kind, attributes, family)
            if not interrupted:
                return answers
        raise KernelError("nftables: the tables changed during every try to read them", errno.EINTR, mend="try again")

    def _dump_once(self, kind: int, attributes: bytes, family: int) -> tuple[list[bytes], bool]:
        self._send(kind, _NLM_F_DUMP, attributes, family)
        answers: list[bytes] = []
        interrupted = False
        while True:
            for answer, flags, sequence, message in self._receive():
                if sequence != self._sequence:
                    continue
                interrupted |= bool(flags & _NLM_F_DUMP_INTR)
                if answer == _NLMSG_DONE:
                    return answers, interrupted
                if answer == _NLMSG_ERROR:
                    number = _number(message)
                    if number == errno.ENOENT:
                        return [], False
                    raise _refusal(number)
                answers.append(message)

    def _send(self, kind: int, flags: int, attributes: bytes, family: int) -> None:
        self._sequence += 1
        body = _FAMILY.pack(family, 0, 0) + attributes
        flags |= _NLM_F_REQUEST
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Type, flags, sequence number and body of each message of one datagram."""
        data = self._socket.recv(_BUFFER)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3


def _number(message: bytes) -> int:
    """The errno of an error message; 0: done."""
    return -int(struct.unpack_from("=i", message)[0])


def _refusal(number: int) -> KernelError:
    mend = "run it as root (CAP_NET_ADMIN)" if number == errno.EPERM else ""
    return KernelError(f"nftables: {os.strerror(number)}", number, mend=mend)


def _table_name(message: bytes) -> str:
    return text(dict(attributes(family_body(message))).get(_NFTA_TABLE_NAME, b""))


def _chain(message: bytes) -> ChainRecord:
    family = message[0]
    found = dict(attributes(family_body(message)))
    hook = dict(attributes(found[wire.CHAIN_HOOK])) if wire.CHAIN_HOOK in found else None
    policy = found.get(wire.CHAIN_POLICY)
    return ChainRecord(
        family=_FAMILIES.get(family, str(family)),
        table=text(found[wire.CHAIN_TABLE]),
        name=text(found[wire.CHAIN_NAME]),
        handle=int.from_bytes(found.get(wire.CHAIN_HANDLE, b""), "big"),
        kind=text(found.get(wire.CHAIN_TYPE, b"")),
        hook=int.from_bytes(hook[wire.HOOK_NUMBER], "big") if hook else None,
        priority=int.from_bytes(hook[wire.HOOK_PRIORITY], "big", signed=True) if hook else 0,
        policy=int.from_bytes(policy, "big") if policy is not None else None,
        devices=_devices(hook or {}),
    )


def _devices(hook: dict[int, bytes]) -> tuple[str, ...] | None:
    """The devices of a hook, by their names; None if it has patterns of names (Linux 6.16) among them."""
    if wire.HOOK_DEVICE in hook:
        listed = [(_NFTA_DEVICE_NAME, hook[wire.HOOK_DEVICE])]
    else:
        listed = list(attributes(hook.get(wire.HOOK_DEVICES, b"")))
    if any(kind != _NFTA_DEVICE_NAME or not name.endswith(b"\0") for kind, name in listed):
        return None
    return tuple(text(name) for _, name in listed)


def _rule(message: bytes) -> RuleRecord:
    found = dict(attributes(family_body(message)))
    return RuleRecord(text(found[wire.RULE_CHAIN]), _comment_in(found.get(wire.RULE_USERDATA, b"")))


def family_body(message: bytes) -> bytes:
    """The attributes of a message of nf_tables, which stand behind its family."""
    return message[_FAMILY.size :]


def text(value: bytes) -> str:
    """The text that an attribute holds."""
    return value.rstrip(b"\0").decode(errors="replace")


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
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
        if kind == wire.UDATA_COMMENT:
            return text(userdata[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return ""
