"""Connections that the kernel tracks (linux/netfilter/nfnetlink_conntrack.h): those of an address are forgotten.

Whoever gets an address that another had must not get what was allowed to that one.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from fairway.net.kernel import nfmessages
from fairway.net.kernel.nfnetlink import TableSocket, attributes, family_body
from fairway.net.model.errors import KernelError
from fairway.net.model.facts import IPAddress

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
_ORIGINAL, _REPLY, _ID, _ZONE = 1, 2, 12, 18  # CTA_*
_TUPLE_IP = 1  # CTA_TUPLE_IP, which holds CTA_IP_V4_SRC, _V4_DST, _V6_SRC, _V6_DST
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
        """Forget every connection from or to one of these; how many there were."""
        by_version: dict[int, set[bytes]] = {}
        for address in addresses:
            by_version.setdefault(address.version, set()).add(address.packed)
        return sum(self._forget(_FAMILIES[version], packed) for version, packed in by_version.items())

    def _forget(self, family: int, packed: set[bytes]) -> int:
        try:
            messages = self._socket.dump(_GET, b"", family)
        except KernelError as error:
            if error.errno in _NONE_TRACKED:
                return 0
            raise
        count = 0
        for message in messages:
            found = dict(attributes(family_body(message)))
            if not any(packed & _ends(found.get(kind, b"")) for kind in (_ORIGINAL, _REPLY)):
                continue
            named = nfmessages.nested(_ORIGINAL, found[_ORIGINAL])
            named += b"".join(nfmessages.attribute(kind, found[kind]) for kind in (_ID, _ZONE) if kind in found)
            count += self._socket.delete(_DELETE, named, family)
        return count


def _ends(direction: bytes) -> set[bytes]:
    """The two addresses of one direction."""
    return {value for _, value in attributes(dict(attributes(direction)).get(_TUPLE_IP, b""))}
