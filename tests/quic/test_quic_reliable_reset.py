"""Streams that are reset and still deliver their beginning (draft-ietf-quic-reliable-stream-reset)."""

from __future__ import annotations

import pytest
from quic_pair import Pair, SimulatedPath

from fairway.quic import ErrorCode, PeerError
from fairway.quic import events as ev
from fairway.quic.streams.flow_control import ReceiveWindow, SendWindow
from fairway.quic.streams.outgoing import Outgoing
from fairway.quic.streams.recv import ReceiveState, ReceiveStream
from fairway.quic.streams.send import SendState, SendStream
from fairway.quic.streams.table import StreamTable
from fairway.quic.transport_parameters import TransportParameters


def sending(window: int = 1 << 20) -> SendStream:
    return SendStream(0, SendWindow(window))


def receiving() -> ReceiveStream:
    return ReceiveStream(0, ReceiveWindow(1 << 20, 1 << 20))


class TestSending:  # section 5.3: the states of a stream's end
    def test_it_is_done_once_the_peer_has_the_reset_and_the_bytes(self) -> None:
        for bytes_first in (True, False):
            stream = sending()
            stream.write(b"header and body", False)
            stream.reliable = 6
            stream.mark_sent(0, 15, True)
            assert stream.reset(7, reliably=True) == 15
            assert stream.state is SendState.DATA_SENT
            for bytes_now in (bytes_first, not bytes_first):
                assert not stream.finished
                if bytes_now:
                    stream.acknowledged(0, 6, False)
                else:
                    stream.reset_acknowledged()
            assert stream.state is SendState.DATA_RECVD

    def test_of_what_was_lost_only_the_committed_bytes_go_again(self) -> None:
        stream = sending()
        stream.write(b"header and body", False)
        stream.reliable = 6
        stream.mark_sent(0, 15, True)
        stream.reset(7, reliably=True)
        stream.declared_lost(4, 15, False)
        assert stream.next_range(1000) == (4, 2, False)
        assert bytes(stream.buffer.peek(4, 2)) == b"er"
        stream.mark_sent(4, 2, False)
        assert stream.next_range(1000) is None

    def test_what_was_lost_before_the_reset_is_forgotten_as_well(self) -> None:
        stream = sending()
        stream.write(b"header and body", False)
        stream.reliable = 6
        stream.mark_sent(0, 15, True)
        stream.declared_lost(0, 15, False)
        stream.reset(7, reliably=True)
        assert stream.next_range(1000) == (0, 6, False)

    def test_committed_bytes_that_were_never_sent_are_sent_after_the_reset(self) -> None:
        stream = sending()
        stream.write(b"header", False)
        stream.commit()
        stream.write(b" and body", False)
        assert stream.reset(7, reliably=True) == 6
        assert stream.next_range(1000) == (0, 6, True)
        stream.mark_sent(0, 6, True)
        assert stream.next_range(1000) is None

    def test_after_it_nothing_is_written_and_another_reset_changes_nothing(self) -> None:
        stream = sending()
        stream.write(b"header", False)
        stream.commit()
        stream.reset(7, reliably=True)
        assert not stream.writable
        assert stream.reset(8, reliably=True) == 6
        assert stream.reset_code == 7

    def test_to_a_peer_that_does_not_take_it_all_is_given_up(self) -> None:
        stream = sending()
        stream.write(b"header", False)
        stream.commit()
        stream.reset(7)
        assert stream.state is SendState.RESET_SENT
        assert stream.next_range(1000) is None


