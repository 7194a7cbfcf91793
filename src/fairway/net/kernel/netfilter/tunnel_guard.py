"""A table of nftables that says who may send VXLAN to this host, and what may be in it.

Who is no peer is not heard. What a peer's packet brings is judged as what comes by any link is, by where it says that
it is from: routes have to lead back there by the tunnel. A pod may not send to any host's tunnel, in case its address
is hidden behind the host's own.
"""

from __future__ import annotations

from collections.abc import Iterator

from fairway.net.kernel.netfilter.nftables import Json
from fairway.net.kernel.netfilter.rules import (
    ACCEPT,
    COUNT,
    DROP,
    PROTOCOLS,
    TableDriver,
    add_rule,
    address,
    field,
    match,
    meta,
)
from fairway.net.model.facts import TunnelGuard
from fairway.net.model.names import INTERFACE_PREFIX

TABLE = "fairway-tunnel"
"""Of the inet family: apart from the table of the pods' chains, which goes with the last pod."""

_CHAINS = {  # by name: the hook, its number (linux/netfilter.h), and the priority
    "senders": ("input", 1, -1),
    "contents": ("prerouting", 0, -300),
    "pods": ("forward", 2, -1),
}
_COUNTED_OUT = [COUNT, DROP]


class TunnelGuardDriver(TableDriver):
    """The table in the namespace of the thread that makes the driver."""

    def __init__(self, namespace: str) -> None:
        super().__init__()
        self._namespace = namespace

    def replace(self, wanted: TunnelGuard | None) -> None:
        """Make the table what it should be, in one transaction; None: take it away."""
        table: Json = {"table": {"family": "inet", "name": TABLE}}
        commands: list[Json] = [{"add": table}, {"delete": table}]
        if wanted is not None:
            commands.append({"add": table})
            for name, (hook, _, priority) in _CHAINS.items():
                place = {"family": "inet", "table": TABLE, "name": name}
                base = {**place, "type": "filter", "hook": hook, "prio": priority, "policy": "accept"}
                commands.append({"add": {"chain": base}})
            commands += _rules(wanted)
        self._nft.run(commands)

    def observe(self) -> TunnelGuard | None:
        """What there is, known by its mark; None: no table. What is not right bears no mark."""
        if self._socket.flags(TABLE) is None:
            return None
        marks: set[str] = set()
        for name, (_, hook, priority) in _CHAINS.items():
            chain = self._socket.chain(TABLE, name)
            right = chain is not None and (chain.kind, chain.hook, chain.priority) == ("filter", hook, priority)
            comments = self._socket.comments(TABLE, name) if right else []
            marks |= {comment.rpartition("#")[2] for comment in comments or [""]}
        return TunnelGuard(self._namespace, marks.pop() if len(marks) == 1 else "")


def _rules(wanted: TunnelGuard) -> Iterator[Json]:
    to_tunnel = match(field("udp", "dport"), wanted.port)
    inside = match(meta("iifname"), wanted.link)
    for version in PROTOCOLS:
        peers = sorted(str(peer) for peer in wanted.peers if peer.version == version)
        source = address(version, "saddr")
        others = [match(source, {"set": peers}, "!=")] if peers else []
        family = match(meta("nfproto"), f"ipv{version}")
        what = f"VXLAN from no peer, IPv{version}"
        yield _rule("senders", what, [family, to_tunnel, *others, *_COUNTED_OUT], wanted)
        if peers:  # a peer itself, not a pod of it
            passing = [inside, match(source, {"set": peers}), ACCEPT]
            yield _rule("contents", f"from a peer, IPv{version}", passing, wanted)
    back = {"fib": {"result": "oif", "flags": ["saddr", "iif"]}}
    contents = [inside, match(back, False), *_COUNTED_OUT]
    yield _rule("contents", "from where no route leads back by the tunnel", contents, wanted)
    pods = match(meta("iifname"), f"{INTERFACE_PREFIX}*")
    yield _rule("pods", "from a pod to a tunnel", [pods, to_tunnel, *_COUNTED_OUT], wanted)


def _rule(chain: str, what: str, expressions: list[Json], wanted: TunnelGuard) -> Json:
    return add_rule("inet", TABLE, chain, f"fairway: {what} #{wanted.mark}", expressions)
