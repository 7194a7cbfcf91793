"""A host among its peers: one QUIC connection to each, the exchange of routes over it, joining and renewing."""

from fairway.net.agent.peers.joining import join
from fairway.net.agent.peers.network import PeerNetwork, PeerOptions
from fairway.net.agent.peers.peering import Peering, peering_of
from fairway.net.agent.peers.status import PeerStatus, RouteStatus

__all__ = ["PeerNetwork", "PeerOptions", "PeerStatus", "Peering", "RouteStatus", "join", "peering_of"]
