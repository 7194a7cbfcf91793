"""Unreliable datagrams (RFC 9221) over a simulated path."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quic_pair import Pair, Side, SimulatedPath

from fairway.quic import Connection, ConnectionClosed, QuicConfiguration, UsageError
from fairway.quic import events as ev
from fairway.quic.datagrams import DatagramQueue
from fairway.quic.frames import Datagram, decode_frame
from fairway.quic.limits import MAX_DATAGRAM_BYTES_KEPT, MAX_DATAGRAMS_KEPT
from fairway.quic.transport_parameters import TransportParameters, decode_parameters, encode_parameters
from fairway.wire import Reader

TAKES = QuicConfiguration(handshake_timeout_s=120.0, max_datagram_frame_size=65535)


def core(side: Side) -> Connection:
    assert side.core is not None
    return side.core


def arrived(side: Side) -> list[bytes]:
    return [event.data for event in side.of(ev.DatagramReceived) if isinstance(event, ev.DatagramReceived)]


class TestFrame:
    @given(st.binary(max_size=300), st.booleans())
    def test_it_is_decoded_as_it_was_encoded(self, data: bytes, explicit: bool) -> None:
        frame = Datagram(data, explicit)
        assert len(frame.encode()) == frame.size
        assert decode_frame(Reader(frame.encode())) == (0x31 if explicit else 0x30, frame)

    def test_the_parameter_is_decoded_as_it_was_encoded(self) -> None:
        parameters = TransportParameters(max_datagram_frame_size=1200)
        assert encode_parameters(parameters) == b"\x20\x02\x44\xb0"
        assert decode_parameters(encode_parameters(parameters), from_client=True) == parameters


class TestQueue:
    @given(st.lists(st.one_of(st.integers(0, 65535), st.none()), max_size=60))
    def test_its_bytes_are_bounded_whatever_goes_in_and_out(self, sizes: list[int | None]) -> None:
        queue, model = DatagramQueue(), list[int]()
        for size in sizes:
            if size is None:
                if queue:
                    assert len(queue.pop()) == model.pop(0)
                continue
            queue.push(bytes(size))
            model.append(size)
            while sum(model) > MAX_DATAGRAM_BYTES_KEPT:
                del model[0]
        assert [len(data) for data in queue.take_all()] == model
        assert not queue

    def test_the_oldest_is_dropped_and_counted(self) -> None:
        queue = DatagramQueue()
        for number in range(MAX_DATAGRAMS_KEPT + 3):
            queue.push(b"%d" % number)
        assert (queue.first, len(queue), queue.dropped) == (b"3", MAX_DATAGRAMS_KEPT, 3)


class TestSending:
    def test_datagrams_arrive_in_both_directions(self) -> None:
        pair = Pair(TAKES)
        assert core(pair.client).send_datagram(b"there")
        assert core(pair.client).send_datagram(b"")
        assert core(pair.server).send_datagram(b"back")
        pair.run_for(0.1)
        assert arrived(pair.server) == [b"there", b""]
        assert arrived(pair.client) == [b"back"]
        assert core(pair.client).statistics()["datagrams_sent"] == 2
        assert core(pair.server).statistics()["datagrams_received"] == 2

    def test_the_largest_one_fits_and_one_byte_more_is_an_error_that_names_the_limit(self) -> None:
        pair = Pair(TAKES)
        limit = core(pair.client).max_datagram_size
        assert 1100 < limit < 1200
        assert core(pair.client).send_datagram(bytes(limit))
        with pytest.raises(UsageError, match=f"max_datagram_size is {limit} bytes"):
            core(pair.client).send_datagram(bytes(limit + 1))
        pair.run_for(0.1)
        assert arrived(pair.server) == [bytes(limit)]

    @pytest.mark.parametrize("size", [1, 2, 3, 64, 65, 66, 100, 1000])
    def test_the_peers_limit_counts_the_whole_frame(self, size: int) -> None:
        takes = QuicConfiguration(max_datagram_frame_size=size)
        pair = Pair(TAKES, server_configuration=takes)
        limit = core(pair.client).max_datagram_size
        assert limit == size - 1
        sent = [bytes((i,)) * length for i, length in enumerate((limit, limit, 0, max(limit - 1, 0), limit))]
        for data in sent:
            assert core(pair.client).send_datagram(data)
            pair.run_for(0.1)
        for data in sent:
            assert core(pair.client).send_datagram(data)
        pair.run_for(0.1)
        assert arrived(pair.server) == sent + sent
        assert core(pair.server).closing is None

    def test_who_does_not_advertise_them_is_not_sent_any(self) -> None:
        pair = Pair(TAKES, server_configuration=QuicConfiguration())
        assert core(pair.client).max_datagram_size == 0
        with pytest.raises(UsageError, match="max_datagram_frame_size is 0"):
            core(pair.client).send_datagram(b"")
        assert core(pair.server).max_datagram_size > 0  # it may send, though it takes none

    def test_none_is_sent_before_the_handshake_is_complete_nor_after_the_end(self) -> None:
        pair = Pair(TAKES, connect=False)
        assert core(pair.client).max_datagram_size == 0
        with pytest.raises(UsageError, match="before the handshake"):
            core(pair.client).send_datagram(b"x")
        pair.run(lambda: pair.connected)
        core(pair.client).close(pair.now)
        with pytest.raises(ConnectionClosed):
            core(pair.client).send_datagram(b"x")

    def test_a_full_queue_drops_the_new_one(self) -> None:
        pair = Pair(TAKES)
        accepted = [core(pair.client).send_datagram(b"%d" % number) for number in range(MAX_DATAGRAMS_KEPT + 5)]
        assert accepted == [True] * MAX_DATAGRAMS_KEPT + [False] * 5
        pair.run_for(1.0)
        assert arrived(pair.server) == [b"%d" % number for number in range(MAX_DATAGRAMS_KEPT)]
        assert core(pair.client).send_datagram(b"more")

    @pytest.mark.parametrize("size", [65536, -1])
    def test_the_configuration_names_its_limits(self, size: int) -> None:
        with pytest.raises(UsageError, match=r"0 .* to 65535"):
            QuicConfiguration(max_datagram_frame_size=size)


class TestPackets:
    def test_small_ones_share_a_packet(self) -> None:
        pair = Pair(TAKES)
        pair.run_for(1.0)
        before = pair.there.count
        for number in range(30):
            core(pair.client).send_datagram(b"%30d" % number)
        pair.settle()
        assert pair.there.count == before + 1

    @pytest.mark.parametrize("shorter", [0, 1, 2, 3, 170])
    def test_equal_ones_make_one_batch_also_behind_an_acknowledgement(self, shorter: int) -> None:
        pair = Pair(TAKES)
        pair.run_for(1.0)
        client = core(pair.client)
        server = core(pair.server)
        server.ping()
        out = server.transmit(pair.now)
        assert out is not None
        client.receive(out.data, out.segment, pair.now)
        size = client.max_datagram_size - shorter
        for number in range(8):
            client.send_datagram(bytes((number,)) * size)
        batches = []
        while (out := client.transmit(pair.now)) is not None:
            batches.append(-(-len(out.data) // out.segment))
            server.receive(out.data, out.segment, pair.now)
        assert max(batches) >= 7
        assert [event.data[0] for event in server.events() if isinstance(event, ev.DatagramReceived)] == list(range(8))

    @pytest.mark.parametrize("size", [20, 400, 1150])
    def test_datagrams_and_a_stream_do_not_starve_each_other(self, size: int) -> None:
        pair = Pair(TAKES, there=SimulatedPath(delay=0.01, rate=250_000.0, queue=30_000))
        client = core(pair.client)
        stream_id = client.open_stream()
        assert stream_id is not None
        client.write(stream_id, bytes(1_000_000))

        def keep_busy() -> None:
            while client.send_datagram(bytes(size)):
                pass
            if len(pair.server.received.get(stream_id, b"")) > 300_000:
                client.write(stream_id, bytes(100_000))

        pair.on_turn = keep_busy
        begun = pair.now
        pair.run(lambda: pair.now > begun + 5)
        of_stream = len(pair.server.received[stream_id])
        of_datagrams = sum(map(len, arrived(pair.server)))
        assert of_stream > 100_000
        assert of_datagrams > 100_000

    def test_a_stream_that_is_blocked_does_not_hold_datagrams_up(self) -> None:
        narrow = QuicConfiguration(max_datagram_frame_size=65535, stream_window=1000, stream_window_cap=1000)
        pair = Pair(TAKES, server_configuration=narrow)
        pair.server.reading = False
        client = core(pair.client)
        stream_id = client.open_stream()
        assert stream_id is not None
        client.write(stream_id, bytes(10_000))
        for number in range(5):
            assert client.send_datagram(b"%d" % number)
            client.set_priority(stream_id, number)  # back into the schedule
            pair.settle()
            assert client.statistics()["datagrams_sent"] == number + 1
        pair.run_for(0.1)
        assert arrived(pair.server) == [b"0", b"1", b"2", b"3", b"4"]

    def test_the_congestion_window_holds_them_too(self) -> None:
        pair = Pair(TAKES)
        pair.run_for(1.0)
        pair.there.drop = lambda index, data: True
        client = core(pair.client)
        while client.send_datagram(bytes(1000)):
            pass
        pair.settle()
        assert 10_000 < client.statistics()["bytes_in_flight"] <= client.statistics()["congestion_window"]


class TestLoss:
    def test_what_is_lost_is_counted_and_not_sent_again(self) -> None:
        pair = Pair(TAKES)
        pair.run_for(1.0)
        client = core(pair.client)
        pair.there.drop = lambda index, data: True
        assert client.send_datagram(b"lost")
        pair.settle()
        pair.there.drop = None
        pair.run_for(0.001)
        for number in range(6):
            client.send_datagram(b"%d" % number)
            pair.run_for(0.05)
        assert arrived(pair.server) == [b"0", b"1", b"2", b"3", b"4", b"5"]
        figures = client.statistics()
        assert (figures["datagrams_sent"], figures["datagrams_lost"]) == (7, 1)
        assert figures["bytes_in_flight"] == 0

    def test_a_probe_finds_out_about_the_last_one_and_it_counts_once(self) -> None:
        pair = Pair(TAKES)
        pair.run_for(1.0)
        client = core(pair.client)
        pair.there.drop = lambda index, data: True
        client.send_datagram(b"lost")
        client.send_datagram(b"lost too")
        pair.settle()
        pair.there.drop = None
        pair.run_for(5.0)
        assert arrived(pair.server) == []
        assert client.statistics()["datagrams_lost"] == 2

    def test_on_a_bad_path_every_one_arrives_or_is_counted(self) -> None:
        pair = Pair(TAKES, seed=3, there=SimulatedPath(delay=0.01, loss=0.1, jitter=0.002))
        client = core(pair.client)
        sent = []
        for number in range(500):
            data = b"%d " % number * (number % 20)
            if client.send_datagram(data):
                sent.append(data)
            pair.run_for(0.002)
        pair.run_for(5.0)
        got = arrived(pair.server)
        assert len(sent) - client.statistics()["datagrams_lost"] <= len(got) < len(sent)
        assert len(got) == core(pair.server).statistics()["datagrams_received"]
        assert set(got) <= set(sent)

    def test_events_that_nobody_fetches_are_bounded_and_the_last_event_stays_the_last(self) -> None:
        pair = Pair(TAKES)
        pair.run_for(1.0)
        client, server = core(pair.client), core(pair.server)
        total = MAX_DATAGRAMS_KEPT + 100
        sent = 0
        while sent < total:
            while sent < total and client.send_datagram(b"%d" % sent):
                sent += 1
            pair.now += 0.001
            while (out := client.transmit(pair.now)) is not None:
                server.receive(out.data, out.segment, pair.now)
            while (out := server.transmit(pair.now)) is not None:
                client.receive(out.data, out.segment, pair.now)
        server.close(pair.now)
        *events, last = server.events()
        numbers = [int(event.data) for event in events if isinstance(event, ev.DatagramReceived)]
        assert numbers[-1] == total - 1
        assert all(after == before + 1 for before, after in pairwise(numbers))
        assert len(numbers) == MAX_DATAGRAMS_KEPT
        assert server.statistics()["datagrams_dropped"] == 100
        assert isinstance(last, ev.ConnectionTerminated)