class TestReceiving:
    def test_the_bytes_before_it_are_read_first(self) -> None:
        stream = receiving()
        stream.receive(0, b"header and b", False)
        stream.reset(15, 7, 6)
        assert stream.state is ReceiveState.RESET_RECVD
        assert stream.read(6) == b"header"
        stream.acknowledge_reset()
        assert stream.finished

    def test_it_waits_for_the_bytes_before_it(self) -> None:
        stream = receiving()
        stream.receive(3, b"der and", False)
        stream.reset(15, 7, 6)
        assert stream.state is ReceiveState.SIZE_KNOWN
        assert not stream.reset_received
        stream.receive(0, b"hea", False)
        assert stream.reset_received
        assert stream.read(6) == b"header"

    def test_a_later_one_with_less_counts_and_one_with_more_does_not(self) -> None:  # section 5.2
        stream = receiving()
        stream.receive(0, b"hea", False)
        stream.reset(15, 7, 6)
        stream.reset(15, 7, 10)
        assert stream.reliable_size == 6
        stream.reset(15, 7, 3)
        assert stream.reset_received
        assert stream.read() == b"hea"

    def test_a_plain_reset_after_it_takes_the_promise_back(self) -> None:
        stream = receiving()
        stream.receive(0, b"hea", False)
        stream.reset(15, 7, 6)
        stream.reset(15, 7)
        assert stream.reset_received
        assert stream.read() == b""

    def test_the_code_does_not_change(self) -> None:
        stream = receiving()
        stream.reset(15, 7, 6)
        with pytest.raises(PeerError) as raised:
            stream.reset(15, 8, 6)
        assert raised.value.code == ErrorCode.STREAM_STATE_ERROR

    @pytest.mark.parametrize("reset_first", [True, False])
    def test_the_final_size_does_not_change(self, reset_first: bool) -> None:
        stream = receiving()
        if reset_first:
            stream.reset(15, 7, 6)
        else:
            stream.receive(0, b"header and body", True)
        with pytest.raises(PeerError) as raised:
            stream.reset(16, 7, 6)
        assert raised.value.code == ErrorCode.FINAL_SIZE_ERROR

    def test_who_does_not_read_the_stream_waits_for_nothing(self) -> None:
        stream = receiving()
        stream.stop(1)
        stream.reset(15, 7, 6)
        assert stream.reset_received


def reset_at_once(pair: Pair, committed: bytes, rest: bytes) -> int:
    core = pair.client.core
    assert core is not None
    stream_id = core.open_stream()
    assert stream_id is not None
    core.write(stream_id, committed)
    core.commit(stream_id)
    core.write(stream_id, rest)
    core.reset(stream_id, 99)
    return stream_id


