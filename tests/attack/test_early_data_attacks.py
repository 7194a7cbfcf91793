"""0-RTT replayed, too early, too much, or with what it may not carry (attacks 15 and 23)."""

from __future__ import annotations

import os

import pytest
from quic_attacker import bounded
from quic_pair import CLIENT_ADDRESS, Pair, identity

from fairway.quic import Endpoint, ErrorCode, KnownServer, MemorySessionStore, QuicConfiguration, ack_frames, frames
from fairway.quic import events as ev
from fairway.quic.endpoint.early_packets import EarlyPackets
from fairway.quic.packets.headers import VERSION_1, PacketType, encode_long_header, parse_long_header
from fairway.quic.packets.protection import make_sealer
from fairway.tls import CipherSuite, ClientConfig, SealingKeys, ServerConfig, StrikeRegister, Tickets

SERVER = ("localhost", 443, ("test",))
KEYS = [b"k" * 32]
SECRET = b"pay 100 to the thief"


class Recording:
    """A client's visit with early data, and every datagram that it sent."""

    def __init__(self, *, strikes: StrikeRegister | None = None) -> None:
        self.strikes = strikes or StrikeRegister()
        self.store = MemorySessionStore()
        first = Pair(server=KnownServer(self.store, SERVER), server_tls=self.tls())
        first.run_for(3.0)
        while self.store.take_token(SERVER):
            pass  # the address is to be unproved
        self.datagrams: list[bytes] = []
        self.lines: list[str] = []
        self.pair = Pair(
            server=KnownServer(self.store, SERVER),
            endpoint=first.endpoint,
            now=first.now,
            seed=5,
            connect=False,
            early_data=True,
            client_tls=ClientConfig(
                "localhost",
                ("test",),
                verify=False,
                keylog=self.lines.append,
                cipher_suites=(CipherSuite.AES_128_GCM_SHA256,),
            ),
        )
        self.pair.there.drop = lambda _, data: bool(self.datagrams.append(data))
        core = self.pair.client.core
        assert core is not None
        stream = core.open_stream()
        assert stream is not None
        core.write(stream, SECRET, end=True)
        self.pair.run(lambda: stream in self.pair.server.ended)

    def tls(self) -> ServerConfig:
        """A process of the server: they share the tickets' keys, and the register."""
        tickets = Tickets(SealingKeys(KEYS), early_data=True, strikes=self.strikes)
        return ServerConfig((identity(),), ("test",), tickets=tickets)

    def worker(self) -> Endpoint:
        """Another process."""
        return Endpoint(
            self.tls(),
            QuicConfiguration(handshake_timeout_s=120.0),
            random=os.urandom,
            clock=self.pair.clock,
        )


def replay(endpoint: Endpoint, datagrams: list[bytes], now: float) -> list[ev.Event]:
    """What an endpoint's application hears of replayed datagrams."""
    events: list[ev.Event] = []
    for data in datagrams:
        for core in endpoint.receive(data, len(data), CLIENT_ADDRESS, now):
            events += core.events()
            core.transmit(now)
    return events


class TestReplay:  # 23
    def test_23_a_replay_to_the_same_endpoint_or_another_worker_is_not_heard(self) -> None:
        visit = Recording()
        assert visit.pair.server.received[0] == SECRET
        for endpoint in (visit.worker(), visit.worker(), visit.pair.endpoint):
            events = replay(endpoint, visit.datagrams, visit.pair.now)
            assert not [event for event in events if isinstance(event, ev.StreamOpened | ev.EarlyDataAccepted)]

    def test_23_without_a_shared_register_each_worker_takes_it_once(self) -> None:
        visit = Recording()
        visit.strikes = StrikeRegister()  # whose memory is its own: what sharing is for
        worker = visit.worker()
        assert [e for e in replay(worker, visit.datagrams, visit.pair.now) if isinstance(e, ev.StreamOpened)]
        for connection in worker.connections():
            worker.forget(connection)
        assert not [e for e in replay(worker, visit.datagrams, visit.pair.now) if isinstance(e, ev.StreamOpened)]

    @pytest.mark.parametrize("later_s", [0.0, 9.0])
    def test_23_a_server_that_was_restarted_with_the_same_keys_does_not_take_what_its_register_forgot(
        self, later_s: float
    ) -> None:
        visit = Recording()
        visit.pair.now += later_s
        tickets = Tickets(SealingKeys(KEYS), early_data=True)
        endpoint = Endpoint(
            ServerConfig((identity(),), ("test",), tickets=tickets), random=os.urandom, clock=visit.pair.clock
        )
        events = replay(endpoint, visit.datagrams, visit.pair.now)
        assert not [event for event in events if isinstance(event, ev.StreamOpened | ev.EarlyDataAccepted)]
        assert len(endpoint) == 1  # the handshake goes on, in one round trip

    def test_23_such_a_server_takes_early_data_with_the_tickets_that_it_gave_out_itself(self) -> None:
        store = MemorySessionStore()
        tls = ServerConfig((identity(),), ("test",), tickets=Tickets(SealingKeys(KEYS), early_data=True))
        first = Pair(server=KnownServer(store, SERVER), server_tls=tls)
        first.run_for(1.0)
        second = Pair(
            server=KnownServer(store, SERVER),
            endpoint=first.endpoint,
            now=first.now,
            seed=5,
            connect=False,
            early_data=True,
        )
        second.run(lambda: second.connected)
        assert second.client.of(ev.EarlyDataAccepted)

    def test_23_a_late_replay_is_refused_even_by_an_empty_register(self) -> None:
        visit = Recording()
        visit.strikes = StrikeRegister()
        visit.pair.now += 11.0
        events = replay(visit.worker(), visit.datagrams, visit.pair.now)
        assert not [event for event in events if isinstance(event, ev.StreamOpened)]

    def test_23_a_flood_of_tickets_does_not_make_the_register_forget(self) -> None:
        register = StrikeRegister(most=1000)
        assert register.strike(b"the payment", 0.0, 20.0)
        with bounded(steps=250_000, megabytes=1.0):
            for index in range(20_000):
                register.strike(index.to_bytes(4, "big"), 1.0, 20.0)
        assert not register.strike(b"the payment", 2.0, 20.0)


