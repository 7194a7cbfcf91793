"""Words of libnftables-json(5) that rules of every table of ours are made of, and what all who write them need."""

from __future__ import annotations

from fairway.net.kernel.netfilter.nftables import Json, Nft
from fairway.net.kernel.netfilter.table_socket import TableSocket

PROTOCOLS = {4: "ip", 6: "ip6"}
"""What nft calls each version of IP."""

COUNT: Json = {"counter": None}
ACCEPT: Json = {"accept": None}
DROP: Json = {"drop": None}


class TableDriver:
    """Both ways to nf_tables, in the network namespace of the thread that makes it: by rules, and by raw messages."""

    def __init__(self) -> None:
        self._nft = Nft()
        self._socket = TableSocket()

    def close(self) -> None:
        """End the sockets; what is in the kernel stays."""
        self._nft.close()
        self._socket.close()


def match(left: Json, right: object, operator: str = "==") -> Json:
    """Go on if it is so."""
    return {"match": {"op": operator, "left": left, "right": right}}


def meta(key: str) -> Json:
    """What is known of a packet beside its bytes."""
    return {"meta": {"key": key}}


def field(protocol: str, name: str) -> Json:
    """A field of a packet's header."""
    return {"payload": {"protocol": protocol, "field": name}}


def address(version: int, which: str) -> Json:
    """The IP address of a packet that `which` names: saddr or daddr."""
    return field(PROTOCOLS[version], which)


def network(first: str, length: int) -> Json:
    """All addresses that begin with the first `length` bits of `first`."""
    return {"prefix": {"addr": first, "len": length}}


def add_rule(family: str, table: str, chain: str, comment: str, expressions: list[Json]) -> Json:
    """The command that puts a rule at the end of a chain; we know it by its comment."""
    place = {"family": family, "table": table, "chain": chain}
    return {"add": {"rule": {**place, "comment": comment, "expr": expressions}}}
