"""Streams and flow control, without a connection."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.quic.errors import ErrorCode, PeerError, UsageError
from fairway.quic.frames import MAX_DATA, MAX_STREAM_DATA, STREAM
from fairway.quic.streams.flow_control import ReceiveWindow, SendWindow
from fairway.quic.streams.incoming import Incoming
from fairway.quic.streams.numbers import PeerNumbers
from fairway.quic.streams.outgoing import Outgoing
from fairway.quic.streams.recv import (
    RECEIVE_TRANSITIONS,
    Assembler,
    ReceiveState,
    ReceiveStream,
)
from fairway.quic.streams.send import SEND_TRANSITIONS, SendState, SendStream
from fairway.quic.streams.table import StreamTable
from fairway.quic.transport_parameters import TransportParameters


class TestAssembler:
    @given(st.integers(0, 2000), st.integers(1, 60), st.integers(0, 1 << 32))
    def test_pieces_in_any_order_with_any_overlap_give_the_bytes_once_and_in_order(
        self, size: int, step: int, seed: int
    ) -> None:
        rng = random.Random(seed)
        data = rng.randbytes(size)
        pieces = [(at, data[at : at + step + rng.randrange(step)]) for at in range(0, size, step)]
        pieces += rng.choices(pieces, k=len(pieces) // 2) if pieces else []
        rng.shuffle(pieces)
        assembler = Assembler()
        out = bytearray()
        for at, piece in pieces:
            for ready in assembler.insert(at, piece):
                out += ready
            assert assembler.end == len(out)
        assert bytes(out) == data
        assert (assembler.buffered, assembler.gaps) == (0, 0)

    def test_what_is_in_order_is_handed_on_as_the_same_object(self) -> None:
        piece = b"x" * 1000
        assert Assembler().insert(0, piece)[0] is piece


def receiving(limit: int = 120) -> ReceiveStream:
    return ReceiveStream(0, ReceiveWindow(limit, limit))


class TestReceiving:
    def test_the_end_is_known_before_the_bytes(self) -> None:
        stream = receiving()
        stream.receive(5, b"world", True)
        assert stream.state is ReceiveState.SIZE_KNOWN
        assert not stream.readable
        stream.receive(0, b"hello", False)
        assert stream.state is ReceiveState.DATA_RECVD
        assert stream.read() == b"helloworld"
        assert stream.at_end

    def test_reads_of_any_length_give_the_same_bytes(self) -> None:
        stream = receiving(1000)
        for at in range(0, 900, 90):
            stream.receive(at, bytes(range(90)), False)
        out = b""
        while part := stream.read(7):
            assert len(part) <= 7
            out += part
        assert out == bytes(range(90)) * 10

    @pytest.mark.parametrize(
        ("first", "second"),
        [((0, b"12345", True), (0, b"123456", False)), ((0, b"12345", True), (0, b"1234", True))],
    )
    def test_a_final_size_does_not_change(
        self, first: tuple[int, bytes, bool], second: tuple[int, bytes, bool]
    ) -> None:
        stream = receiving()
        stream.receive(*first)
        with pytest.raises(PeerError) as raised:
            stream.receive(*second)
        assert raised.value.code == ErrorCode.FINAL_SIZE_ERROR

    def test_a_final_size_below_what_was_received_is_an_error(self) -> None:
        stream = receiving()
        stream.receive(50, b"x", False)
        with pytest.raises(PeerError) as raised:
            stream.reset(20, 0)
        assert raised.value.code == ErrorCode.FINAL_SIZE_ERROR

    def test_past_the_window_is_a_flow_control_error(self) -> None:
        stream = receiving(120)
        stream.receive(119, b"x", False)
        with pytest.raises(PeerError) as raised:
            stream.receive(120, b"x", False)
        assert raised.value.code == ErrorCode.FLOW_CONTROL_ERROR

    def test_a_reset_drops_what_was_not_read(self) -> None:
        stream = receiving()
        stream.receive(0, b"hello", False)
        assert stream.reset(40, 7) == 35
        assert stream.state is ReceiveState.RESET_RECVD
        assert not stream.readable


class TestSending:
    @given(st.integers(0, 1 << 32), st.integers(0, 3000))
    def test_whatever_is_lost_is_sent_again_until_all_is_acknowledged(self, seed: int, size: int) -> None:
        rng = random.Random(seed)
        data = rng.randbytes(size)
        stream = SendStream(0, SendWindow(1 << 20))
        position = 0
        while position < size:
            length = rng.randrange(1, 500)
            stream.write(data[position : position + length], False)
            position += length
        stream.write(b"", True)
        received = bytearray(size)
        flight: list[tuple[int, int, bool]] = []
        while not stream.finished:
            ready = stream.next_range(1 << 20)
            if ready is not None:
                offset, length, new = ready
                length = min(length, rng.randrange(1, 200)) if length else 0
                piece = bytes(stream.buffer.peek(offset, length)) if length else b""
                fin = stream.mark_sent(offset, length, new)
                received[offset : offset + length] = piece
                flight.append((offset, offset + length, fin))
            if flight and (ready is None or rng.random() < 0.5):
                start, stop, fin = flight.pop(rng.randrange(len(flight)))
                if rng.random() < 0.3:
                    stream.declared_lost(start, stop, fin)
                else:
                    stream.acknowledged(start, stop, fin)
        assert bytes(received) == data
        assert stream.buffer.start == size

    def test_an_acknowledgement_after_the_loss_cancels_the_repetition(self) -> None:
        stream = SendStream(0, SendWindow(1000))
        stream.write(b"x" * 100, False)
        stream.mark_sent(0, 100, True)
        stream.declared_lost(0, 100, False)
        stream.acknowledged(0, 60, False)
        assert stream.next_range(0) == (60, 40, False)

    def test_the_window_and_the_credit_hold_new_bytes_but_not_repeated_ones(self) -> None:
        stream = SendStream(0, SendWindow(50))
        stream.write(b"x" * 100, False)
        assert stream.next_range(1000) == (0, 50, True)
        assert stream.next_range(20) == (0, 20, True)
        stream.mark_sent(0, 50, True)
        assert stream.next_range(1000) is None
        stream.declared_lost(10, 30, False)
        assert stream.next_range(0) == (10, 20, False)

    def test_bytes_are_kept_where_they_are(self) -> None:
        stream = SendStream(0, SendWindow(1000))
        data = b"x" * 500
        stream.write(data, False)
        view = stream.buffer.peek(100, 50)
        assert isinstance(view, memoryview)
        assert view.obj is data

    def test_what_is_mutable_is_copied(self) -> None:
        stream = SendStream(0, SendWindow(1000))
        data = bytearray(b"before")
        stream.write(data, False)
        data[:] = b"after!"
        assert bytes(stream.buffer.peek(0, 6)) == b"before"


class TestStates:
    def test_every_state_is_in_its_table_and_terminal_states_lead_nowhere(self) -> None:
        assert set(SEND_TRANSITIONS) == set(SendState)
        assert set(RECEIVE_TRANSITIONS) == set(ReceiveState)
        for final in (SendState.DATA_RECVD, SendState.RESET_RECVD):
            assert not SEND_TRANSITIONS[final]
        for ended in (ReceiveState.DATA_READ, ReceiveState.RESET_READ):
            assert not RECEIVE_TRANSITIONS[ended]


def server_table(**limits: int) -> StreamTable:
    local = TransportParameters(
        initial_max_stream_data_bidi_remote=120,
        initial_max_stream_data_bidi_local=120,
        initial_max_stream_data_uni=120,
        initial_max_streams_bidi=limits.get("streams", 10),
        initial_max_streams_uni=10,
    )
    return StreamTable(is_client=False, local=local, stream_cap=120)


class Server:
    """A server's streams and what arrives on them."""

    def __init__(self, *, data: int = 360) -> None:
        self.table = server_table()
        self.incoming = Incoming(self.table, ReceiveWindow(data, 360))

    def arrive(self, stream_id: int, offset: int, data: bytes) -> None:
        stream = self.table.for_receiving(stream_id, STREAM)
        assert stream is not None
        self.incoming.received(stream, stream.receive(offset, data, False))


