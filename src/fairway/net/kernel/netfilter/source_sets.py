"""Two sets of our netdev table that say which interface may send from which address: `iif . ip saddr`, and IPv6's.

An interface is in them by its index, which the kernel gives once, and to no other until it has counted to 2^31. So what
is left of one that is gone lets nobody send, and it is known for what it is: no interface has that index.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from fairway.net.kernel.netfilter import named_sets, wire
from fairway.net.kernel.netfilter.nftables import Json
from fairway.net.kernel.netfilter.table_socket import TableSocket, attributes, family_body
from fairway.net.model.facts import IPAddress

NAMES = {4: "sources4", 6: "sources6"}
"""By the version of IP."""

Source = tuple[int, IPAddress]
"""An interface's index, and an address that it may send from."""

_TYPES = {4: ["iface_index", "ipv4_addr"], 6: ["iface_index", "ipv6_addr"]}
_KEY_TYPES = {4: 20 << 6 | 7, 6: 20 << 6 | 8}  # the same in nftables' enum datatypes, six bits each
_INDEX = struct.Struct("=I")
_KEY_LENGTHS = {4: _INDEX.size + 4, 6: _INDEX.size + 16}
_AT_ONCE = 500  # elements a request: the length of a netlink attribute has 16 bits


class SourceSets:
    """The sets of the netdev table `table`, in the namespace of `socket`."""

    def __init__(self, socket: TableSocket, table: str) -> None:
        self._socket = socket
        self._table = table

    def elements(self) -> Iterator[Source]:
        """All that they hold."""
        for version, name in NAMES.items():
            for key, _, _ in named_sets.elements(self._socket, self._table, name, wire.NFPROTO_NETDEV):
                if len(key) == _KEY_LENGTHS[version]:
                    yield _INDEX.unpack_from(key)[0], ip_address(key[_INDEX.size :])

    def holds(self, source: Source) -> bool:
        """Whether it is in them; how many others are costs nothing."""
        asked = wire.elements(self._table, NAMES[source[1].version], [_key(source)])
        return self._socket.ask(wire.GET_ELEMENTS, asked, wire.NFPROTO_NETDEV) is not None

    def repairs(self) -> Iterator[Json]:
        """The commands that make the sets where they are missing, or somebody made others; none if they are right.

        No rule may refer to one that is not right.
        """
        for version, name in NAMES.items():
            place = wire.string(wire.SET_TABLE, self._table) + wire.string(wire.SET_NAME, name)
            message = self._socket.ask(wire.GET_SET, place, wire.NFPROTO_NETDEV)
            found = dict(attributes(family_body(message))) if message is not None else {}
            numbers = [int.from_bytes(found.get(kind, b""), "big") for kind in (wire.SET_KEY_TYPE, wire.SET_KEY_LENGTH)]
            if [*numbers, found.get(wire.SET_FLAGS)] == [_KEY_TYPES[version], _KEY_LENGTHS[version], None]:
                continue
            named = {"family": "netdev", "table": self._table, "name": name}
            if found:
                yield {"delete": {"set": named}}
            yield {"add": {"set": {**named, "type": _TYPES[version]}}}

    def adding(self, sources: Iterable[Source]) -> list[wire.Request]:
        """The requests that put them in; what is there already stays."""
        return self._requests(wire.NEW_ELEMENTS, sources)

    def removing(self, sources: Iterable[Source]) -> list[wire.Request]:
        """The requests that take them out. Deleting what is not there fails, so it is put in first."""
        known = list(sources)
        return [*self.adding(known), *self._requests(wire.DELETE_ELEMENTS, known)]

    def _requests(self, kind: int, sources: Iterable[Source]) -> list[wire.Request]:
        keys: dict[int, list[bytes]] = {4: [], 6: []}
        for source in sources:
            keys[source[1].version].append(_key(source))
        return [
            wire.change_elements(kind, self._table, NAMES[version], found[first : first + _AT_ONCE])
            for version, found in keys.items()
            for first in range(0, len(found), _AT_ONCE)
        ]


def _key(source: Source) -> bytes:
    return _INDEX.pack(source[0]) + source[1].packed
