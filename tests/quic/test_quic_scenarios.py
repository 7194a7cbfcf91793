"""Two connections over a simulated path: handshakes, transfers, ends. The tests own the clock."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from quic_pair import CLIENT_ADDRESS, Pair, Side, SimulatedPath, identity
from quic_simulation import run_seed

from fairway.quic import ClosedBy, Connection, ConnectionClosed, Phase, QuicConfiguration, UsageError
from fairway.quic import events as ev
from fairway.quic.packets.headers import (
    VERSION_1,
    VERSION_2,
    encode_retry,
    encode_version_negotiation,
    parse_long_header,
)
from fairway.quic.packets.protection import retry_tag
from fairway.quic.state import PHASE_TRANSITIONS
from fairway.tls import CipherSuite, ClientConfig, NamedGroup, ServerConfig


def core(side: Side) -> Connection:
    assert side.core is not None
    return side.core


def send(pair: Pair, side: Side, data: bytes, *, unidirectional: bool = False) -> int:
    """Open a stream, write everything, end it."""
    stream_id = core(side).open_stream(unidirectional=unidirectional)
    assert stream_id is not None
    assert core(side).write(stream_id, data, end=True) == len(data)
    return stream_id


class TestHandshake:
    def test_one_round_trip_connects_and_agrees_on_keys(self) -> None:
        pair = Pair(there=SimulatedPath(delay=0.05), connect=False)
        begun = pair.now
        pair.run(lambda: bool(pair.client.of(ev.HandshakeCompleted)))
        assert pair.now - begun == pytest.approx(0.1, abs=0.001)
        pair.run(lambda: core(pair.client).phase is Phase.CONFIRMED)
        assert pair.now - begun == pytest.approx(0.2, abs=0.001)

    @pytest.mark.parametrize("suite", CipherSuite)
    def test_every_cipher_suite(self, suite: CipherSuite) -> None:
        pair = Pair(client_tls=ClientConfig("localhost", ("test",), verify=False, cipher_suites=(suite,)))
        stream_id = send(pair, pair.client, b"x" * 50_000)
        pair.run(lambda: stream_id in pair.server.ended)
        (event,) = pair.server.of(ev.HandshakeCompleted)
        assert isinstance(event, ev.HandshakeCompleted)
        assert event.cipher_suite == suite

    def test_a_hello_retry_request_costs_a_round_trip_more(self) -> None:
        pair = Pair(
            there=SimulatedPath(delay=0.05),
            client_tls=ClientConfig("localhost", ("test",), verify=False, key_shares=(NamedGroup.X25519,)),
            server_tls=ServerConfig((identity(),), ("test",), groups=(NamedGroup.SECP256R1,)),
            connect=False,
        )
        begun = pair.now
        pair.run(lambda: bool(pair.client.of(ev.HandshakeCompleted)))
        assert pair.now - begun == pytest.approx(0.2, abs=0.001)

    def test_version_2(self) -> None:
        pair = Pair(QuicConfiguration(versions=(VERSION_2,)))
        stream_id = send(pair, pair.client, b"x" * 5000)
        pair.run(lambda: stream_id in pair.server.ended)

    def test_no_common_protocol_is_an_alert(self) -> None:
        pair = Pair(client_tls=ClientConfig("localhost", ("other",), verify=False), connect=False)
        pair.run(lambda: core(pair.client).closing is not None)
        closing = core(pair.client).closing
        assert closing is not None
        assert (closing.by, closing.code) == (ClosedBy.PEER, 0x100 + 120)

    def test_a_certificate_that_nobody_trusts_is_refused(self) -> None:
        pair = Pair(client_tls=ClientConfig("localhost", ("test",)), connect=False)
        pair.run(lambda: core(pair.client).closing is not None)
        closing = core(pair.client).closing
        assert closing is not None
        assert closing.by is ClosedBy.LOCAL
        assert 0x100 <= closing.code < 0x200

    @pytest.mark.parametrize("lost", range(8))
    def test_any_datagram_of_it_may_be_lost(self, lost: int) -> None:
        for to_server in (True, False):
            there, back = SimulatedPath(), SimulatedPath()
            (there if to_server else back).drop = lambda index, data: index == lost
            pair = Pair(there=there, back=back)
            pair.run(lambda pair=pair: core(pair.client).phase is Phase.CONFIRMED)  # type: ignore[misc]

    def test_a_server_answers_to_whom_the_first_genuine_packet_names(self) -> None:
        pair = Pair(connect=False)
        client = core(pair.client)
        out = client.transmit(pair.now)
        assert out is not None
        header = parse_long_header(out.data, 0, out.segment)
        at = out.data.index(header.source, 6 + len(header.destination))
        changed = out.data[:at] + bytes((out.data[at] ^ 1,)) + out.data[at + 1 : out.segment]
        assert len(out.data) > out.segment
        for datagram in (changed, out.data[out.segment :]):
            pair.send(datagram, to_server=True, out=out)
        pair.run(lambda: pair.connected)

    def test_without_an_answer_the_client_gives_up(self) -> None:
        pair = Pair(
            QuicConfiguration(handshake_timeout_s=5.0),
            there=SimulatedPath(drop=lambda index, data: True),
            connect=False,
        )
        pair.run(lambda: core(pair.client).closing is not None)
        closing = core(pair.client).closing
        assert closing is not None
        assert closing.by is ClosedBy.HANDSHAKE_TIMEOUT
        assert pair.there.count < 20

    def test_every_datagram_with_an_initial_packet_is_1200_bytes(self) -> None:
        sizes: list[int] = []

        def look(index: int, data: bytes) -> bool:
            if data[0] & 0x80 and parse_long_header(data, 0, len(data)).type == 0:
                sizes.append(len(data))
            return False

        Pair(there=SimulatedPath(drop=look))
        assert sizes
        assert min(sizes) >= 1200

    def test_the_clients_last_flight_is_one_datagram_with_1_rtt_packets_where_padding_would_be(self) -> None:
        pair = Pair(connect=False)
        client = core(pair.client)
        hello = client.transmit(pair.now)
        assert hello is not None
        server = pair.endpoint.receive(hello.data, hello.segment, CLIENT_ADDRESS, pair.now)[0]
        flight = server.transmit(pair.now)
        assert flight is not None
        client.receive(flight.data, flight.segment, pair.now)
        stream_id = client.open_stream()
        assert stream_id is not None
        client.write(stream_id, b"request")
        last = client.transmit(pair.now)
        assert last is not None
        assert (len(last.data), client.transmit(pair.now)) == (1200, None)
        server.receive(last.data, last.segment, pair.now)
        answer = server.transmit(pair.now)
        assert answer is not None
        client.receive(answer.data, answer.segment, pair.now)
        assert client.phase is Phase.CONFIRMED
        assert client.statistics()["runs_remembered"] == 0  # the request has arrived

    def test_further_connection_ids_are_issued_when_they_can_be_of_use(self) -> None:
        pair = Pair()  # the client does not know yet that the server has its last flight
        client, server = core(pair.client), core(pair.server)
        assert (client.phase, server.phase) == (Phase.COMPLETE, Phase.CONFIRMED)
        assert (client.spare_connection_ids, server.spare_connection_ids) == (0, 0)
        pair.run_for(0.1)
        assert client.phase is Phase.CONFIRMED
        assert (client.spare_connection_ids, server.spare_connection_ids) == (1, 1)


class TestRetryAndVersions:
    def client(self) -> tuple[Pair, bytes]:
        pair = Pair(there=SimulatedPath(drop=lambda index, data: True), connect=False)
        first = core(pair.client).transmit(pair.now)
        assert first is not None
        return pair, first.data

    def test_a_retry_is_followed_with_its_token_and_connection_id(self) -> None:
        pair, first = self.client()
        sent = parse_long_header(first, 0, len(first))
        retry = encode_retry(VERSION_1, sent.source, b"newsource", b"a token")
        core(pair.client).receive(retry + retry_tag(VERSION_1, sent.destination, retry), len(retry) + 16, pair.now)
        again = core(pair.client).transmit(pair.now)
        assert again is not None
        header = parse_long_header(again.data, 0, len(again.data))
        assert (header.token, header.destination) == (b"a token", b"newsource")

    def test_a_forged_retry_is_not(self) -> None:
        pair, first = self.client()
        sent = parse_long_header(first, 0, len(first))
        retry = encode_retry(VERSION_1, sent.source, b"newsource", b"a token") + bytes(16)
        while core(pair.client).transmit(pair.now):
            pass
        core(pair.client).receive(retry, len(retry), pair.now)
        assert core(pair.client).transmit(pair.now) is None

    def test_version_negotiation_without_a_common_version_ends_the_attempt(self) -> None:
        pair, first = self.client()
        sent = parse_long_header(first, 0, len(first))
        packet = encode_version_negotiation(sent.source, sent.destination, (0x1A2A3A4A,))
        core(pair.client).receive(packet, len(packet), pair.now)
        closing = core(pair.client).closing
        assert closing is not None
        assert closing.by is ClosedBy.VERSION

    def test_version_negotiation_that_lists_our_version_is_ignored(self) -> None:
        pair, first = self.client()
        sent = parse_long_header(first, 0, len(first))
        packet = encode_version_negotiation(sent.source, sent.destination, (VERSION_1, 0x1A2A3A4A))
        core(pair.client).receive(packet, len(packet), pair.now)
        assert core(pair.client).closing is None


class TestStreams:
    def test_bytes_arrive_once_and_in_order_both_ways(self) -> None:
        pair = Pair(QuicConfiguration(udp_payload=1452), there=SimulatedPath(delay=0.02))
        data = os.urandom(1_000_000)
        stream_id = send(pair, pair.client, data)
        pair.run(lambda: stream_id in pair.server.ended)
        assert core(pair.server).write(stream_id, data, end=True) == len(data)
        pair.run(lambda: stream_id in pair.client.ended)
        assert bytes(pair.server.received[stream_id]) == bytes(pair.client.received[stream_id]) == data

    def test_a_packet_lost_on_one_stream_never_delays_another(self) -> None:
        """The mission's Q6: with 50 ms each way, only the stream of the lost packet waits for its repetition."""
        delay = 0.05
        dropped: list[int] = []

        def drop_first(index: int, data: bytes) -> bool:
            if armed and not dropped and len(data) > 1000:
                dropped.append(index)
                return True
            return False

        armed = False
        pair = Pair(there=SimulatedPath(delay=delay, drop=drop_first), back=SimulatedPath(delay=delay))
        pair.run(lambda: core(pair.client).phase is Phase.CONFIRMED)
        armed = True
        begun = pair.now
        streams = [send(pair, pair.client, bytes(1150), unidirectional=True) for _ in range(8)]
        pair.run(lambda: pair.server.ended >= set(streams))
        times = {stream_id: pair.server.arrivals[stream_id][-1][0] - begun for stream_id in streams}
        late = [stream_id for stream_id in streams if times[stream_id] > delay + 0.02]
        assert dropped
        assert len(late) <= 2, times  # those whose bytes were in the lost packet
        assert max(times.values()) > 2 * delay
        for stream_id in streams:
            if stream_id not in late:
                assert times[stream_id] == pytest.approx(delay, abs=0.02)

    def test_the_sender_stops_where_the_reader_does(self) -> None:
        configuration = QuicConfiguration(stream_window=100_000, connection_window=150_000)
        pair = Pair(configuration)
        pair.server.reading = False
        stream_id = core(pair.client).open_stream()
        assert stream_id is not None
        core(pair.client).write(stream_id, bytes(500_000))
        pair.run_for(2.0)
        assert core(pair.client).statistics()["bytes_in_flight"] == 0
        pair.read(pair.server, stream_id)
        assert len(pair.server.received[stream_id]) == 100_000
        pair.server.reading = True
        pair.run(lambda: len(pair.server.received[stream_id]) == 500_000)

    def test_the_send_buffer_is_bounded_and_tells_when_there_is_room(self) -> None:
        pair = Pair(QuicConfiguration(send_buffer=10_000))
        stream_id = core(pair.client).open_stream()
        assert stream_id is not None
        assert core(pair.client).write(stream_id, bytes(50_000), end=True) == 10_000
        assert core(pair.client).write(stream_id, bytes(10)) == 0
        pair.run(lambda: bool(pair.client.of(ev.StreamWritable)))

    def test_a_reset_reaches_the_reader_and_a_stop_the_writer(self) -> None:
        pair = Pair()
        stream_id = core(pair.client).open_stream()
        assert stream_id is not None
        core(pair.client).write(stream_id, b"hello")
        pair.run(lambda: stream_id in pair.server.received)
        core(pair.client).reset(stream_id, 7)
        core(pair.client).stop_sending(stream_id, 8)
        pair.run(lambda: bool(pair.server.of(ev.StreamResetReceived)) and bool(pair.server.of(ev.StopSendingReceived)))
        assert pair.server.of(ev.StreamResetReceived) == [ev.StreamResetReceived(stream_id, 7, 5)]
        assert pair.server.of(ev.StopSendingReceived) == [ev.StopSendingReceived(stream_id, 8)]
        pair.run(lambda: not any(core(s).statistics()["streams"] for s in (pair.client, pair.server)))

    def test_more_streams_than_the_limit_wait_for_others_to_finish(self) -> None:
        pair = Pair(QuicConfiguration(max_streams_bidi=2, max_streams_uni=2))
        first = send(pair, pair.client, b"1", unidirectional=True)
        send(pair, pair.client, b"2", unidirectional=True)
        assert core(pair.client).open_stream(unidirectional=True) is None
        pair.run(lambda: bool(pair.client.of(ev.StreamsAvailable)))
        assert core(pair.client).open_stream(unidirectional=True) == first + 8

    def test_urgent_streams_go_first(self) -> None:
        pair = Pair(there=SimulatedPath(rate=1_000_000.0, queue=1 << 30))
        slow = core(pair.client).open_stream()
        fast = core(pair.client).open_stream()
        assert slow is not None
        assert fast is not None
        core(pair.client).set_priority(fast, 0)
        core(pair.client).write(slow, bytes(300_000), end=True)
        core(pair.client).write(fast, bytes(300_000), end=True)
        pair.run(lambda: fast in pair.server.ended)
        assert len(pair.server.received.get(slow, b"")) < 100_000


