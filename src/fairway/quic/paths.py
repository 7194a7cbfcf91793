"""The network path of a connection: its address, what was validated, its round trip, window and packet size."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from fairway.quic.congestion import Controller
from fairway.quic.limits import ANTI_AMPLIFICATION_FACTOR, MAX_PATH_CHALLENGES
from fairway.quic.recovery.pacing import Pacer
from fairway.quic.recovery.rtt import RttEstimator

Address = tuple[object, ...]
"""A socket address as the caller's socket gives it; the core only compares it."""


@dataclass(slots=True)
class Path:
    """One address of the peer, with everything that belongs to the way there (RFC 9002 section 5 to 7)."""

    address: Address | None
    packet_size: int
    rtt: RttEstimator
    controller: Controller
    pacer: Pacer = field(default_factory=Pacer)
    validated: bool = False
    bytes_received: int = 0
    bytes_sent: int = 0
    responses: deque[bytes] = field(default_factory=lambda: deque(maxlen=MAX_PATH_CHALLENGES))
    """PATH_CHALLENGE data to be answered (RFC 9000 section 8.2.2)."""

    @property
    def may_send_full(self) -> bool:
        """True unless address validation holds back a full packet."""
        return self.validated or self.send_allowance >= self.packet_size

    @property
    def send_allowance(self) -> int:
        """Bytes that may be sent before the address is validated (RFC 9000 section 8.1); large if it is."""
        if self.validated:
            return 1 << 62
        return ANTI_AMPLIFICATION_FACTOR * self.bytes_received - self.bytes_sent