class TestFlowControlTwice:
    """The mission's Q7."""

    def test_the_connections_window_is_the_sum_over_its_streams(self) -> None:
        server = Server()
        for stream_id, highest in ((0, 100), (4, 90), (8, 110)):
            server.arrive(stream_id, highest - 1, b"x")  # one byte: all below it was lost
        left = [server.table.receiving(stream_id).window.left for stream_id in (0, 4, 8)]
        assert left == [20, 30, 10]
        assert server.incoming.window.left == sum(left) == 60

    def test_what_is_used_is_the_highest_offset_whatever_was_lost(self) -> None:
        server = Server()
        server.arrive(0, 80, b"x" * 20)
        assert server.incoming.window.highest == 100
        server.arrive(0, 0, b"x" * 80)
        assert server.incoming.window.highest == 100

    def test_the_limit_is_raised_once_more_than_half_was_read(self) -> None:
        server = Server()
        server.arrive(0, 0, b"x" * 100)
        server.incoming.read(0, 60)
        assert (MAX_STREAM_DATA, 0) not in server.table.control
        server.incoming.read(0, 1)
        assert (MAX_STREAM_DATA, 0) in server.table.control
        assert server.table.receiving(0).window.raise_limit(1.0, 0.1) == 61 + 120

    def test_arriving_does_not_raise_the_limit(self) -> None:
        server = Server()
        server.arrive(0, 0, b"x" * 120)
        assert not server.table.control

    def test_the_connections_limit_follows_the_reads_of_all_streams(self) -> None:
        server = Server()
        for stream_id in (0, 4):
            server.arrive(stream_id, 0, b"x" * 100)
            server.incoming.read(stream_id)
        assert (MAX_DATA, 0) in server.table.control

    def test_past_the_connections_window_is_an_error_though_each_stream_has_room(self) -> None:
        server = Server(data=150)
        server.arrive(0, 0, b"x" * 100)
        with pytest.raises(PeerError) as raised:
            server.arrive(4, 0, b"x" * 100)
        assert raised.value.code == ErrorCode.FLOW_CONTROL_ERROR

    def test_a_window_that_is_read_fast_grows_up_to_its_cap(self) -> None:
        window = ReceiveWindow(100, 350)
        now = 1.0
        sizes = []
        for _ in range(4):
            window.highest = window.consumed = window.limit
            window.raise_limit(now, rtt_s=1.0)
            sizes.append(window.size)
            now += 0.5
        assert sizes == [100, 200, 350, 350]

    def test_a_window_that_is_read_slowly_stays(self) -> None:
        window = ReceiveWindow(100, 350)
        for now in (1.0, 11.0, 21.0):
            window.highest = window.consumed = window.limit
            window.raise_limit(now, rtt_s=1.0)
        assert window.size == 100

    def test_a_reset_gives_its_bytes_back_to_the_connection(self) -> None:
        server = Server()
        server.arrive(0, 0, b"x" * 50)
        stream = server.table.receiving(0)
        server.incoming.received_reset(stream, 90, 0)
        assert server.incoming.window.highest == 90
        assert server.incoming.window.consumed == 90


