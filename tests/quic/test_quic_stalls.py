"""Small exchanges over a path that loses packets: what is lost comes soon, a small flow has a window that fits."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
from observed import observed
from quic_pair import Pair, Side, SimulatedPath

from fairway.quic import Connection, Phase, QuicConfiguration
from fairway.quic import events as ev
from fairway.quic.delivery import Delivery
from fairway.quic.frames import HandshakeDone
from fairway.quic.handshake.handshake import Handshake
from fairway.quic.packets.headers import PacketType, parse_long_header
from fairway.quic.paths.migration import Migration
from fairway.quic.receiving.dispatch import FrameHandlers
from fairway.quic.receiving.kept_packets import KeptPackets
from fairway.quic.recovery.sent import Run
from fairway.quic.state import ConnectionState
from fairway.quic.timers import Timer
from fairway.quic.transport_parameters import TransportParameters
from fairway.tls import ClientConfig, ClientSession, NamedGroup, ServerConfig, self_signed_identity

DELAY_S = 0.025
RTT_S = 2 * DELAY_S
GAP_S = 0.02
SIZE = 1200


class Lossy:
    """Two paths; `lose` names the next datagrams of one to be lost."""

    def __init__(self, **configuration: object) -> None:
        self.lose = {"there": 0, "back": 0}
        there = SimulatedPath(delay=DELAY_S, drop=lambda index, data: self._lost("there"))
        back = SimulatedPath(delay=DELAY_S, drop=lambda index, data: self._lost("back"))
        settings = QuicConfiguration(udp_payload=SIZE, max_udp_payload=SIZE, **configuration)  # type: ignore[arg-type]
        self.pair = Pair(settings, there=there, back=back, connect=False)

    def _lost(self, way: str) -> bool:
        lost = self.lose[way] > 0
        self.lose[way] -= lost
        return lost

    def connect(self) -> None:
        """Until nothing of the handshake is under way."""
        self.pair.run(lambda: self.pair.connected)
        self.pair.run_for(1.0)

    @property
    def client(self) -> Connection:
        assert self.pair.client.core is not None
        return self.pair.client.core

    @property
    def server(self) -> Connection:
        assert self.pair.server.core is not None
        return self.pair.server.core

    def write(self, size: int) -> int:
        """The client opens a stream, writes and ends it; sent at once."""
        stream_id = self.client.open_stream(unidirectional=True)
        assert stream_id is not None
        assert self.client.write(stream_id, bytes(size), end=True) == size
        self.pair.settle()
        return stream_id

    def arrived_at(self, stream_id: int) -> float:
        """When the server had all of it."""
        self.pair.run(lambda: stream_id in self.pair.server.ended)
        return self.pair.server.arrivals[stream_id][-1][0]


class TestWindow:
    @pytest.mark.parametrize("controller", ["cubic", "reno"])
    def test_a_flow_of_single_packets_that_nearly_fills_its_window_lets_it_grow(self, controller: str) -> None:
        path = Lossy(congestion=controller)
        path.connect()
        for _ in range(6):  # each costs a part of the window
            path.lose["there"] = 1
            for _ in range(5):
                path.write(1000)
                path.pair.run_for(GAP_S)
            path.pair.run_for(4 * RTT_S)
        assert path.client.path.controller.window < 3 * SIZE
        for _ in range(100):
            path.write(1000)
            path.pair.run_for(GAP_S)
        assert 5 * SIZE < path.client.path.controller.window < 8 * SIZE

    @pytest.mark.parametrize("controller", ["cubic", "reno"])
    def test_a_flow_far_below_its_window_does_not_let_it_grow(self, controller: str) -> None:
        path = Lossy(congestion=controller)
        path.connect()
        before = path.client.path.controller.window
        for _ in range(100):
            path.write(1000)
            path.pair.run_for(GAP_S)
        assert path.client.path.controller.window == before

    def test_what_was_in_flight_when_the_window_was_full_counts_although_the_application_is_silent_since(self) -> None:
        path = Lossy()
        path.connect()
        before = path.client.path.controller.window
        path.write(before - SIZE)
        path.pair.run_for(2 * RTT_S)
        assert path.client.path.controller.window > 1.5 * before


class TestProbes:
    def test_the_two_probes_carry_what_the_two_oldest_packets_did(self) -> None:
        path = Lossy()
        path.connect()
        begun = path.pair.now
        path.lose["there"] = 2
        first, second = path.write(1000), path.write(1000)
        timeout = path.client.path.rtt.timeout + 0.025
        assert path.arrived_at(first) <= begun + timeout + DELAY_S + 0.001
        assert path.arrived_at(second) <= begun + timeout + DELAY_S + 0.001

    def test_an_acknowledged_1_rtt_packet_confirms_the_handshake_without_handshake_done(self) -> None:
        path = Lossy()
        pair = path.pair
        pair.run(lambda: bool(pair.client.of(ev.HandshakeCompleted)))
        pair.settle()
        path.lose["back"] = 1  # with HANDSHAKE_DONE
        pair.run(lambda: path.lose["back"] == 0)
        path.write(100)
        begun = pair.now
        pair.run(lambda: path.client.phase is Phase.CONFIRMED)
        assert pair.now <= begun + RTT_S + 0.026

    def test_a_lost_request_waits_for_no_more_than_one_probe_timeout_where_handshake_done_is_lost_too(self) -> None:
        path = Lossy()
        pair = path.pair
        pair.run(lambda: bool(pair.client.of(ev.HandshakeCompleted)))
        pair.settle()
        begun = pair.now
        path.lose["there"], path.lose["back"] = 1, 1
        request = path.write(100)
        timeout = path.client.path.rtt.timeout
        assert path.arrived_at(request) <= begun + timeout + DELAY_S + 0.026

    def test_a_probe_says_again_what_has_arrived(self) -> None:
        lossy = Lossy()
        lossy.connect()
        stream_id = lossy.server.open_stream(unidirectional=True)
        assert stream_id is not None
        lossy.server.write(stream_id, bytes(100), end=True)
        lossy.pair.settle()
        lossy.lose = {"there": 1, "back": 1000}  # the acknowledgement, and whatever the server says in doubt
        lossy.pair.run(lambda: not lossy.lose["there"])
        assert stream_id in lossy.pair.client.ended
        lossy.lose["there"] = 1
        lossy.write(100)
        lossy.pair.run(lambda: lossy.server.statistics()["stream_bytes_kept"] == 0, limit_s=5)

    def test_1_rtt_packets_have_a_timer_once_the_handshake_is_confirmed_and_not_before(self) -> None:
        state = ConnectionState(
            QuicConfiguration(),
            is_client=True,
            random=os.urandom,
            address=None,
            local_id=bytes(8),
            remote_id=bytes(8),
            parameters=TransportParameters(),
            make_id=lambda: (os.urandom(8), os.urandom(16)),
        )
        delivery = Delivery(state)
        session = ClientSession(
            ClientConfig("localhost", ("test",)), b"", random=os.urandom, now=lambda: datetime.now(UTC)
        )
        handlers = FrameHandlers(state, delivery, Handshake(state, session), Migration(state))
        space = state.application
        state.go(Phase.COMPLETE)
        state.handshake.largest_acked = 0  # a server that acknowledges the last flight before it says HANDSHAKE_DONE
        space.sent.add(Run(0, 1, SIZE, 10.0))
        space.last_eliciting_at = 10.0
        state.loss_timer_stale = True
        delivery.settle_timer()
        assert state.timers.get(Timer.LOSS) is None
        handlers.handshake_done(HandshakeDone(), space, 10.1)
        delivery.settle_timer()
        assert state.timers.get(Timer.LOSS) == pytest.approx(10.0 + state.probe_timeout_s)


def test_both_probes_of_a_handshake_carry_what_the_peer_lacks() -> None:
    """Of two datagrams that follow each other the first is lost, again and again: the second must do."""
    back = SimulatedPath(delay=0.01)
    sent: list[float] = []

    def first_of_each(index: int, data: bytes) -> bool:
        sent.append(pair.now)
        return len(sent) < 2 or sent[-2] < pair.now

    back.drop = first_of_each
    pair, logs = observed(there=SimulatedPath(delay=0.01), back=back, connect=False)
    pair.run(lambda: pair.connected, limit_s=20)
    initials = [
        [frame["frame_type"] for frame in event["frames"]]
        for event in logs.events("server", "packet_sent")
        if event["header"]["packet_type"] == "initial"
    ]
    assert len(initials) > 1
    assert not any("ping" in frames for frames in initials)


def test_a_probe_of_the_handshake_says_again_what_has_arrived() -> None:
    """The server's first flight is lost, and with it the only acknowledgement; what the client repeats is lost too."""
    there = SimulatedPath(delay=0.01, drop=lambda index, data: index in (2, 3))
    back = SimulatedPath(delay=0.01, drop=lambda index, data: index < 2)
    pair, logs = observed(there=there, back=back, connect=False)
    pair.run(lambda: pair.connected, limit_s=20)
    initials = [
        [frame["frame_type"] for frame in event["frames"]]
        for event in logs.events("server", "packet_sent")
        if event["header"]["packet_type"] == "initial"
    ]
    assert len(initials[2:]) >= 2
    assert all("ack" in frames for frames in initials[2:])


