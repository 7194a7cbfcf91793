"""TLS inside QUIC (RFC 9001 section 4): handshake bytes to and from the session, secrets into keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.events import (
    EarlyDataAccepted,
    EarlyDataRejected,
    HandshakeCompleted,
    HandshakeConfirmed,
    PreferredAddressOffered,
    TicketReceived,
)
from fairway.quic.frames import CRYPTO, HANDSHAKE_DONE, NEW_TOKEN
from fairway.quic.handshake.early_data import EarlyKeys, begin_anew, check_kept, reject, remembered
from fairway.quic.handshake.local_parameters import ServerParameters
from fairway.quic.handshake.sessions import SavedSession
from fairway.quic.handshake.version_negotiation import check_server
from fairway.quic.limits import (
    MAX_CRYPTO_BUFFER,
    MAX_CRYPTO_FRAGMENTS,
    MAX_HANDSHAKE_BYTES,
    MAX_POST_HANDSHAKE_CRYPTO,
    MAX_TICKETS_KEPT,
)
from fairway.quic.packets.protection import ApplicationKeys, Opener, initial_secrets, make_opener, make_sealer
from fairway.quic.spaces import PacketSpace, SpaceKind
from fairway.quic.state import ConnectionState, Phase
from fairway.quic.streams.send import SendBuffer
from fairway.quic.timers import Timer
from fairway.quic.transport_parameters import TransportParameters, decode_parameters
from fairway.tls import (
    CipherSuite,
    ClientSession,
    Complete,
    CryptoData,
    EarlyData,
    Event,
    Level,
    NewSecret,
    PeerParameters,
    ServerSession,
    SessionTicket,
    TlsAlert,
)

_SPACE_OF_LEVEL = {
    Level.INITIAL: SpaceKind.INITIAL,
    Level.HANDSHAKE: SpaceKind.HANDSHAKE,
    Level.APPLICATION: SpaceKind.APPLICATION,
}
_LEVEL_OF_SPACE = {space: level for level, space in _SPACE_OF_LEVEL.items()}

NewSession = Callable[[int], ClientSession]
"""Makes a client's TLS session for a first flight in this version."""

FIRST_DESTINATION_LENGTH = 8  # RFC 9000 section 7.2: at least 8 unpredictable bytes


