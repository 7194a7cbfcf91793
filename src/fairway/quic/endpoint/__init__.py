"""What stands before a server's connections: which one a datagram is for, and whether a new one is admitted."""

from fairway.quic.endpoint.admission import AdmissionLimits
from fairway.quic.endpoint.endpoint import Endpoint, Reply
from fairway.quic.endpoint.ids import Ids, ServerId

__all__ = ["AdmissionLimits", "Endpoint", "Ids", "Reply", "ServerId"]
