"""Routes between nodes, without I/O: what nodes say to each other, a session with each peer, and who announced what."""

from fairway.net.exchange.errors import CloseCode, Loss
from fairway.net.exchange.exchange import Exchange, LearnedRoute
from fairway.net.exchange.members import Call
from fairway.net.exchange.messages import Channel, Endpoint, Held, Revocations
from fairway.net.exchange.pace import Counters
from fairway.net.exchange.peers import Peer, Settings
from fairway.net.exchange.rib import Conflict, Entry
from fairway.net.exchange.session import Incoming, Session, State
from fairway.net.model.permit import Permit

__all__ = [
    "Call",
    "Channel",
    "CloseCode",
    "Conflict",
    "Counters",
    "Endpoint",
    "Entry",
    "Exchange",
    "Held",
    "Incoming",
    "LearnedRoute",
    "Loss",
    "Peer",
    "Permit",
    "Revocations",
    "Session",
    "Settings",
    "State",
]