class Handshake:
    """Feeds the TLS session and acts on its events."""

    __slots__ = (
        "_destination", "_other_opener", "_ours", "_remembered", "_secrets", "_session", "_state", "_suite", "_tickets",
        "new_session", "original_destination", "reacted", "retry_source",
    )  # fmt: skip

    def __init__(
        self, state: ConnectionState, session: ClientSession | ServerSession, ours: ServerParameters | None = None
    ) -> None:
        self._state = state
        self._session = session
        self._ours = ours
        """What a server says of itself, and what settles the version."""
        self.new_session: NewSession | None = None
        """What a client begins again with."""
        self._destination = b""
        """What the Initial keys are made from."""
        self._other_opener: Opener | None = None
        """What opens Initial packets of the version that is not the one of `state`, once there was one."""
        self.reacted = False
        """True once a client has followed a Version Negotiation packet."""
        self._secrets: dict[bool, bytes] = {}
        self._suite = CipherSuite.AES_128_GCM_SHA256
        self._tickets = 0
        self._remembered: TransportParameters | None = None
        """What a client's early data goes by."""
        self.original_destination = b""
        """The client's first Destination Connection ID."""
        self.retry_source: bytes | None = None
        """The Source Connection ID of the Retry that a client followed."""

    def use_initial_keys(self, destination: bytes) -> None:
        """Make the Initial keys from the client's Destination Connection ID (RFC 9001 section 5.2)."""
        state = self._state
        self._destination = destination
        self._other_opener = None
        client, server = initial_secrets(state.version, destination)
        ours, theirs = (client, server) if state.is_client else (server, client)
        suite = CipherSuite.AES_128_GCM_SHA256
        state.initial.seal_with(partial(make_sealer, state.version, suite, ours))
        state.initial.open_with(partial(make_opener, state.version, suite, theirs))

    def initial_opener(self, version: int) -> Opener:
        """What opens the peer's Initial packets of this version, which may be the other one (RFC 9369 section 4.1)."""
        state = self._state
        if version == state.version:
            return state.initial.opener
        if self._other_opener is None:  # there are two versions, so there is one other
            secret = initial_secrets(version, self._destination)[state.is_client]
            self._other_opener = make_opener(version, CipherSuite.AES_128_GCM_SHA256, secret)
        return self._other_opener

    def go_over(self, version: int) -> None:
        """The handshake goes on in another version, compatible with the one that it began in (RFC 9368 section 2.3)."""
        self._state.version = version
        self.use_initial_keys(self._destination)

    def begin_again(self, version: int, now: float) -> None:
        """A client heeds Version Negotiation: nothing that it sent was heard, all begins anew (section 2.1)."""
        assert self.new_session is not None
        state = self._state
        self.reacted = True
        self._session = self.new_session(version)
        destination = state.random(FIRST_DESTINATION_LENGTH)
        state.version = state.original_version = version
        state.token = b""
        state.remote_ids.replace_first(destination)
        self.original_destination = destination
        self.use_initial_keys(destination)
        space = state.initial
        space.sent.clear()
        space.loss.due = None
        space.probes = 0
        space.crypto_out = SendBuffer()
        state.pto_count = 0
        state.loss_timer_stale = True
        if state.early is not None:
            self._remembered = None
            reject(state)
            state.events.append(EarlyDataRejected())
        self.start(now)

    def follow_retry(self, source: bytes, token: bytes) -> None:
        """A genuine Retry arrived: begin again with its token and connection ID (RFC 9000 section 17.2.5.2)."""
        state = self._state
        self.retry_source = source
        state.token = token
        state.remote_ids.replace_first(source)
        self.use_initial_keys(source)
        space = state.initial
        space.sent.clear()
        space.loss.due = None
        space.crypto_out.declared_lost(0, space.crypto_out.sent)
        state.pto_count = 0
        if state.early is not None:  # section 17.2.5.3
            begin_anew(state)

    def start(self, now: float) -> None:
        """A client begins."""
        assert isinstance(self._session, ClientSession)
        self._act(self._session.start(), now)

    def receive(self, space: PacketSpace, offset: int, data: bytes, now: float) -> None:
        """A CRYPTO frame (RFC 9000 section 7.5)."""
        if space.discarded:  # by a frame before it in the same packet, which completed the handshake
            return
        crypto = space.crypto_in
        end = offset + len(data)
        after = space.kind is SpaceKind.APPLICATION
        total = MAX_POST_HANDSHAKE_CRYPTO if after else MAX_HANDSHAKE_BYTES
        if end > crypto.end + MAX_CRYPTO_BUFFER or end > total:
            raise _exceeded("more handshake data than is kept")
        pieces = crypto.insert(offset, data)
        if not pieces and crypto.gaps > MAX_CRYPTO_FRAGMENTS:  # what is in order makes no further ones
            raise _exceeded("handshake data in too many fragments")
        for piece in pieces:
            try:
                events = self._session.receive(_LEVEL_OF_SPACE[space.kind], piece)
            except TlsAlert as alert:
                raise PeerError(
                    ErrorCode.CRYPTO_ERROR + alert.alert,
                    alert.reason,
                    frame_type=CRYPTO,
                    section=alert.section,
                ) from alert
            self._act(events, now)

    def _act(self, events: Iterable[Event], now: float) -> None:
        state = self._state
        for event in events:
            if isinstance(event, CryptoData):
                state.spaces[_SPACE_OF_LEVEL[event.level]].crypto_out.append(event.data)
            elif isinstance(event, NewSecret):
                self._take_secret(event)
            elif isinstance(event, EarlyData):
                self._early_data(event)
            elif isinstance(event, PeerParameters):
                self._take_parameters(self._read(event.data))
            elif isinstance(event, Complete):
                self._complete(event, now)
            elif isinstance(event, SessionTicket):
                self._tickets += 1
                if self._tickets <= MAX_TICKETS_KEPT:
                    state.events.append(TicketReceived(event))
                    if state.server is not None:
                        state.server.save_session(SavedSession(event, state.version, state.peer_parameters))

    def _read(self, parameters: bytes) -> TransportParameters:
        """The peer's transport parameters; a client's settle in which version the server goes on."""
        if self._ours is None:
            return decode_parameters(parameters, from_client=False)
        peer = self._ours.read(parameters)
        if self._ours.version != self._state.version:
            self.go_over(self._ours.version)
        return peer

    def _take_secret(self, event: NewSecret) -> None:
        state = self._state
        if event.level is Level.HANDSHAKE:
            space = state.handshake
            if event.sending:
                space.seal_with(partial(make_sealer, state.version, event.cipher_suite, event.secret))
            else:
                space.open_with(partial(make_opener, state.version, event.cipher_suite, event.secret))
        elif event.level is Level.APPLICATION:
            self._secrets[event.sending] = event.secret
            self._suite = event.cipher_suite
            keys = state.application.keys
            if keys is not None:
                keys.open_with(event.secret)
            elif len(self._secrets) == 2:
                state.application.keys = ApplicationKeys(
                    state.version, event.cipher_suite, self._secrets[True], self._secrets[False]
                )
                state.application.keys.first_number = state.application.next_number  # what went before was 0-RTT
        else:
            version, suite = state.original_version, event.cipher_suite
            if event.sending:
                state.early = EarlyKeys(version, sealer=make_sealer(version, suite, event.secret))
            else:
                state.early = EarlyKeys(version, opener=make_opener(version, suite, event.secret))

    def remember(self, parameters: TransportParameters) -> None:
        """A client with early data goes by what the server said last time."""
        state = self._state
        if state.early is not None:
            self._remembered = state.peer_parameters = remembered(parameters)
            state.outgoing.set_peer(state.peer_parameters)

    def _early_data(self, event: EarlyData) -> None:
        state = self._state
        if not event.accepted:
            self._remembered = None
            reject(state)
            state.events.append(EarlyDataRejected())
            return
        if not state.is_client:  # what it asks for is answered at once (RFC 9001 section 5.7)
            state.outgoing.set_peer(state.peer_parameters)
            state.application.keys = ApplicationKeys(state.version, self._suite, self._secrets[True])
        state.events.append(EarlyDataAccepted(event.alpn, event.server_name))

    def _take_parameters(self, peer: TransportParameters) -> None:
        """Check that nobody tampered with the connection IDs (RFC 9000 section 7.3), then use the rest."""
        state = self._state
        if peer.initial_source_connection_id != state.remote_ids.current:
            raise _mismatch("initial_source_connection_id")
        if state.is_client:
            check_server(
                peer.version_information,
                began=state.original_version,
                speaks=state.version,
                reacted=self.reacted,
                ours=state.configuration.spoken_versions,
            )
            if peer.original_destination_connection_id != self.original_destination:
                raise _mismatch("original_destination_connection_id")
            if peer.retry_source_connection_id != self.retry_source:
                raise _mismatch("retry_source_connection_id")
            if peer.stateless_reset_token is not None:
                state.remote_ids.set_reset_token(peer.stateless_reset_token)
            if self._remembered is not None:
                check_kept(self._remembered, peer)
            if peer.preferred_address is not None and state.remote_ids.current:
                state.remote_ids.set_preferred(peer.preferred_address.connection_id, peer.preferred_address.reset_token)
        state.peer_parameters = peer
        state.fixed_bit.greased = peer.grease_quic_bit
        state.asks_for_acks = state.configuration.ack_frequency and peer.min_ack_delay_us is not None

    def _complete(self, event: Complete, now: float) -> None:
        state = self._state
        state.go(Phase.COMPLETE)
        self.new_session = None
        state.timers.clear(Timer.HANDSHAKE)
        self._end_early_data(now)
        path = state.path
        size = min(state.configuration.udp_payload, state.peer_parameters.max_udp_payload_size)
        path.resize(size)
        state.outgoing.set_peer(state.peer_parameters)
        completed = HandshakeCompleted(
            event.alpn,
            event.cipher_suite,
            event.group,
            event.peer_certificates,
            event.resumed,
            event.server_name,
            state.version,
        )
        state.events.append(completed)
        if state.watch is not None:
            state.watch.handshake_completed(completed, now)
        if not state.is_client:
            state.control[(HANDSHAKE_DONE, 0)] = None
            if state.make_token is not None:
                state.control[(NEW_TOKEN, 0)] = None
            confirm(state)

    def _end_early_data(self, now: float) -> None:
        """A client has no more use for 0-RTT keys; a server waits for late packets (RFC 9001 section 4.9.3)."""
        state = self._state
        if state.is_client:
            state.early = None
        elif state.early is not None:
            state.timers.set(Timer.EARLY_KEYS, now + 3 * state.probe_timeout_s)


