"""A network path of a connection: its addresses, what was validated, its round trip, window and packet size."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

from fairway.quic.congestion import Controller
from fairway.quic.limits import ANTI_AMPLIFICATION_FACTOR, MAX_PATH_CHALLENGES
from fairway.quic.packets.first_byte import SpinBit
from fairway.quic.paths.validation import PathValidation
from fairway.quic.recovery.mtu import MtuDiscovery
from fairway.quic.recovery.pacing import Pacer
from fairway.quic.recovery.rtt import RttEstimator

Address = tuple[object, ...]
"""A socket address as the caller's socket gives it; the core compares it, and its first field is the host."""

Local = Hashable
"""Which of the caller's sockets: the core only compares it. None is the first."""


@dataclass(slots=True, eq=False)
class Path:
    """One way to the peer, with everything that belongs to it (RFC 9002 section 5 to 7)."""

    address: Address | None
    packet_size: int
    rtt: RttEstimator
    controller: Controller
    pacer: Pacer = field(default_factory=Pacer)
    validated: bool = False
    """True if the peer is known to be at this address (RFC 9000 section 8)."""
    bytes_received: int = 0
    bytes_sent: int = 0
    local: Local = None
    sequence: int | None = None
    """The peer's connection ID that packets on this path carry; None: the one in use."""
    responses: list[bytes] = field(default_factory=list)
    """PATH_CHALLENGE data to be answered on this path (section 8.2.2)."""
    answered_beyond_at: float = -math.inf
    """When an answer last went although the congestion window was full."""
    validation: PathValidation | None = None
    """The validation that goes on."""
    silent: bool = False
    """True if the last validation failed: it is kept while no other path was ever validated."""
    mtu: MtuDiscovery | None = None
    """Made once enough was sent that larger packets pay, or where the path turns out to carry less."""
    spin: SpinBit = field(default_factory=lambda: SpinBit(is_client=False, spins=False))
    wanted: bool = False
    """True if the application asked for this path: it hears what becomes of it."""

    @property
    def send_allowance(self) -> int:
        """Bytes that may be sent before the address is validated (RFC 9000 section 8.1); large if it is."""
        if self.validated:
            return 1 << 62
        return ANTI_AMPLIFICATION_FACTOR * self.bytes_received - self.bytes_sent

    def differs_by_port_only(self, other: Path) -> bool:
        """Whether the peer has another port and nothing else: the same network carries it (section 9.4)."""
        ours, theirs = self.address, other.address
        return bool(self.local == other.local and ours and theirs and ours[0] == theirs[0])

    def answer(self, challenge: bytes) -> None:
        """Note a PATH_CHALLENGE; the oldest of too many is dropped."""
        if len(self.responses) >= MAX_PATH_CHALLENGES:
            del self.responses[0]
        self.responses.append(challenge)

    def resize(self, size: int) -> None:
        """Packets have this size from now on."""
        if size != self.packet_size:
            self.packet_size = size
            self.controller.on_packet_size(size)

    def share_network(self, other: Path) -> None:
        """Go on with what was learned of the network between the same hosts."""
        self.rtt, self.controller, self.pacer = other.rtt, other.controller, other.pacer
        self.packet_size, self.mtu = other.packet_size, other.mtu
