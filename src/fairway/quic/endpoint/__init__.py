"""What stands before a server's connections: which one a datagram is for, and whether a new one is admitted."""

from fairway.quic.endpoint.endpoint import Endpoint, Reply

__all__ = ["Endpoint", "Reply"]
