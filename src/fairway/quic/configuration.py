"""What an endpoint chooses for its connections."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from fairway.quic.congestion import CONTROLLERS, ControllerFactory
from fairway.quic.errors import UsageError
from fairway.quic.packets.headers import SUPPORTED_VERSIONS
from fairway.quic.recovery.rtt import INITIAL_RTT_S


@dataclass(frozen=True, slots=True)
class QuicConfiguration:
    """Sizes are bytes, times seconds. The defaults suit a service on the internet."""

    versions: tuple[int, ...] | None = None
    """The versions to speak, the most preferred first: 1 and 0x6b3343cf (version 2). A client begins with the first, a
    server answers in the first that the client offers (RFC 9368). None speaks both without preference: a client begins
    with version 1, a server stays with what the client began with."""
    first_version: int | None = None
    """What a client begins with where that is not the most preferred one, as servers may be too old for it."""
    idle_timeout_s: float = 30.0
    keep_alive_s: float | None = None
    """Send a PING after so long without traffic; None never does."""
    handshake_timeout_s: float = 10.0
    udp_payload: int = 1200
    """Size of full datagrams once the handshake is complete: what the path is known to carry."""
    max_udp_payload: int = 1452
    """How far they may grow by path MTU discovery (RFC 8899); 1200 for no discovery."""
    congestion: str | ControllerFactory = "cubic"
    ecn: bool = True
    """Mark packets for explicit congestion notification, where the path and the peer turn out to be capable."""
    spin_bit: bool = False
    """Show the round-trip time to whoever looks on (RFC 9000 section 17.4), on fifteen of sixteen paths."""
    initial_rtt_s: float = INITIAL_RTT_S
    max_ack_delay_s: float = 0.025
    ack_frequency: bool = True
    """Ask a peer that can be asked for fewer acknowledgements as the window grows (draft-ietf-quic-ack-frequency)."""
    stream_window: int = 1 << 20
    """Initial flow control window of every stream."""
    stream_window_cap: int = 16 << 20
    connection_window: int = 3 << 19
    connection_window_cap: int = 24 << 20
    max_streams_bidi: int = 128
    """Streams that the peer may have open at once."""
    max_streams_uni: int = 128
    send_buffer: int = 1 << 20
    """Bytes written and not yet sent that a stream holds before `write` accepts no more."""
    disable_active_migration: bool = False
    """Ask the peer not to move on purpose (RFC 9000 section 18.2); who is moved by a NAT is followed all the same."""
    preferred_ipv4: tuple[str, int] | None = None
    """Host and port at which a server would rather be reached (section 9.6); its socket there is the caller's."""
    preferred_ipv6: tuple[str, int] | None = None
    max_datagram_frame_size: int = 0
    """The largest DATAGRAM frame that the peer may send us (RFC 9221): 65535 for any, 0 for none."""
    early_context: bytes = b""
    """What early data goes by of the protocol above QUIC: a server takes it only from clients that saw the same."""
    controller_factory: ControllerFactory = field(init=False, repr=False, compare=False)
    """What makes a path's congestion controller."""
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.versions is not None and len(set(self.versions)) != len(self.versions):
            raise UsageError("versions has one of them twice")
        if not self.spoken_versions:
            raise UsageError("versions is empty: give at least one, or None for all")
        for version in self.spoken_versions:
            if version not in SUPPORTED_VERSIONS:
                raise UsageError(f"version {version:#x} is not supported")
        if self.first_version is not None and self.first_version not in self.spoken_versions:
            raise UsageError(f"first_version {self.first_version:#x} is not among the versions")
        if not 1200 <= self.udp_payload <= 65507:
            raise UsageError("udp_payload must be 1200 to 65507 bytes")
        if not 1200 <= self.max_udp_payload <= 65507:
            raise UsageError("max_udp_payload must be 1200 to 65507 bytes")
        if not 0 <= self.max_datagram_frame_size <= 65535:
            raise UsageError("max_datagram_frame_size must be 0 (no datagrams) to 65535 bytes")
        if isinstance(self.congestion, str) and self.congestion not in CONTROLLERS:
            raise UsageError(f"no congestion controller is called {self.congestion!r}")
        factory = CONTROLLERS[self.congestion] if isinstance(self.congestion, str) else self.congestion
        object.__setattr__(self, "controller_factory", factory)
        object.__setattr__(self, "_hash", hash(tuple(getattr(self, f.name) for f in fields(self) if f.compare)))

    @property
    def spoken_versions(self) -> tuple[int, ...]:
        """The versions that may be spoken, in order."""
        return SUPPORTED_VERSIONS if self.versions is None else self.versions

    def __hash__(self) -> int:
        return self._hash  # every connection looks up what was made of its configuration