class TestTable:
    def test_a_stream_past_the_limit_is_an_error(self) -> None:
        table = server_table(streams=2)
        assert table.for_receiving(4, STREAM) is not None
        with pytest.raises(PeerError) as raised:
            table.for_receiving(8, STREAM)
        assert raised.value.code == ErrorCode.STREAM_LIMIT_ERROR

    @pytest.mark.parametrize("stream_id", [1, 3])
    def test_a_stream_that_we_did_not_open_is_an_error(self, stream_id: int) -> None:
        with pytest.raises(PeerError) as raised:
            server_table().for_receiving(stream_id, STREAM)
        assert raised.value.code == ErrorCode.STREAM_STATE_ERROR

    def test_what_only_sends_cannot_be_asked_to_stop(self) -> None:
        with pytest.raises(PeerError) as raised:
            server_table().for_sending(2, STREAM)
        assert raised.value.code == ErrorCode.STREAM_STATE_ERROR

    def test_a_higher_stream_opens_all_lower_ones(self) -> None:
        table = server_table()
        table.for_receiving(8, STREAM)
        assert table.opened == [0, 4, 8]

    def test_finished_streams_make_room_for_others_and_are_forgotten(self) -> None:
        table = server_table(streams=2)
        incoming, outgoing = Incoming(table, ReceiveWindow(360, 360)), Outgoing(table)
        for stream_id in range(0, 400, 4):
            stream = table.for_receiving(stream_id, STREAM)
            assert stream is not None
            incoming.received(stream, stream.receive(0, b"x", True))
            incoming.read(stream_id)
            outgoing.reset(stream_id, 0)
            table.sending(stream_id).reset_acknowledged()
            assert table.forget_if_finished(stream_id)
        assert len(table) == 0
        assert table.for_receiving(0, STREAM) is None

    def test_callers_mistakes_are_usage_errors(self) -> None:
        with pytest.raises(UsageError):
            Server().incoming.read(0)


def test_further_streams_are_allowed_when_a_quarter_has_ended() -> None:
    """Who has many open at once is to have some left while the others end: curl opens a further connection else."""
    numbers = PeerNumbers(128)
    assert [numbers.finish() for _ in range(31)] == [False] * 31
    assert numbers.limit == 128
    assert numbers.finish()
    assert numbers.limit == 160