def confirm(state: ConnectionState) -> None:
    """The handshake is confirmed: its keys go (RFC 9001 section 4.1.2 and 4.9.2)."""
    if state.phase is not Phase.COMPLETE:
        return
    state.go(Phase.CONFIRMED)
    state.events.append(HandshakeConfirmed())
    # Further connection IDs are of use from now on: before, nobody may move (RFC 9000 section 9).
    for key in state.local_ids.issue(state.peer_parameters.active_connection_id_limit):
        state.control[key] = None
    if state.remote_ids.preferred is not None and (preferred := state.peer_parameters.preferred_address):
        state.events.append(PreferredAddressOffered(*preferred.addresses()))
    state.initial.discard()
    state.handshake.discard()
    state.pto_count = 0
    state.loss_timer_stale = True  # 1-RTT packets have one from now on: RFC 9002 section 6.2.1


def _exceeded(reason: str) -> PeerError:
    return PeerError(ErrorCode.CRYPTO_BUFFER_EXCEEDED, reason, frame_type=CRYPTO, section="RFC 9000 section 7.5")


def _mismatch(name: str) -> PeerError:
    return PeerError(
        ErrorCode.TRANSPORT_PARAMETER_ERROR,
        f"{name} is not what the packets carried",
        section="RFC 9000 section 7.3",
    )