class TestBetweenEndpoints:
    def test_the_frame_carries_what_was_agreed(self) -> None:
        pair = Pair()
        stream_id = reset_at_once(pair, b"header", b"never sent")
        pair.run(lambda: bool(pair.server.of(ev.StreamResetReceived)))
        assert pair.server.of(ev.StreamResetReceived) == [ev.StreamResetReceived(stream_id, 99, 6)]
        assert bytes(pair.server.received[stream_id]) == b"header"

    @pytest.mark.parametrize("seed", range(8))
    def test_committed_bytes_arrive_before_the_reset_whatever_is_lost(self, seed: int) -> None:
        pair = Pair(seed=seed, there=SimulatedPath(loss=0.3, jitter=0.02), back=SimulatedPath(loss=0.3))
        committed = bytes(range(256)) * 40
        streams = [reset_at_once(pair, committed, b"x" * 5000) for _ in range(5)]
        pair.run(lambda: len(pair.server.of(ev.StreamResetReceived)) == 5)
        for stream_id in streams:
            assert bytes(pair.server.received[stream_id][: len(committed)]) == committed
        order = [(type(event), event.stream_id) for event in pair.server.events if hasattr(event, "stream_id")]
        for stream_id in streams:
            assert order.index((ev.StreamReadable, stream_id)) < order.index((ev.StreamResetReceived, stream_id))
            assert order[::-1].index((ev.StreamReadable, stream_id)) > order[::-1].index(
                (ev.StreamResetReceived, stream_id)
            )
        assert pair.client.core is not None
        pair.run(lambda: pair.client.core.statistics()["bytes_in_flight"] == 0)  # type: ignore[union-attr]
        assert pair.client.core.statistics()["stream_bytes_kept"] == 0

    def test_both_forget_the_stream_and_its_flow_control_is_given_back(self) -> None:
        pair = Pair()
        for _ in range(300):  # more than the limits of streams and of the connection hold
            core = pair.client.core
            assert core is not None
            stream_id = core.open_stream(unidirectional=True)
            if stream_id is None:
                pair.run(lambda: bool(pair.client.of(ev.StreamsAvailable)))
                pair.client.events.clear()
                stream_id = core.open_stream(unidirectional=True)
            assert stream_id is not None
            core.write(stream_id, bytes(10_000))
            core.commit(stream_id)
            core.write(stream_id, bytes(10_000))
            pair.settle()
            core.reset(stream_id, 1)
        pair.run_for(5)
        for side in (pair.client, pair.server):
            assert side.core is not None
            assert side.core.statistics()["streams"] == 0
            assert side.core.statistics()["stream_bytes_kept"] == 0
        assert len(pair.server.of(ev.StreamResetReceived)) == 300

    def test_stop_sending_is_answered_with_what_was_committed(self) -> None:
        pair = Pair()
        pair.server.reading = False
        core = pair.client.core
        assert core is not None
        stream_id = core.open_stream(unidirectional=True)
        assert stream_id is not None
        core.write(stream_id, b"header")
        core.commit(stream_id)
        core.write(stream_id, bytes(100))
        pair.run(lambda: bool(pair.server.of(ev.StreamReadable)))
        assert pair.server.core is not None
        pair.server.core.stop_sending(stream_id, 5)
        pair.run(lambda: bool(pair.server.of(ev.StreamResetReceived)))
        assert pair.server.of(ev.StreamResetReceived) == [ev.StreamResetReceived(stream_id, 5, 106)]

    def test_what_a_stopped_stream_amounted_to_is_told_at_its_end(self) -> None:
        pair = Pair()
        pair.server.reading = False
        core = pair.client.core
        assert core is not None
        stream_id = core.open_stream(unidirectional=True)
        assert stream_id is not None
        core.write(stream_id, b"some")
        pair.run(lambda: bool(pair.server.of(ev.StreamReadable)))
        assert pair.server.core is not None
        core.write(stream_id, b" more", end=True)
        pair.server.core.stop_sending(stream_id, 5)
        pair.run(lambda: bool(pair.server.of(ev.StreamDiscarded)))
        assert pair.server.of(ev.StreamDiscarded) == [ev.StreamDiscarded(stream_id, 9)]

    @pytest.mark.parametrize(("committed", "kept"), [(0, 0), (4, 4), (10, 10), (15, 10)])
    def test_of_what_was_sent_only_committed_bytes_are_kept_until_acknowledged(self, committed: int, kept: int) -> None:
        peer = TransportParameters(
            initial_max_data=1000, initial_max_stream_data_uni=1000, initial_max_streams_uni=1, reset_stream_at=True
        )
        table = StreamTable(is_client=True, local=TransportParameters(), stream_cap=1000)
        outgoing = Outgoing(table)
        outgoing.set_peer(peer)
        pair = table.open(True)
        assert pair is not None
        stream = pair.send
        assert stream is not None
        stream.write(bytes(15), False)
        stream.reliable = committed
        stream.mark_sent(0, 10, True)
        outgoing.bytes_kept = 10
        outgoing.reset(pair.stream_id, 1)
        outgoing.reset(pair.stream_id, 1)
        assert outgoing.bytes_kept == kept
        outgoing.acknowledged(stream, 0, 2, False)
        assert outgoing.bytes_kept == max(kept - 2, 0)
        outgoing.acknowledged(stream, 2, 10, False)
        assert outgoing.bytes_kept == 0

    @pytest.mark.parametrize("taken", [True, False])
    def test_the_peers_transport_parameter_decides(self, taken: bool) -> None:
        peer = TransportParameters(
            initial_max_data=1000, initial_max_stream_data_uni=1000, initial_max_streams_uni=1, reset_stream_at=taken
        )
        table = StreamTable(is_client=True, local=TransportParameters(), stream_cap=1000)
        outgoing = Outgoing(table)
        outgoing.set_peer(peer)
        pair = table.open(True)
        assert pair is not None
        assert pair.send is not None
        pair.send.write(b"header", False)
        pair.send.commit()
        assert outgoing.reset(pair.stream_id, 1) == (6 if taken else 0)
        assert pair.send.state is (SendState.DATA_SENT if taken else SendState.RESET_SENT)
