"""One QUIC connection without I/O: bytes and time in, bytes and events out.

    connection.receive(buffer, segment, now)      datagrams that arrived
    connection.transmit(now)                      datagrams to send, again until it gives None
    connection.next_timeout()                     when to call `handle_timeout` at the latest
    connection.handle_timeout(now)
    connection.events()                           what happened

The rooms do the work: `receiving` takes in, `sending` gives out, `delivery` acts on acknowledgements, `handshake`
drives TLS, `paths` follows the peer, `closing` ends. This class only passes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from fairway.quic import closing as ending
from fairway.quic.calls.datagrams import DatagramCalls
from fairway.quic.calls.paths import PathCalls
from fairway.quic.calls.streams import StreamCalls
from fairway.quic.configuration import QuicConfiguration
from fairway.quic.connection_ids import LOCAL_LENGTH, MakeId
from fairway.quic.delivery import PROBE_PACKETS, Delivery
from fairway.quic.errors import ClosedBy, Closing, PeerError
from fairway.quic.events import DatagramReceived, Event, StreamOpened
from fairway.quic.frames import PING
from fairway.quic.handshake.handshake import FIRST_DESTINATION_LENGTH, Handshake
from fairway.quic.handshake.local_parameters import (
    ServerParameters,
    of_this_connection,
    preferred_address,
    shared_parameters,
    ticket_context,
)
from fairway.quic.handshake.sessions import KnownServer
from fairway.quic.observe.observer import Observer, Watch
from fairway.quic.packets.headers import Buffer
from fairway.quic.paths.migration import Migration
from fairway.quic.paths.path import Address, Local
from fairway.quic.receiving.dispatch import FrameHandlers
from fairway.quic.receiving.receiver import Receiver
from fairway.quic.sending.transmitter import MAX_SEGMENTS, Transmit, Transmitter
from fairway.quic.state import ConnectionState, Phase
from fairway.quic.statistics import statistics
from fairway.quic.timeouts import Timeouts
from fairway.quic.timers import Timer
from fairway.quic.transport_parameters import TransportParameters, encode_ids
from fairway.tls import ClientConfig, ClientSession, ServerConfig, ServerSession

Random = Callable[[int], bytes]
WallClock = Callable[[], datetime]

RESET_TOKEN_LENGTH = 16


class Connection(StreamCalls, DatagramCalls, PathCalls):
    """A client's or a server's end of a connection; make one with `client` or `server`.

    `now` is always seconds of one monotonic clock; `random` gives so many unpredictable bytes.
    """

    __slots__ = ("__weakref__", "_handshake", "_migration", "_receiver", "_timeouts", "_transmitter")

    def __init__(
        self,
        state: ConnectionState,
        session: ClientSession | ServerSession,
        original_destination: bytes,
        ours: ServerParameters | None = None,
    ) -> None:
        super().__init__(state)
        delivery = Delivery(state)
        self._handshake = Handshake(state, session, ours)
        self._handshake.original_destination = original_destination
        self._handshake.use_initial_keys(original_destination)
        self._migration = Migration(state)
        handlers = FrameHandlers(state, delivery, self._handshake, self._migration)
        self._receiver = Receiver(state, delivery, self._handshake, handlers, self._migration)
        self._transmitter = Transmitter(state, self._migration)
        self._timeouts = Timeouts(state, delivery, self._migration)

    @classmethod
    def client(
        cls,
        tls: ClientConfig,
        configuration: QuicConfiguration | None = None,
        *,
        now: float,
        random: Random,
        clock: WallClock,
        address: Address | None = None,
        observers: Sequence[Observer] = (),
        server: KnownServer | None = None,
        early_data: bool = False,
    ) -> Connection:
        """A client that begins its handshake at once: call `transmit`. It makes use of what it knows of `server`.

        With `early_data` streams can be used at once where the server may take them (`early`): what is written on them
        before the handshake is complete may be replayed by others.
        """
        configuration = configuration or QuicConfiguration()
        local_id = random(LOCAL_LENGTH)
        destination = random(FIRST_DESTINATION_LENGTH)
        saved = None if server is None else server.take_session()
        parameters, encoded = shared_parameters(configuration)
        encoded += encode_ids(local_id)
        state = ConnectionState(
            configuration,
            is_client=True,
            random=random,
            address=address,
            local_id=local_id,
            remote_id=destination,
            parameters=parameters,
            make_id=lambda: (random(LOCAL_LENGTH), random(RESET_TOKEN_LENGTH)),
        )
        if saved is not None and saved.version in configuration.spoken_versions:
            state.version = state.original_version = saved.version  # a ticket is for one: RFC 9369 section 5
        if server is not None:
            state.server = server
            state.token = server.take_token(state.version)

        def session(version: int) -> ClientSession:
            return ClientSession(
                tls,
                encoded + of_this_connection(configuration, version, random),
                random=random,
                now=clock,
                ticket=None if saved is None or saved.version != version else saved.ticket,
                early_data=early_data,
                tickets=server is not None,
            )

        connection = cls(state, session(state.version), destination)
        connection._handshake.new_session = session
        connection._begin(now, observers)
        connection._handshake.start(now)
        if saved is not None:
            connection._handshake.remember(saved.parameters)
        return connection

    @classmethod
    def server(
        cls,
        tls: ServerConfig,
        configuration: QuicConfiguration | None = None,
        *,
        now: float,
        random: Random,
        clock: WallClock,
        destination: bytes,
        source: bytes,
        version: int,
        address: Address | None = None,
        observers: Sequence[Observer] = (),
        validated: bool = False,
        before_retry: bytes | None = None,
        make_token: Callable[[Address, int], bytes] | None = None,
        make_id: MakeId | None = None,
    ) -> Connection:
        """A server's end for a client's first Initial packet, whose connection IDs these are; pass it to `receive`.

        `validated` is whether a token proved the address; `before_retry` the first Destination Connection ID of all,
        if the packet follows a Retry. `make_token` makes what NEW_TOKEN gives the client for its next visit.
        `make_id` makes its connection IDs, all of one length, and their stateless reset tokens (section 10.3.2).
        """
        configuration = configuration or QuicConfiguration()
        if make_id is None:

            def make_id() -> tuple[bytes, bytes]:
                return random(LOCAL_LENGTH), random(RESET_TOKEN_LENGTH)

        local_id, token = make_id()
        parameters, encoded = shared_parameters(configuration)
        state = ConnectionState(
            configuration,
            is_client=False,
            random=random,
            address=address,
            local_id=local_id,
            remote_id=source,
            parameters=parameters,
            make_id=make_id,
        )
        state.version = state.original_version = version
        state.path.validated = validated
        state.make_token = make_token
        if configuration.preferred_ipv4 or configuration.preferred_ipv6:
            encoded += preferred_address(configuration, state.local_ids.issue_first())
        if before_retry is None:
            encoded += encode_ids(local_id, destination, token)
        else:  # section 7.3
            encoded += encode_ids(local_id, before_retry, token, destination)
        ours = ServerParameters(configuration, encoded, version, random)
        session = ServerSession(
            tls,
            ours,
            random=random,
            now=clock,
            context=ticket_context(configuration, version),
            new_context=ours.ticket_context,
        )
        connection = cls(state, session, destination, ours)
        connection._begin(now, observers)
        return connection

    def _begin(self, now: float, observers: Sequence[Observer]) -> None:
        state = self._state
        if observers:
            state.watch = Watch(state, observers)
            state.watch.started(self._handshake.original_destination, now)
        state.timers.set(Timer.HANDSHAKE, now + state.configuration.handshake_timeout_s)
        state.initial.last_eliciting_at = now
        ending.restart_idle(state, now)

    # Input

    def receive(
        self,
        buffer: Buffer,
        segment: int,
        now: float,
        address: Address | None = None,
        local: Local = None,
        mark: int = 0,
    ) -> None:
        """Take in datagrams of `segment` bytes each, one after the other; the last may be shorter.

        `address` is who sent them, None for the peer as it is known; `local` is which socket they came to,
        `mark` the ECN bits of their IP headers.
        """
        try:
            self._receiver.receive(buffer, segment, now, address, local, mark)
        except PeerError as error:
            self._fail(error, now)
        if self._state.watch is not None:
            self._state.watch.settled(now)

    def handle_timeout(self, now: float) -> None:
        """Time has passed: `next_timeout` was reached."""
        self._timeouts.handle(now)
        if self._state.watch is not None:
            self._state.watch.settled(now)

    # Output

    def transmit(self, now: float, max_segments: int = MAX_SEGMENTS) -> Transmit | None:
        """Datagrams to send now, at most so many of them; None if there are none. Call until None, or no `more`."""
        try:
            out = self._transmitter.transmit(now, max_segments)
        except PeerError as error:
            self._fail(error, now)
            out = self._transmitter.transmit(now, max_segments)
        if self._state.watch is not None:
            self._state.watch.settled(now)
        return out

    def next_timeout(self) -> float | None:
        """When `handle_timeout` and `transmit` have to be called at the latest; None for never."""
        return self._timeouts.next()

    def events(self) -> list[Event]:
        """What happened since the last call, in order."""
        state = self._state
        if not (state.events or state.streams.opened or state.datagrams):
            return []
        early = state.early_streams
        events: list[Event] = [StreamOpened(stream_id, stream_id in early) for stream_id in state.streams.opened]
        if early:
            state.early_streams = frozenset()
        state.streams.opened.clear()
        events += state.events
        state.events.clear()
        if state.datagrams is not None:
            at = len(events) - (state.closing is not None and bool(events))  # nothing follows the last event of all
            events[at:at] = [DatagramReceived(data) for data in state.datagrams.received.take_all()]
        return events

    def connection_id_changes(self) -> tuple[list[bytes], list[bytes]]:
        """Connection IDs by which packets find this connection: new ones, and those no longer used."""
        ids = self._state.local_ids
        added, removed = ids.added, ids.removed
        ids.added, ids.removed = [], []
        return added, removed

    # The connection

    def close(self, now: float, code: int = 0, reason: str = "", *, application: bool = True) -> None:
        """End the connection at once; what was not acknowledged may be lost."""
        ending.close(self._state, Closing(ClosedBy.LOCAL, code, reason, 0, application), now)

    def network_failed(self, now: float, reason: str) -> None:
        """The socket is gone: end without sending."""
        if self._state.is_open:
            ending.abandon(self._state, Closing(ClosedBy.TRANSPORT, reason=reason), now)

    def network_returned(self) -> None:
        """The way to the peer was gone and is there again: probe now, whatever the timer says."""
        self._state.pto_count = 0
        self._state.application.probes = PROBE_PACKETS

    def ping(self) -> None:
        """Ask the peer for an acknowledgement."""
        self._state.control[(PING, 0)] = None

    def update_keys(self, now: float) -> bool:
        """Go to the next key phase; False if that is not allowed yet (RFC 9001 section 6.1)."""
        space = self._state.application
        if space.keys is None or self._state.phase is not Phase.CONFIRMED or space.keys.awaiting:
            return False
        space.keys.update(space.next_number, None, float("inf"))
        return True

    @property
    def random(self) -> Random:
        """The source of unpredictable bytes that the connection was made with."""
        return self._state.random

    @property
    def heard(self) -> bool:
        """True once a genuine packet of the peer has arrived."""
        return self._state.peer_seen

    @property
    def handshake_complete(self) -> bool:
        """True while streams may be used."""
        return self._state.handshake_complete

    @property
    def early(self) -> bool:
        """True while the handshake is not complete and streams may be used all the same (0-RTT)."""
        return self._state.streams_usable and not self._state.handshake_complete

    @property
    def phase(self) -> Phase:
        """Where in its life the connection is."""
        return self._state.phase

    @property
    def closing(self) -> Closing | None:
        """How the connection ended; None while it has not."""
        return self._state.closing

    @property
    def peer_parameters(self) -> TransportParameters:
        """The peer's transport parameters, once known."""
        return self._state.peer_parameters

    def statistics(self) -> dict[str, float | int]:
        """Figures about the connection as it is now; `fairway.quic.statistics.KEYS` says what each means."""
        return statistics(self._state)

    def _fail(self, error: PeerError, now: float) -> None:
        closing = Closing(ClosedBy.LOCAL, error.code, str(error.reason), error.frame_type)
        ending.close(self._state, closing, now)
