"""What the configuration says about peers."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.net.model.facts import IPAddress


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """Times are seconds."""

    addresses: tuple[IPAddress, ...] = ()
    """The host's own, at which peers reach it and its pods; the first is preferred."""
    port: int = 0
    listen: IPAddress | None = None
    """The one address to listen at; None: at any that the host has, or comes to have."""
    peers: tuple[str, ...] = ()
    """Whom to call, as HOST:PORT, besides those that are known already."""
    static_only: bool = False
    """Call nobody of whom only other peers tell."""
    detection_s: float = 1.0
    """How soon the routes of a host that is dead go."""
    vxlan_port: int = 0
    """UDP's, to send within VXLAN to hosts behind routers; 0: routers have to know the pods."""
    restart_s: float = 120.0
    """How long the routes of a host are kept while its agent is away."""