class TestPackets:
    def forged(self, visit: Recording, payload: bytes) -> bytes:
        """A 0-RTT packet with the client's keys."""
        line = next(line for line in visit.lines if line.startswith("CLIENT_EARLY_TRAFFIC_SECRET"))
        sealer = make_sealer(VERSION_1, CipherSuite.AES_128_GCM_SHA256, bytes.fromhex(line.split(" ")[2]))
        header = parse_long_header(visit.datagrams[0], 0, len(visit.datagrams[0]))
        payload = payload.ljust(20, b"\0")
        packet = encode_long_header(
            PacketType.ZERO_RTT, VERSION_1, header.destination, header.source, 50, 2, len(payload) + 16
        )
        return sealer.seal_long(packet, 50, 2, payload)

    @pytest.mark.parametrize(
        "frame",
        [
            ack_frames.Ack(((0, 0),), 0).encode(),
            frames.Crypto(0, b"x").encode(),
            frames.NewToken(b"x").encode(),
            frames.PathResponse(bytes(8)).encode(),
            frames.RetireConnectionId(0).encode(),
            frames.HandshakeDone().encode(),
            b"",
        ],
        ids=["ACK", "CRYPTO", "NEW_TOKEN", "PATH_RESPONSE", "RETIRE_CONNECTION_ID", "HANDSHAKE_DONE", "PADDING"],
    )
    def test_frames_that_0_rtt_may_not_carry_end_the_connection(self, frame: bytes) -> None:
        visit = Recording()
        core = visit.pair.server.core
        assert core is not None
        assert core.early
        packet = self.forged(visit, frame)
        visit.pair.endpoint.receive(packet, len(packet), CLIENT_ADDRESS, visit.pair.now)
        if frame:
            assert core.closing is not None
            assert core.closing.code == ErrorCode.PROTOCOL_VIOLATION
        else:
            assert core.closing is None

    def test_an_early_answer_to_an_unproved_address_is_within_three_times(self) -> None:
        visit = Recording()
        pair = visit.pair
        core = pair.server.core
        assert core is not None
        pair.client.core = None
        core.write(0, bytes(200_000))
        before = pair.now
        for _ in range(2000):  # timers that fire and can do nothing would go round and round here
            deadline = core.next_timeout()
            if deadline is None or deadline > before + 5.0:
                break
            pair.now = max(pair.now, deadline)
            core.handle_timeout(pair.now)
            pair.settle()
        else:
            raise AssertionError("it turns without end")
        assert pair.back.bytes <= 3 * sum(map(len, visit.datagrams))

    def test_15_packets_without_an_initial_are_kept_in_bounds_and_briefly(self) -> None:
        pair = Pair(server_tls=ServerConfig((identity(),), ("test",), tickets=Tickets(early_data=True)))
        with bounded(steps=400_000, megabytes=0.5):
            for index in range(2000):
                header = encode_long_header(
                    PacketType.ZERO_RTT, VERSION_1, index.to_bytes(8, "big"), b"attacker", 0, 2, 1100
                )
                packet = header + os.urandom(1100)
                pair.endpoint.receive(packet, len(packet), CLIENT_ADDRESS, pair.now)
        assert len(pair.endpoint) == 1
        pair.client.core.close(pair.now) if pair.client.core else None

    @pytest.mark.parametrize(("size", "kept"), [(30, 32), (60_000, 2)], ids=["in number", "in bytes"])
    def test_15_of_packets_without_an_initial_the_oldest_go(self, size: int, kept: int) -> None:
        early = EarlyPackets()
        for number in range(100):
            early.keep(number.to_bytes(8, "big"), CLIENT_ADDRESS, bytes(size), size, 1.0)
        assert len(early) == kept
        assert not early.take((99 - kept).to_bytes(8, "big"), CLIENT_ADDRESS, 1.0)
        assert early.take((99).to_bytes(8, "big"), CLIENT_ADDRESS, 1.0) == [(bytes(size), size)]

    def test_tickets_that_are_none_cost_a_full_handshake_at_most(self) -> None:
        store = MemorySessionStore()
        first = Pair(server=KnownServer(store, SERVER))
        first.run_for(3.0)
        session = store.take_session(SERVER)
        assert session is not None
        from dataclasses import replace

        for box in (b"x", os.urandom(36), session.ticket.ticket[:-1], session.ticket.ticket + b"x", os.urandom(500)):
            ticket = replace(session.ticket, ticket=box)
            store.save_session(SERVER, replace(session, ticket=ticket))
            pair = Pair(
                server=KnownServer(store, SERVER),
                endpoint=first.endpoint,
                now=first.now,
                seed=len(box) + 100,
                early_data=True,
            )
            (event,) = pair.client.of(ev.HandshakeCompleted)
            assert isinstance(event, ev.HandshakeCompleted)
            assert not event.resumed
            while store.take_session(SERVER):
                pass
