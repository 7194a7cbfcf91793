"""0-RTT (RFC 9001 section 4.6): what is written before the handshake is complete arrives once, accepted or not."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from quic_pair import Pair, SimulatedPath, identity

from fairway.quic import Endpoint, KnownServer, MemorySessionStore, QuicConfiguration
from fairway.quic import events as ev
from fairway.quic.packets.headers import LONG_HEADER, PacketType, parse_long_header
from fairway.tls import ServerConfig, Tickets

SERVER = ("localhost", 443, ("test",))
CONFIGURATION = QuicConfiguration(handshake_timeout_s=120.0)


def early_tls() -> ServerConfig:
    return ServerConfig((identity(),), ("test",), tickets=Tickets(early_data=True))


def payload(size: int) -> bytes:
    return hashlib.shake_128(str(size).encode()).digest(size)


def first_visit(store: MemorySessionStore, tls: ServerConfig | None = None, **options: object) -> Pair:
    pair = Pair(server=KnownServer(store, SERVER), server_tls=tls or early_tls(), **options)  # type: ignore[arg-type]
    pair.run_for(3.0)
    return pair


def again(store: MemorySessionStore, before: Pair, **options: object) -> Pair:
    """Another visit to the same endpoint, with early data."""
    options = {"endpoint": before.endpoint, "now": before.now, "seed": 99, "connect": False, **options}
    return Pair(server=KnownServer(store, SERVER), early_data=True, **options)  # type: ignore[arg-type]


def other_endpoint(before: Pair, tls: ServerConfig, configuration: QuicConfiguration = CONFIGURATION) -> Endpoint:
    return Endpoint(tls, configuration, random=before.rng.randbytes, clock=before.clock)


def write(pair: Pair, *sizes: int) -> dict[int, bytes]:
    """Open streams at once and write on them."""
    core = pair.client.core
    assert core is not None
    written = {}
    for size in sizes:
        stream = core.open_stream()
        assert stream is not None
        data = written[stream] = payload(size)
        core.write(stream, data, end=True)
    return written


def packets(data: bytes) -> list[PacketType | None]:
    """The packets of a datagram, as far as their headers are long."""
    found, at = [], 0
    while at < len(data) and data[at] & LONG_HEADER:
        header = parse_long_header(data, at, len(data))
        found.append(header.type)
        at = header.end
    return found


def arrive(pair: Pair, written: dict[int, bytes]) -> None:
    pair.run(lambda: set(written) <= pair.server.ended)
    assert {stream: bytes(pair.server.received[stream]) for stream in written} == written


class TestAccepted:
    def test_a_request_is_there_after_half_a_round_trip_and_answered_after_one(self) -> None:
        store = MemorySessionStore()
        pair = again(store, first_visit(store))
        begun = pair.now
        written = write(pair, 500)
        arrive(pair, written)
        assert pair.now - begun == pytest.approx(0.01, abs=0.001)
        assert pair.server.core is not None
        assert not pair.server.core.handshake_complete
        pair.server.core.write(0, b"an answer", end=True)
        pair.run(lambda: 0 in pair.client.ended)
        assert pair.client.received[0] == b"an answer"
        assert pair.now - begun == pytest.approx(0.02, abs=0.001)

    def test_an_acknowledgement_that_was_kept_for_its_keys_makes_no_round_trip_longer(self) -> None:
        """The ServerHello is lost; the answer behind it acknowledges the request (RFC 9002 section 5.3)."""
        store = MemorySessionStore()
        pair = again(store, first_visit(store))
        begun = pair.now
        pair.back.drop = lambda _, data: PacketType.INITIAL in packets(data) and pair.now < begun + 0.5
        arrive(pair, write(pair, 500))
        assert pair.server.core is not None
        pair.server.core.write(0, b"an answer", end=True)
        pair.run(lambda: 0 in pair.client.ended)
        assert pair.now > begun + 0.5
        assert pair.client.core is not None
        assert pair.client.core.statistics()["smoothed_rtt_s"] == pytest.approx(0.02, rel=0.05)

    def test_streams_that_were_opened_early_are_marked(self) -> None:
        store = MemorySessionStore()
        pair = again(store, first_visit(store))
        arrive(pair, write(pair, 100, 200))
        pair.run(lambda: pair.connected)
        pair.run_for(1.0)
        arrive(pair, write(pair, 300))
        opened = [event for event in pair.server.of(ev.StreamOpened) if isinstance(event, ev.StreamOpened)]
        assert [(event.stream_id, event.early) for event in opened] == [(0, True), (4, True), (8, False)]
        assert len(pair.server.of(ev.EarlyDataAccepted)) == len(pair.client.of(ev.EarlyDataAccepted)) == 1

    def test_a_small_request_goes_in_the_datagram_of_the_client_hello(self) -> None:
        store = MemorySessionStore()
        pair = again(store, first_visit(store))
        write(pair, 100)
        seen: list[list[PacketType | None]] = []
        pair.there.drop = lambda _, data: bool(seen.append(packets(data)))
        pair.settle()
        assert PacketType.ZERO_RTT in seen[-1]
        assert PacketType.INITIAL in seen[-1]

    def test_what_follows_it_fills_the_initial_window_at_once(self) -> None:
        """RFC 9002 section 7.7: bursts of the initial window, also where the first packet was a small one."""
        store = MemorySessionStore()
        pair = again(store, first_visit(store))
        write(pair, 100)
        sizes: list[int] = []
        pair.there.drop = lambda _, data: bool(sizes.append(len(data)))
        pair.settle()
        write(pair, 20_000)
        pair.settle()
        assert pair.client.core is not None
        assert 12_000 - 1200 < sum(sizes) <= 12_000

    @pytest.mark.parametrize("seed", range(50, 62))
    def test_under_loss_reordering_and_duplication_all_arrives_once(self, seed: int) -> None:
        store = MemorySessionStore()
        path = SimulatedPath(loss=0.15, duplication=0.1, jitter=0.02)
        pair = again(store, first_visit(store), there=path, back=replace(path), seed=seed)
        written = write(pair, 0, 1, 3000, 60_000)
        arrive(pair, written)
        pair.run(lambda: pair.connected)
        arrive(pair, write(pair, 20_000))

    def test_packets_that_overtake_the_client_hello_wait_for_it(self) -> None:
        store = MemorySessionStore()
        before = first_visit(store)
        pair = again(store, before)
        held: list[bytes] = []

        def hold(_: int, data: bytes) -> bool:
            if len(held) < 2 and PacketType.INITIAL in packets(data):
                held.append(data)
                return True
            return False

        pair.there.drop = hold
        written = write(pair, 4000)
        pair.run_for(0.015)
        assert pair.server.core is None
        for data in held:
            pair.inject(data, to_server=True)
        pair.there.drop = None
        assert pair.server.core is not None
        assert len(pair.server.received.get(0, b"")) > 1000
        arrive(pair, written)

    def test_a_retry_in_between_delays_it_only(self) -> None:
        store = MemorySessionStore()
        before = first_visit(store, retry=True)
        pair = again(store, before)
        pair.links[None].address = ("198.51.100.7", 1)  # so the token is worth nothing
        written = write(pair, 100, 5000)
        arrive(pair, written)
        assert pair.client.core is not None
        assert pair.client.core.peer_parameters.retry_source_connection_id is not None or not pair.connected
        pair.run(lambda: pair.connected)
        assert pair.client.of(ev.EarlyDataAccepted)

    def test_within_the_limits_of_last_time(self) -> None:
        store = MemorySessionStore()
        small = replace(CONFIGURATION, connection_window=5000, stream_window=2000, max_streams_bidi=2)
        pair = again(store, first_visit(store, server_configuration=small))
        core = pair.client.core
        assert core is not None
        written = write(pair, 10_000, 10_000)
        assert core.open_stream() is None
        sent = 0

        def count(_: int, data: bytes) -> bool:
            nonlocal sent
            sent += len(data)
            return False

        pair.there.drop = count
        pair.settle()
        assert sent < 4000 + 2 * 1300
        arrive(pair, written)

    def test_keys_go_after_three_probe_timeouts(self) -> None:
        store = MemorySessionStore()
        pair = again(store, first_visit(store))
        late: list[bytes] = []

        def keep(_: int, data: bytes) -> bool:
            if packets(data) == [PacketType.ZERO_RTT]:
                late.append(data)
            return False

        pair.there.drop = keep
        arrive(pair, write(pair, 5000))
        pair.run(lambda: pair.connected)
        assert late
        pair.run_for(10.0)
        assert pair.server.core is not None
        before = pair.server.core.statistics()["bytes_received"]
        pair.inject(late[0], to_server=True)
        assert pair.server.core.statistics()["bytes_received"] > before
        assert pair.server.core.closing is None


class TestRejected:
    @pytest.mark.parametrize("loss", [0.0, 0.1])
    @pytest.mark.parametrize("reason", ["keys lost", "early data off", "other limits", "retry of the handshake"])
    def test_it_is_sent_again_by_itself(self, reason: str, loss: float) -> None:
        store = MemorySessionStore()
        tls = early_tls()
        before = first_visit(store, tls)
        configuration = CONFIGURATION
        options: dict[str, object] = {}
        if reason == "keys lost":
            tls = early_tls()
        elif reason == "early data off":
            assert tls.tickets is not None
            tls.tickets.early_data = False
        elif reason == "other limits":
            configuration = replace(CONFIGURATION, connection_window=1 << 18)
        else:
            from fairway.tls import ClientConfig, NamedGroup

            options["client_tls"] = ClientConfig(
                "localhost", ("test",), verify=False, key_shares=(NamedGroup.SECP384R1,)
            )
            tls = replace(tls, groups=(NamedGroup.X25519,))
        path = SimulatedPath(loss=loss)
        pair = again(
            store,
            before,
            endpoint=other_endpoint(before, tls, configuration),
            there=path,
            back=replace(path),
            **options,
        )
        written = write(pair, 0, 100, 30_000)
        arrive(pair, written)
        pair.run(lambda: pair.connected)
        assert len(pair.client.of(ev.EarlyDataRejected)) == 1
        assert not pair.client.of(ev.EarlyDataAccepted)
        opened = [event for event in pair.server.of(ev.StreamOpened) if isinstance(event, ev.StreamOpened)]
        assert not any(event.early for event in opened)

    def test_into_smaller_limits_than_it_was_written_by(self) -> None:
        store = MemorySessionStore()
        tls = early_tls()
        before = first_visit(store, tls)
        small = replace(CONFIGURATION, connection_window=5000, stream_window=2000, max_streams_bidi=2)
        pair = again(store, before, endpoint=other_endpoint(before, tls, small))
        answered: set[int] = set()

        def answer() -> None:  # only what is over on both sides makes room for another stream
            for stream in pair.server.ended - answered:
                assert pair.server.core is not None
                pair.server.core.write(stream, b"", end=True)
                answered.add(stream)

        pair.on_turn = answer
        written = write(pair, 10_000, 10_000, 10_000, 10_000, 10_000)
        arrive(pair, written)
        assert pair.client.of(ev.EarlyDataRejected)
        assert pair.client.core is not None
        assert pair.client.core.closing is None

    def test_a_reset_stream_is_reset_there_too(self) -> None:
        store = MemorySessionStore()
        before = first_visit(store)
        pair = again(store, before, endpoint=other_endpoint(before, early_tls()))
        core = pair.client.core
        assert core is not None
        stream = core.open_stream()
        assert stream is not None
        core.write(stream, payload(1000))
        pair.settle()
        core.reset(stream, 7)
        pair.run(lambda: bool(pair.server.of(ev.StreamResetReceived)))

    def test_nothing_is_early_without_being_asked_for(self) -> None:
        store = MemorySessionStore()
        before = first_visit(store)
        pair = Pair(server=KnownServer(store, SERVER), endpoint=before.endpoint, now=before.now, seed=9, connect=False)
        assert pair.client.core is not None
        assert not pair.client.core.early
        assert pair.client.core.open_stream() is None
