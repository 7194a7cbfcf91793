"""What the rooms of one connection share: its components, its phase, and nothing that decides."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from fairway.quic.ack_frequency import NOTHING_ASKED, AckRequests
from fairway.quic.configuration import QuicConfiguration
from fairway.quic.connection_ids import LocalIds, MakeId, RemoteIds
from fairway.quic.datagrams import Datagrams
from fairway.quic.errors import Closing
from fairway.quic.events import Event
from fairway.quic.packets.first_byte import FixedBit, SpinBit
from fairway.quic.paths.path import Address, Path
from fairway.quic.recovery.ecn import Ecn
from fairway.quic.recovery.mtu import MtuDiscovery
from fairway.quic.recovery.rtt import RttEstimator
from fairway.quic.spaces import PacketSpace, SpaceKind
from fairway.quic.statistics import Counters
from fairway.quic.streams.flow_control import ReceiveWindow
from fairway.quic.streams.incoming import Incoming
from fairway.quic.streams.outgoing import Outgoing
from fairway.quic.streams.table import ControlKey, StreamTable
from fairway.quic.timers import Timers
from fairway.quic.transport_parameters import TransportParameters

if TYPE_CHECKING:
    from fairway.quic.handshake.early_data import EarlyKeys
    from fairway.quic.handshake.sessions import KnownServer
    from fairway.quic.observe.observer import Watch


class Phase(Enum):
    """The life of a connection (RFC 9000 section 5 and 10, RFC 9001 section 4.1)."""

    HANDSHAKE = "handshake"
    COMPLETE = "handshake complete"
    CONFIRMED = "handshake confirmed"
    CLOSING = "closing"
    DRAINING = "draining"
    CLOSED = "closed"

    __hash__ = object.__hash__  # there is one of each, and Enum's own costs more than the rest of a look-up


PHASE_TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.HANDSHAKE: frozenset({Phase.COMPLETE, Phase.CLOSING, Phase.DRAINING, Phase.CLOSED}),
    Phase.COMPLETE: frozenset({Phase.CONFIRMED, Phase.CLOSING, Phase.DRAINING, Phase.CLOSED}),
    Phase.CONFIRMED: frozenset({Phase.CLOSING, Phase.DRAINING, Phase.CLOSED}),
    Phase.CLOSING: frozenset({Phase.DRAINING, Phase.CLOSED}),
    Phase.DRAINING: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}
# Tuples are searched by identity; a set would hash, which enums do slowly.
OPEN_PHASES = (Phase.HANDSHAKE, Phase.COMPLETE, Phase.CONFIRMED)
_COMPLETE_PHASES = (Phase.COMPLETE, Phase.CONFIRMED)

_UNKNOWN_PARAMETERS = TransportParameters()
_FIRST_SIZE = 1200
"""Bytes of a packet until the handshake is complete (RFC 9000 section 14)."""


class Kept(NamedTuple):
    """A packet that waits for its keys: when it came, and with which ECN mark."""

    packet: bytes
    came_at: float
    mark: int


class ConnectionState:
    """Everything that one connection knows."""

    __slots__ = (
        "ack_delay_s", "ack_requests", "application", "arrival", "arrival_mark", "asks_for_acks", "close_pending",
        "closing", "configuration", "control", "counters", "datagrams", "early", "early_streams", "ecn", "events",
        "fixed_bit", "handshake", "handshake_complete", "handshake_id", "incoming", "initial", "is_client", "is_open",
        "kept", "limited_at", "local_ids", "local_parameters", "loss_timer_stale", "make_token", "original_version",
        "outgoing", "path", "peer_parameters", "peer_seen", "phase", "probing", "pto_count", "random", "remote_ids",
        "sent_since_receive", "server", "spaces", "streams", "timers", "token", "version", "waited_s", "watch",
    )  # fmt: skip

    # Its life
    phase: Phase
    is_open: bool
    """True until the connection begins to end."""
    handshake_complete: bool
    """True while the application may send (RFC 9001 section 4.1.1)."""
    original_version: int
    """What the client began with: another than `version` after compatible negotiation (RFC 9368 section 2.3)."""
    peer_seen: bool
    """True once a packet of the peer was opened."""
    closing: Closing | None
    """How it ends; None while it does not."""
    close_pending: bool
    """True if CONNECTION_CLOSE is to be sent."""

    # Packets
    spaces: tuple[PacketSpace, PacketSpace, PacketSpace]
    """`initial`, `handshake` and `application`, by `SpaceKind`."""
    kept: tuple[Kept, ...]
    """Packets that came before the keys that open them."""
    waited_s: float
    """How long the packet at hand was kept."""
    early: EarlyKeys | None
    """The keys of 0-RTT packets, while there are any."""
    early_streams: frozenset[int]
    """Streams that the peer opened in 0-RTT packets, for the events."""
    fixed_bit: FixedBit

    # Paths and connection IDs
    path: Path
    """The path in use."""
    arrival: Path
    """The path that the buffer at hand came on."""
    arrival_mark: int
    """What that buffer's IP header said (ECN), or that of the packet at hand, if it was kept."""
    probing: bool
    """True while a path may have a challenge to send, or a response."""
    ecn: Ecn
    local_ids: LocalIds
    remote_ids: RemoteIds
    handshake_id: bytes
    """Our Source Connection ID in long headers."""

    # What is known between visits
    token: bytes
    """What a client puts into its Initial packets (Retry, NEW_TOKEN)."""
    server: KnownServer | None
    """Where a client keeps what it learns for its next visit."""
    make_token: Callable[[Address, int], bytes] | None
    """What makes a server's tokens for a client's next visit."""

    # Streams and datagrams
    streams: StreamTable
    control: dict[ControlKey, None]
    """Control frames that wait to be sent, of streams and of the connection, in order."""
    datagrams: Datagrams | None
    """None until the first datagram: most connections have none."""

    # Recovery
    pto_count: int
    loss_timer_stale: bool
    """True if what the loss timer depends on has changed since it was set."""
    limited_at: float
    """When the congestion window or the pacer, not the application, last bounded what was in flight."""
    sent_since_receive: bool
    """True once an ack-eliciting packet was sent after the last packet arrived (RFC 9000 section 10.1)."""
    ack_delay_s: float
    """How long our acknowledgements may wait: what the peer asked for last, or what we told it."""
    asks_for_acks: bool
    """True if the peer can be asked to acknowledge more rarely, and we want to."""
    ack_requests: AckRequests
    """What was asked of each other."""

    # Who looks on
    events: deque[Event]
    counters: Counters
    watch: Watch | None
    """Who is told what happens; None for nobody."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        *,
        is_client: bool,
        random: Callable[[int], bytes],
        address: Address | None,
        local_id: bytes,
        remote_id: bytes,
        parameters: TransportParameters,
        make_id: MakeId,
    ) -> None:
        self.configuration, self.is_client, self.random = configuration, is_client, random
        self.version = self.original_version = configuration.first_version or configuration.spoken_versions[0]
        self.phase, self.is_open = Phase.HANDSHAKE, True
        self.handshake_complete = self.peer_seen = self.close_pending = False
        self.closing, self.timers = None, Timers()

        self.initial = PacketSpace(SpaceKind.INITIAL)
        self.handshake = PacketSpace(SpaceKind.HANDSHAKE)
        self.application = PacketSpace(SpaceKind.APPLICATION)
        self.spaces = self.initial, self.handshake, self.application
        self.kept, self.waited_s, self.early, self.early_streams = (), 0.0, None, frozenset()
        self.fixed_bit = FixedBit(random)

        controller = configuration.controller_factory(_FIRST_SIZE)
        rtt, spin = RttEstimator(configuration.initial_rtt_s), self.choose_spin()
        self.path = self.arrival = Path(address, _FIRST_SIZE, rtt, controller, validated=is_client, spin=spin)
        self.arrival_mark, self.probing, self.ecn = 0, False, Ecn(configuration.ecn)
        self.local_ids, self.remote_ids = LocalIds(local_id, make_id), RemoteIds(remote_id)
        self.handshake_id = local_id

        self.local_parameters, self.peer_parameters = parameters, _UNKNOWN_PARAMETERS
        self.token, self.server, self.make_token = b"", None, None

        self.streams = StreamTable(is_client=is_client, local=parameters, stream_cap=configuration.stream_window_cap)
        window = ReceiveWindow(parameters.initial_max_data, configuration.connection_window_cap)
        self.incoming, self.outgoing = Incoming(self.streams, window), Outgoing(self.streams)
        self.control, self.datagrams = self.streams.control, None

        self.pto_count, self.loss_timer_stale = 0, False
        self.limited_at, self.sent_since_receive = -1.0, False
        self.ack_delay_s, self.asks_for_acks, self.ack_requests = configuration.max_ack_delay_s, False, NOTHING_ASKED

        self.events, self.counters, self.watch = deque(), Counters(), None

    def choose_spin(self) -> SpinBit:
        """The spin bit of a new path."""
        return SpinBit.choose(self.random, is_client=self.is_client, enabled=self.configuration.spin_bit)

    def first_byte(self, path: Path) -> int:
        """The first byte of the next short header packets on a path, but for the length of their numbers."""
        keys = self.application.keys
        assert keys is not None
        return self.fixed_bit.next() | keys.phase | path.spin.value

    def use_datagrams(self) -> Datagrams:
        """The connection's datagrams, made with the first."""
        if self.datagrams is None:
            self.datagrams = Datagrams()
        return self.datagrams

    def discover_mtu(self) -> MtuDiscovery:
        """The search for the packet size of the path in use, made when it is first needed."""
        path = self.path
        if path.mtu is None:
            ceiling = max(self.configuration.max_udp_payload, self.configuration.udp_payload)
            ceiling = max(min(ceiling, self.peer_parameters.max_udp_payload_size), path.packet_size)
            path.mtu = MtuDiscovery(path.packet_size, ceiling)
        return path.mtu

    @property
    def bytes_in_flight(self) -> int:
        """Bytes sent, neither acknowledged nor lost, over all spaces."""
        initial, handshake, application = self.spaces
        return initial.sent.bytes_in_flight + handshake.sent.bytes_in_flight + application.sent.bytes_in_flight

    @property
    def streams_usable(self) -> bool:
        """True once streams may be opened: with early data before the handshake is complete (RFC 9001 4.6)."""
        return self.handshake_complete or (self.early is not None and self.phase is Phase.HANDSHAKE)

    @property
    def max_ack_delay_s(self) -> float:
        """The delay that the peer may add to its acknowledgements."""
        return self.peer_parameters.max_ack_delay_ms / 1000

    @property
    def probe_timeout_s(self) -> float:
        """PTO of the application space (RFC 9002 section 6.2.1), without backoff."""
        return self.path.rtt.timeout + self.max_ack_delay_s

    def go(self, phase: Phase) -> None:
        """Change the phase."""
        assert phase in PHASE_TRANSITIONS[self.phase], (self.phase, phase)
        self.phase = phase
        self.is_open = phase in OPEN_PHASES
        self.handshake_complete = phase in _COMPLETE_PHASES
