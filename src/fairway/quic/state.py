"""What the rooms of one connection share: its components, its phase, and nothing that decides."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

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
from fairway.quic.streams.table import StreamTable
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


class ConnectionState:
    """Everything that one connection knows."""

    __slots__ = (
        "ack_delay_s", "ack_request_heard", "ack_requests", "acks_asked", "application", "arrival",
        "arrival_mark", "asks_for_acks", "close_pending", "closing", "configuration", "control", "counters",
        "datagrams", "early", "early_streams", "ecn", "events", "fixed_bit", "forged", "handshake",
        "handshake_complete", "handshake_id", "incoming", "initial", "is_client", "is_open", "limited_at", "local_ids",
        "local_parameters", "loss_timer_stale", "make_token", "original_version", "outgoing", "path", "peer_parameters",
        "peer_seen", "phase", "probing", "pto_count", "random", "remote_ids", "resets", "resets_since",
        "sent_since_receive", "server", "spaces", "stash", "streams", "timers", "token", "version", "watch",
    )  # fmt: skip

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
        self.configuration = configuration
        self.is_client = is_client
        self.random = random
        self.version = configuration.first_version or configuration.spoken_versions[0]
        self.original_version = self.version
        """What the client began with: another than `version` after compatible negotiation (RFC 9368 section 2.3)."""
        self.phase = Phase.HANDSHAKE
        self.is_open = True
        """True until the connection begins to end."""
        self.handshake_complete = False
        """True while the application may send (RFC 9001 section 4.1.1)."""
        self.initial = PacketSpace(SpaceKind.INITIAL)
        self.handshake = PacketSpace(SpaceKind.HANDSHAKE)
        self.application = PacketSpace(SpaceKind.APPLICATION)
        self.spaces = (self.initial, self.handshake, self.application)
        """The same three, by `SpaceKind`."""
        rtt = RttEstimator(configuration.initial_rtt_s)
        size = 1200  # until the handshake is complete: RFC 9000 section 14
        self.path = Path(
            address, size, rtt, configuration.controller_factory(size), validated=is_client, spin=self.choose_spin()
        )
        self.arrival = self.path
        """The path that the buffer at hand came on."""
        self.arrival_mark = 0
        """What that buffer's IP header said (ECN)."""
        self.ecn = Ecn(configuration.ecn)
        self.fixed_bit = FixedBit(random)
        self.probing = False
        """True while a path may have a challenge to send, or a response."""
        self.local_ids = LocalIds(local_id, make_id)
        self.remote_ids = RemoteIds(remote_id)
        self.handshake_id = local_id
        """Our Source Connection ID in long headers."""
        self.local_parameters = parameters
        self.peer_parameters = _UNKNOWN_PARAMETERS
        self.streams = StreamTable(
            is_client=is_client,
            local=parameters,
            stream_cap=configuration.stream_window_cap,
        )
        self.incoming = Incoming(
            self.streams, ReceiveWindow(parameters.initial_max_data, configuration.connection_window_cap)
        )
        self.outgoing = Outgoing(self.streams)
        self.control = self.streams.control
        """Control frames that wait to be sent, of streams and of the connection, in order."""
        self.ack_delay_s = configuration.max_ack_delay_s
        """How long our acknowledgements may wait: what the peer asked for last, or what we told it."""
        self.ack_request_heard = -1
        """The sequence number of the peer's last ACK_FREQUENCY frame."""
        self.ack_requests = 0
        """ACK_FREQUENCY frames that we have sent."""
        self.acks_asked = 0
        """The threshold that was asked for in the last of them; 0 if nothing was."""
        self.asks_for_acks = False
        """True if the peer can be asked, and we want to."""
        self.events: deque[Event] = deque()
        self.datagrams: Datagrams | None = None
        """None until the first datagram: most connections have none."""
        self.timers = Timers()
        self.token = b""
        """What a client puts into its Initial packets (Retry, NEW_TOKEN)."""
        self.server: KnownServer | None = None
        """Where a client keeps what it learns for its next visit."""
        self.make_token: Callable[[Address, int], bytes] | None = None
        """What makes a server's tokens for a client's next visit."""
        self.peer_seen = False
        """True once a packet of the peer was opened."""
        self.pto_count = 0
        self.loss_timer_stale = False
        """True if what the loss timer depends on has changed since it was set."""
        self.limited_at = -1.0
        """When the congestion window or the pacer, not the application, last bounded what was in flight."""
        self.sent_since_receive = False
        """True once an ack-eliciting packet was sent after the last packet arrived (RFC 9000 section 10.1)."""
        self.closing: Closing | None = None
        self.close_pending = False
        self.early: EarlyKeys | None = None
        """The keys of 0-RTT packets, while there are any."""
        self.early_streams: set[int] = set()
        """Streams that the peer opened in 0-RTT packets, for the events."""
        self.stash: list[bytes] = []
        """Packets that arrived before the keys that open them."""
        self.forged = 0
        """Packets that failed authentication, over the connection's life (RFC 9001 section 6.6)."""
        self.counters = Counters()
        self.watch: Watch | None = None
        """Who is told what happens; None for nobody."""
        self.resets_since = 0.0
        self.resets = 0

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