class TestEnds:
    def test_the_peer_learns_code_and_reason(self) -> None:
        pair = Pair()
        core(pair.client).close(pair.now, 42, "enough")
        pair.run(lambda: core(pair.server).closing is not None)
        closing = core(pair.server).closing
        assert closing is not None
        assert (closing.by, closing.code, closing.reason, closing.application) == (
            ClosedBy.PEER,
            42,
            "enough",
            True,
        )
        with pytest.raises(ConnectionClosed, match="enough"):
            core(pair.server).open_stream()

    def test_closing_and_draining_end_by_themselves(self) -> None:
        pair = Pair()
        core(pair.client).close(pair.now)
        pair.run_for(5.0)
        assert core(pair.client).phase is core(pair.server).phase is Phase.CLOSED
        assert core(pair.client).next_timeout() is core(pair.server).next_timeout() is None

    def test_a_lost_close_is_said_again_to_who_still_sends(self) -> None:
        pair = Pair()
        pair.run(lambda: core(pair.client).phase is Phase.CONFIRMED)
        pair.there.drop = lambda index, data: True
        core(pair.client).close(pair.now, 1)
        pair.settle()
        pair.there.drop = None
        core(pair.server).ping()
        pair.run(lambda: core(pair.server).closing is not None, limit_s=2)

    def test_silence_ends_it_on_both_sides(self) -> None:
        pair = Pair(QuicConfiguration(idle_timeout_s=5.0))
        pair.run_for(6.0)
        for side in (pair.client, pair.server):
            closing = core(side).closing
            assert closing is not None
            assert closing.by is ClosedBy.IDLE

    def test_keep_alive_keeps_it(self) -> None:
        pair = Pair(QuicConfiguration(idle_timeout_s=5.0, keep_alive_s=2.0))
        pair.run_for(60.0)
        assert core(pair.client).closing is core(pair.server).closing is None

    def test_a_stateless_reset_ends_it(self) -> None:
        pair = Pair()
        pair.run(lambda: core(pair.client).phase is Phase.CONFIRMED)
        token = core(pair.client).peer_parameters.stateless_reset_token
        assert token is not None
        pair.inject(b"\x40" + os.urandom(30) + token, to_server=False)
        closing = core(pair.client).closing
        assert closing is not None
        assert closing.by is ClosedBy.RESET

    def test_every_phase_is_in_the_table(self) -> None:
        assert set(PHASE_TRANSITIONS) == set(Phase)

    def test_a_callers_mistake_is_no_error_of_the_connection(self) -> None:
        pair = Pair()
        with pytest.raises(UsageError):
            core(pair.client).write(0, b"never opened")
        assert core(pair.client).closing is None