ACKNOWLEDGEMENT = 70
"""No Handshake packet that carries nothing else is longer."""


def handshake_bytes(datagram: bytes) -> int:
    """How long the Handshake packet in a datagram is; 0: there is none."""
    offset = 0
    while offset < len(datagram) and datagram[offset] & 0x80:
        header = parse_long_header(datagram, offset, len(datagram))
        if header.type is PacketType.HANDSHAKE:
            return header.end - offset
        offset = header.end
    return 0


class LosesFlights:
    """Loses so many datagrams with a Handshake packet that is more than an acknowledgement, none of the `first`."""

    def __init__(self, times: int, first: int = 0) -> None:
        self.left, self.first = times, first

    def __call__(self, index: int, datagram: bytes) -> bool:
        lost = self.left > 0 and index >= self.first and handshake_bytes(datagram) > ACKNOWLEDGEMENT
        self.left -= lost
        return lost


class CountsAsking:
    """Loses nothing, and counts the datagrams with a Handshake packet."""

    asked = 0

    def __call__(self, index: int, datagram: bytes) -> bool:
        self.asked += handshake_bytes(datagram) > 0
        return False


class TestAFinishedThatIsLost:
    """ngtcp2's client is known to have it lost five times in a row, each wait twice as long as the one before."""

    TIMES = 10

    def complete(self, *, asks: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[float, int]:
        """When the server is done, and how many Handshake packets it sent in all; the client writes all the time."""
        if not asks:
            monkeypatch.setattr(KeptPackets, "ask", lambda *of: None)
        count = CountsAsking()
        there = SimulatedPath(delay=DELAY_S, drop=LosesFlights(self.TIMES))
        back = SimulatedPath(delay=DELAY_S, drop=count)
        pair = Pair(QuicConfiguration(handshake_timeout_s=60.0), there=there, back=back, connect=False)
        pair.run(lambda: bool(pair.client.of(ev.HandshakeCompleted)))
        assert pair.client.core is not None
        stream_id = pair.client.core.open_stream()
        assert stream_id is not None
        while not pair.server.of(ev.HandshakeCompleted):
            pair.client.core.write(stream_id, b"more")
            pair.run_for(0.05)
        return pair.now - 1000.0, count.asked

    def test_is_asked_for_when_the_client_goes_on_without_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        soon, asked = self.complete(asks=True, monkeypatch=monkeypatch)
        late, silent = self.complete(asks=False, monkeypatch=monkeypatch)
        assert soon < 0.6 * late
        assert asked <= silent + self.TIMES

    def test_is_asked_for_once_a_probe_timeout_whatever_the_client_sends(self) -> None:
        sent: list[int] = []
        there = SimulatedPath(delay=DELAY_S, drop=lambda index, datagram: handshake_bytes(datagram) > 0)
        back = SimulatedPath(delay=DELAY_S, drop=lambda index, datagram: bool(sent.append(len(datagram))))
        pair = Pair(QuicConfiguration(handshake_timeout_s=60.0), there=there, back=back, connect=False)
        pair.run(lambda: bool(pair.client.of(ev.HandshakeCompleted)))
        assert pair.client.core is not None
        pair.run_for(0.01)
        before, destination = len(sent), pair.client.core._state.remote_ids.current
        for number in range(1000):
            pair.inject(bytes((0x40 | number & 3,)) + destination + bytes(30), to_server=True)
        assert len(sent) - before <= 2


MANY_NAMES = ("localhost", *(f"name-{number}.example" for number in range(100)))
"""Those of a certificate that goes over several datagrams."""


class TestAServersFlightThatIsLost:
    """qh3's server is known to have it lost four times in a row, each wait three times as long as the one before."""

    TIMES = 12

    def complete(self, *, asks: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[float, int]:
        """When the client is done, and how many Handshake packets it sent in all; the server goes on all the time."""
        if not asks:
            monkeypatch.setattr(KeptPackets, "ask", lambda *of: None)
        count = CountsAsking()
        drop = LosesFlights(self.TIMES, first=1)  # the first datagram of the flight has the ServerHello
        there, back = SimulatedPath(delay=DELAY_S, drop=count), SimulatedPath(delay=DELAY_S, drop=drop)
        pair = Pair(
            QuicConfiguration(handshake_timeout_s=60.0),
            there=there,
            back=back,
            client_tls=ClientConfig("localhost", ("test",), verify=False, groups=(NamedGroup.X25519,)),
            server_tls=ServerConfig((self_signed_identity(MANY_NAMES, "ed25519"),), ("test",)),
            connect=False,
        )
        while not pair.client.of(ev.HandshakeCompleted):
            pair.run_for(0.05)
            pair.inject(short_packet(pair), to_server=False)
        assert not drop.left
        return pair.now - 1000.0, count.asked

    def test_is_asked_for_when_the_server_goes_on_without_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        soon, asked = self.complete(asks=True, monkeypatch=monkeypatch)
        late, silent = self.complete(asks=False, monkeypatch=monkeypatch)
        assert soon < 0.6 * late
        assert asked <= silent + 2 * self.TIMES


def short_packet(pair: Pair) -> bytes:
    """What looks to the client like a 1-RTT packet of the server."""
    assert pair.client.core is not None
    return b"\x41" + pair.client.core._state.handshake_id + bytes(30)


class TestPacketsThatAreKeptForTheirKeys:
    """How long they are kept is no part of a round trip (RFC 9000 section 13.2.5, RFC 9002 section 5.3)."""

    def test_the_server_is_told_how_long_a_handshake_packet_was_kept(self) -> None:
        """Half of the ServerHello is lost and comes again; what followed it arrived at once."""
        pair = slow_pair(back=SimulatedPath(delay=DELAY_S, drop=lambda index, datagram: index == 0))
        pair.run(lambda: pair.connected)
        agrees(pair.server)

    def test_the_client_is_told_how_long_a_1_rtt_packet_was_kept(self) -> None:
        """The client's Finished is lost for a second; the first packet behind it arrived, and waited for it."""
        short = 0

        def drop(index: int, datagram: bytes) -> bool:
            nonlocal short
            if datagram[0] & 0x80:
                return pair.now < 1001.0 and handshake_bytes(datagram) > ACKNOWLEDGEMENT
            short += 1
            return short > 1 and not pair.server.of(ev.HandshakeCompleted)

        pair = slow_pair(there=SimulatedPath(delay=DELAY_S, drop=drop))
        pair.run(lambda: bool(pair.client.of(ev.HandshakeCompleted)))
        assert pair.client.core is not None
        stream_id = pair.client.core.open_stream()
        assert stream_id is not None
        pair.client.core.write(stream_id, b"more", end=True)
        pair.run(lambda: pair.connected)
        pair.run_for(2 * RTT_S)
        agrees(pair.client)


def test_an_acknowledgement_that_is_repeated_is_no_first_round_trip() -> None:
    """It was sent at once, and lost; the probe that says it again comes with a client's timeout."""
    there = SimulatedPath(delay=DELAY_S, drop=lambda index, datagram: index == 2)
    back = SimulatedPath(delay=DELAY_S, drop=lambda index, datagram: 0 < index < 4)
    pair = slow_pair(there=there, back=back)
    pair.run(lambda: pair.connected)
    assert there.lost == 1
    agrees(pair.server)


def agrees(side: Side) -> None:
    """The path's round trip is what this side takes it for."""
    assert side.core is not None
    assert side.core.statistics()["smoothed_rtt_s"] == pytest.approx(RTT_S, rel=0.05)


def slow_pair(**paths: SimulatedPath) -> Pair:
    """Both ways take their time, and the server's flight fills four datagrams."""
    default = {"there": SimulatedPath(delay=DELAY_S), "back": SimulatedPath(delay=DELAY_S)}
    tls = ServerConfig((self_signed_identity(MANY_NAMES, "ed25519"),), ("test",))
    return Pair(server_tls=tls, connect=False, **(default | paths))
