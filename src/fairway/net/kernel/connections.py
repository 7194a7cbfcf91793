"""Connections that the kernel tracks (linux/netfilter/nfnetlink_conntrack.h): those of an address are forgotten.

Whoever gets an address that another had must not get what was allowed to that one.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable

from fairway.net.kernel import nfmessages
from fairway.net.kernel.nfnetlink import TableSocket, attributes, family_body
from fairway.net.model.errors import KernelError
from fairway.net.model.facts import IPAddress

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
_ORIGINAL, _REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY and others
_FLAGS = {_ORIGINAL: 1, _REPLY: 2}  # CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS: since Linux 5.8
_TUPLE_IP = 1
_SOURCE, _DESTINATION = 0, 1  # the bits in those flags
_ENDS = {4: (1, 2), 6: (3, 4)}  # CTA_IP_V4_SRC, _V4_DST, CTA_IP_V6_SRC, _V6_DST
_FAMILIES = {4: 2, 6: 10}
_NONE_TRACKED = (errno.EINVAL, errno.EOPNOTSUPP)  # a kernel without ctnetlink


class Connections:
    """Those of the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._socket = TableSocket()

    def close(self) -> None:
        """End the socket."""
        self._socket.close()

    def forget(self, addresses: Iterable[IPAddress]) -> int:
        """Forget every connection from or to one of these; how many there were. The kernel looks for them."""
        return sum(
            self._forget(address, direction, end)
            for address in addresses
            for direction in (_ORIGINAL, _REPLY)
            for end in (_SOURCE, _DESTINATION)
        )

    def _forget(self, address: IPAddress, direction: int, end: int) -> int:
        family = _FAMILIES[address.version]
        ends = nfmessages.attribute(_ENDS[address.version][end], address.packed)
        wanted = nfmessages.nested(direction, nfmessages.nested(_TUPLE_IP, ends))
        flags = nfmessages.attribute(_FLAGS[direction], (1 << end).to_bytes(4, sys.byteorder))
        try:
            messages = self._socket.dump(_GET, wanted + nfmessages.nested(_FILTER, flags), family)
        except KernelError as error:
            if error.errno in _NONE_TRACKED:
                return 0
            raise
        return sum(self._delete(dict(attributes(family_body(message))), family) for message in messages)

    def _delete(self, found: dict[int, bytes], family: int) -> bool:
        named = nfmessages.nested(_ORIGINAL, found[_ORIGINAL])
        named += b"".join(nfmessages.attribute(kind, found[kind]) for kind in (_ID, _ZONE) if kind in found)
        return self._socket.delete(_DELETE, named, family)
