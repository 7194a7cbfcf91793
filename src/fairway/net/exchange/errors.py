"""How a connection between two nodes ends: application error codes of its QUIC connection, and a peer's fault."""

from __future__ import annotations

import enum


class CloseCode(enum.IntEnum):
    """Why one side closed. What it makes of the routes that it had told is in `Loss`."""

    NONE = 0x0
    LEAVING = 0x1
    """The node leaves the network: its routes go at once."""
    RESTARTING = 0x2
    """The agent stops and will be back: its routes stay for a while."""
    DUPLICATE = 0x3
    """Both sides called each other; the other connection is kept."""
    PROTOCOL = 0x10
    """What was received is not of this protocol."""
    REFUSED = 0x11
    """The peer is not who it says, not of this network, or revoked."""


class PeerFault(Exception):  # noqa: N818 - it is the peer's, and is never raised to a caller
    """What a peer sent is wrong; its session ends with `code`."""

    def __init__(self, reason: str, code: CloseCode = CloseCode.PROTOCOL) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Loss(enum.Enum):
    """What became of a peer whose session ended, as far as one can tell."""

    LEFT = "left"
    """It said that it goes, or was refused: its routes go at once."""
    RESTARTING = "restarting"
    """Its agent is away, but its host is there: its routes are kept for a limited time."""
    SILENT = "silent"
    """Nothing is heard from it; a sign of life of its host must come soon."""
    REFUSED = "refused"
    """It does not want us: its routes are kept for a limited time, and it is not called again soon."""
    REPLACED = "replaced"
    """Another connection to the same peer has taken over."""
