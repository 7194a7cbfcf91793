"""Acknowledgements of what was not sent or not seen, odd numbers, replays (attacks 2 to 6)."""

from __future__ import annotations

from dataclasses import replace

from quic_attacker import Attacker, bounded

from fairway.quic import ClosedBy, ErrorCode, QuicConfiguration, ack_frames, frames
from fairway.quic.recovery.loss import MAX_LOST_RUNS, LossDetector
from fairway.quic.recovery.rtt import RttEstimator
from fairway.quic.recovery.sent import Run, SentPackets
from fairway.quic.spaces import ReceivedNumbers
from fairway.wire import encode_varint


class TestAcknowledgements:  # 2 to 6
    def test_2_a_packet_that_was_never_sent_cannot_be_acknowledged(self) -> None:
        attacker = Attacker()
        attacker.send(ack_frames.Ack(((100_000, 100_000),), 0).encode())
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION

    def test_3_an_optimistic_acknowledgement_hits_a_skipped_number(self) -> None:
        attacker = Attacker()
        attacker.send(frames.MaxData(1 << 40).encode())
        stream_id = attacker.server.open_stream()
        assert stream_id is not None
        acknowledged = -1
        while attacker.code is None and acknowledged < 10_000:
            attacker.server.write(stream_id, bytes(100_000))
            attacker.pair.settle()
            attacker.pair.run_for(0.02)
            acknowledged += 5  # never seen, acknowledged all the same
            attacker.send(
                ack_frames.Ack(((0, acknowledged),), 0).encode() + frames.MaxStreamData(stream_id, 1 << 40).encode()
            )
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION
        assert attacker.closing is not None
        assert "skipped" in attacker.closing.reason or "not sent" in attacker.closing.reason

    def test_4_ranges_below_zero_and_beyond_everything(self) -> None:
        top = encode_varint((1 << 62) - 1)
        for payload, code in (
            (bytes([ack_frames.ACK, 5, 0, 0, 9]), ErrorCode.FRAME_ENCODING_ERROR),
            (bytes([ack_frames.ACK, 5, 0, 1, 2, 3, 0]), ErrorCode.FRAME_ENCODING_ERROR),
            (bytes([ack_frames.ACK, 5, 0]) + top + bytes(40), ErrorCode.FRAME_ENCODING_ERROR),
            (bytes([ack_frames.ACK]) + top + bytes([0, 0]) + top, ErrorCode.PROTOCOL_VIOLATION),
        ):
            attacker = Attacker()
            with bounded(steps=1_500):
                attacker.send(payload)
            assert attacker.code == code

    def test_5_odd_packet_numbers_only_leave_a_bounded_number_of_ranges(self) -> None:
        attacker = Attacker()
        with bounded(steps=25_000_000, megabytes=1.0):
            for number in range(10_001, 20_001, 2):
                attacker.send(frames.Ping().encode(), number)
                attacker.pair.run_for(0.001)
        assert attacker.code is None
        received = ReceivedNumbers()
        for number in range(1, 10_000, 2):
            received.add(number, number, 0.0)
        assert len(received.ranges()) <= 32
        assert all(number in received for number in range(1, 9000))  # forgotten ones count as received
        attacker.honest_peers_notice_nothing()

    def test_6_a_replayed_packet_does_nothing(self) -> None:
        answered = []
        for replays in (0, 100):
            attacker = Attacker()
            packet = attacker.packet(frames.PathChallenge(b"12345678").encode())
            attacker.pair.inject(packet, to_server=True)
            attacker.pair.run_for(1.0)
            for _ in range(replays):
                attacker.pair.inject(packet, to_server=True)
            attacker.pair.run_for(1.0)
            answered.append(attacker.answered)
        assert answered[0] == answered[1]


class TestSkippedNumbers:  # 3
    def test_3_nobody_can_foresee_the_first_number_that_is_skipped(self) -> None:
        codes = set()
        for seed in range(12):
            attacker = Attacker(connect=False, seed=seed)
            pair = attacker.pair
            pair.run(lambda pair=pair: pair.connected)  # type: ignore[misc]
            stream_id = attacker.server.open_stream(unidirectional=True)
            assert stream_id is not None
            attacker.server.write(stream_id, bytes(150_000), end=True)
            pair.run(lambda pair=pair, stream_id=stream_id: stream_id in pair.client.ended)  # type: ignore[misc]
            attacker.take_over()
            attacker.send(ack_frames.Ack(((0, 63),), 0).encode())
            codes.add(attacker.code)
        assert codes == {None, ErrorCode.PROTOCOL_VIOLATION}


class CountedRanges(list[tuple[int, int]]):
    """Ranges that count how often one of them is looked at."""

    looks = 0

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        found = super().__getitem__(key)
        if isinstance(key, slice):
            return CountedRanges(found)
        CountedRanges.looks += 1
        return found


class TestCostOfRanges:  # 4
    def test_4_many_ranges_over_many_losses_cost_their_sum_and_not_their_product(self) -> None:
        sent = SentPackets()
        for number in range(0, 8 * MAX_LOST_RUNS, 8):
            sent.add(Run(number, 4, 1200, 0.0))
        loss = LossDetector(sent)
        lost = loss.detect(8 * MAX_LOST_RUNS, 0.0, RttEstimator(), 0.025).runs
        assert len(lost) >= MAX_LOST_RUNS - 1
        ranges = CountedRanges((number, number) for number in range(8 * MAX_LOST_RUNS, 0, -3))
        CountedRanges.looks = 0
        assert loss.spurious(ranges)
        assert CountedRanges.looks < 16 * (len(ranges) + len(lost))


class TestReplays:  # 6
    def test_6_replays_keep_no_connection_alive(self) -> None:
        attacker = Attacker(replace(QuicConfiguration(), idle_timeout_s=5.0))
        packet = attacker.packet(frames.Ping().encode())
        for _ in range(12):
            attacker.pair.inject(packet, to_server=True)
            attacker.pair.run_for(0.5)
        assert attacker.closing is not None
        assert attacker.closing.by is ClosedBy.IDLE

    def test_6_a_replay_in_a_batch_of_others_is_dropped_alone(self) -> None:
        attacker = Attacker()
        packets = [attacker.packet(frames.Stream(0, 10 * i, b"0123456789").encode()) for i in range(1, 5)]
        attacker.send(frames.Stream(0, 0, b"0123456789").encode())
        attacker.batch([packets[0], packets[1], packets[0], packets[2], packets[2], packets[3]])
        attacker.pair.settle()
        assert attacker.pair.server.received[0] == b"0123456789" * 5
