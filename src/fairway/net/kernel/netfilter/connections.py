"""Connections that the kernel tracks (linux/netfilter/nfnetlink_conntrack.h): those of an address are forgotten.

Whoever gets an address that another had must not get what was allowed to that one. An address that began a connection
is the source of what went there first, and one that answers is the source of the answers, whatever was translated.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable
from ipaddress import ip_address

from fairway.net.kernel.netfilter import wire
from fairway.net.kernel.netfilter.table_socket import TableSocket, attributes, family_body
from fairway.net.model.errors import KernelError
from fairway.net.model.facts import IPAddress

_GET, _DELETE, _GET_COUNT = 1 << 8 | 1, 1 << 8 | 2, 1 << 8 | 5  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
_ORIGINAL, _REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY and others
_FLAGS = {_ORIGINAL: 1, _REPLY: 2}  # CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS: since Linux 5.8
_SOURCE_FLAG = 1  # in them: CTA_FILTER_FLAG_CTA_IP_SRC
_TUPLE_IP = 1
_SOURCES = {4: 1, 6: 3}  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
_COUNT = 1  # CTA_STATS_GLOBAL_ENTRIES
_FAMILIES = {4: 2, 6: 10}
_BOTH_FAMILIES = 0
_NONE_TRACKED = (errno.EINVAL, errno.EOPNOTSUPP)  # a kernel without ctnetlink


class Connections:
    """Those of the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._socket = TableSocket()

    def close(self) -> None:
        """End the socket."""
        self._socket.close()

    def forget(self, addresses: Iterable[IPAddress]) -> int:
        """Forget each connection that one of these began or answers, and say how many; the kernel looks for them."""
        return sum(self._forget(address, tuple_) for address in addresses for tuple_ in _FLAGS)

    def addresses(self, most: int) -> set[IPAddress] | None:
        """Every address that began, or answers, a connection; None if there are more than `most` connections."""
        try:
            if self._count() > most:
                return None
            messages = self._socket.dump(_GET, b"", _BOTH_FAMILIES)
        except KernelError as error:
            if error.errno in _NONE_TRACKED:
                return set()
            raise
        found: set[IPAddress] = set()
        for message in messages:
            connection = dict(attributes(family_body(message)))
            for tuple_ in _FLAGS:
                ends = dict(attributes(dict(attributes(connection.get(tuple_, b""))).get(_TUPLE_IP, b"")))
                found.update(ip_address(ends[source]) for source in _SOURCES.values() if source in ends)
        return found

    def _count(self) -> int:
        answer = self._socket.ask(_GET_COUNT, b"", _BOTH_FAMILIES)
        return int.from_bytes(dict(attributes(family_body(answer))).get(_COUNT, b""), "big") if answer else 0

    def _forget(self, address: IPAddress, tuple_: int) -> int:
        family = _FAMILIES[address.version]
        source = wire.attribute(_SOURCES[address.version], address.packed)
        wanted = wire.nested(tuple_, wire.nested(_TUPLE_IP, source))
        flags = wire.attribute(_FLAGS[tuple_], _SOURCE_FLAG.to_bytes(4, sys.byteorder))
        try:
            messages = self._socket.dump(_GET, wanted + wire.nested(_FILTER, flags), family)
        except KernelError as error:
            if error.errno in _NONE_TRACKED:
                return 0
            raise
        return sum(self._delete(dict(attributes(family_body(message))), family) for message in messages)

    def _delete(self, found: dict[int, bytes], family: int) -> bool:
        named = wire.nested(_ORIGINAL, found[_ORIGINAL])
        named += b"".join(wire.attribute(kind, found[kind]) for kind in (_ID, _ZONE) if kind in found)
        return self._socket.delete(_DELETE, named, family)