class TestKeyUpdates:
    def test_both_sides_may_update_again_and_again(self) -> None:
        pair = Pair(there=SimulatedPath(delay=0.01, loss=0.02), seed=5)
        pair.run(lambda: core(pair.client).phase is Phase.CONFIRMED)
        updates = 0
        for turn in range(20):
            side = (pair.client, pair.server)[turn % 2]
            updates += core(side).update_keys(pair.now)
            stream_id = send(pair, pair.client, bytes(20_000))
            pair.run(lambda stream_id=stream_id: stream_id in pair.server.ended)  # type: ignore[misc]
            pair.run_for(1.0)
        assert updates >= 10
        assert core(pair.client).closing is core(pair.server).closing is None


class TestRecovery:
    def test_a_black_hole_of_five_seconds_is_survived(self) -> None:
        pair = Pair(there=SimulatedPath(delay=0.02, rate=1_000_000.0))
        stream_id = send(pair, pair.client, bytes(1_000_000))
        pair.run_for(0.3)
        for path in (pair.there, pair.back):
            path.drop = lambda index, data: True
        pair.run_for(5.0)
        for path in (pair.there, pair.back):
            path.drop = None
        pair.run(lambda: stream_id in pair.server.ended, limit_s=30)

    def test_a_clean_path_is_used_without_waste(self) -> None:
        pair = Pair(QuicConfiguration(udp_payload=1452), there=SimulatedPath(delay=0.02))
        before = pair.there.bytes
        stream_id = send(pair, pair.client, bytes(1_000_000))
        pair.run(lambda: stream_id in pair.server.ended)
        assert pair.there.bytes - before < 1.05 * 1_000_000

    def test_reordering_is_not_taken_for_loss_forever(self) -> None:
        pair = Pair(there=SimulatedPath(delay=0.02, jitter=0.01), back=SimulatedPath(delay=0.02))
        for _ in range(10):
            stream_id = send(pair, pair.client, bytes(500_000))
            before = pair.there.bytes
            pair.run(lambda stream_id=stream_id: stream_id in pair.server.ended)  # type: ignore[misc]
            waste = (pair.there.bytes - before) / 500_000
        assert waste < 1.3


@pytest.mark.parametrize("seed", range(60))
def test_a_random_transfer_over_a_random_path_arrives(seed: int) -> None:
    run_seed(seed)


def test_one_datagram_at_a_time_gives_the_same_as_batches() -> None:
    """The plain path is the same code on a batch of one."""
    data = os.urandom(200_000)
    for segments in (1, 64):
        pair = Pair(max_segments=segments, there=replace(SimulatedPath(), delay=0.001))
        stream_id = send(pair, pair.client, data)
        pair.run(lambda pair=pair, stream_id=stream_id: stream_id in pair.server.ended)  # type: ignore[misc]
        assert bytes(pair.server.received[stream_id]) == data
