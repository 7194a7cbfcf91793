"""What an agent tells of its peers and of the routes that it learned, for people and programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fairway.net.agent.peers.link import Link
from fairway.net.exchange import Exchange, LearnedRoute, Peer, Session


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer. Times are seconds."""

    node: str
    state: str
    """up, connecting, or what became of its last session: restarting, silent, left, replaced."""
    address: str
    since_s: float
    """How long it has been so."""
    blocks: tuple[str, ...] = ()
    routes: int = 0
    stale: int = 0
    rtt_ms: float | None = None
    packets_lost: int = 0
    packets_sent: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    counters: Mapping[str, float] = field(default_factory=dict)
    expires: str = ""
    """When its certificate does."""

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RouteStatus:
    """One announcement of one node."""

    prefix: str
    node: str
    via: str
    version: int
    metric: int
    age_s: float
    best: bool
    """Whether it is the one to follow."""
    stale: bool
    own: bool
    """Whether this node announces it itself."""
    in_kernel: bool | None
    """Whether the kernel has it; None where that is not known, or it need not."""
    tunnelled: bool = False
    """Whether packets go there within VXLAN."""

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Place:
    """Whether the kernel has a route, and packets go by it within VXLAN."""

    in_kernel: bool
    tunnelled: bool = False


def peers(exchange: Exchange, links: Mapping[Session, Link], now: float) -> list[PeerStatus]:
    """Every node that is known, by name."""
    rows = [_peer(peer, links, now) for peer in exchange.peers]
    met = {row.node for row in rows}
    for known in exchange.directory.known.values():
        if known.name not in met:
            where = str(known.endpoints[0].address) if known.endpoints else ""
            rows.append(PeerStatus(known.name, "connecting", where, now - known.heard))
    return sorted(rows, key=lambda row: row.node)


def _peer(peer: Peer, links: Mapping[Session, Link], now: float) -> PeerStatus:
    link = None if peer.session is None else links.get(peer.session)
    figures = {} if link is None else link.connection.statistics()
    counters = peer.counters
    return PeerStatus(
        peer.name,
        "up" if peer.session is not None else "connecting" if peer.loss is None else peer.loss.value,
        str(peer.next_hop(4) or peer.next_hop(6) or ""),
        now - peer.since,
        tuple(map(str, peer.replica.permit.blocks)),
        len(peer.replica),
        peer.replica.stale,
        figures["smoothed_rtt_s"] * 1000 if figures else None,
        int(figures.get("packets_lost", 0)),
        int(figures.get("packets_sent", 0)),
        int(figures.get("bytes_sent", 0)),
        int(figures.get("bytes_received", 0)),
        {name: getattr(counters, name) for name in counters.__slots__},
        "" if link is None else link.expires.isoformat(),
    )


def routes(exchange: Exchange, place: Callable[[LearnedRoute], Place], now: float) -> list[RouteStatus]:
    """Every announcement, by prefix, then node."""
    rows = []
    for entry in exchange.rib.all():
        said = entry.announcement
        own = entry.node == exchange.name
        best = exchange.rib.best(said.prefix) is entry
        route = exchange.route(said.prefix) if best and not own else None
        found = None if route is None else place(route)
        via = "" if own else str(exchange.peers[entry.node].next_hop(said.prefix.version) or "")
        row = RouteStatus(
            str(said.prefix),
            entry.node,
            via,
            said.version,
            said.metric,
            now - entry.since,
            best,
            entry.stale,
            own,
            None if found is None else found.in_kernel,
            found is not None and found.tunnelled,
        )
        rows.append(((said.prefix.version, int(said.prefix.network_address), said.prefix.prefixlen, entry.node), row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]
