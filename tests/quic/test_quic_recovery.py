"""Runs, round-trip times, loss detection, pacing and congestion control, without a connection."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.quic.congestion import CONTROLLERS, Controller
from fairway.quic.congestion.cubic import ALPHA, BETA, Cubic
from fairway.quic.congestion.hystart import HyStart
from fairway.quic.congestion.interface import initial_window
from fairway.quic.recovery.loss import LossDetector
from fairway.quic.recovery.pacing import Pacer
from fairway.quic.recovery.rtt import RttEstimator
from fairway.quic.recovery.sent import Run, SentPackets

SIZE = 1200


def rtt_of(seconds: float) -> RttEstimator:
    rtt = RttEstimator()
    rtt.update(seconds, 0.0, 0.0)
    return rtt


class TestRuns:
    @given(
        st.lists(st.tuples(st.integers(1, 44), st.integers(0, 3)), min_size=1, max_size=20),
        st.integers(0, 1 << 32),
    )
    def test_taking_ranges_in_any_order_gives_every_packet_and_every_byte_once(
        self, shape: list[tuple[int, int]], seed: int
    ) -> None:
        rng = random.Random(seed)
        sent = SentPackets()
        number = offset = 0
        for count, skipped in shape:
            number += skipped
            sent.add(Run(number, count, SIZE, 0.0, stream_id=0, offset=offset, step=100))
            number += count
            offset += count * 100
        packets = sum(count for count, _ in shape)
        assert sent.bytes_in_flight == packets * SIZE
        numbers: list[int] = []
        covered: list[int] = []
        while len(sent):
            first = rng.randrange(number)
            for run in sent.take(first, first + rng.randrange(60)):
                numbers += range(run.first, run.last + 1)
                covered += range(run.offset, run.offset + run.length, 100)
        assert len(numbers) == len(set(numbers)) == packets
        assert sorted(covered) == list(range(0, offset, 100))
        assert (sent.bytes_in_flight, sent.eliciting_in_flight) == (0, 0)

    def test_a_run_that_is_covered_goes_in_one_piece(self) -> None:
        sent = SentPackets()
        sent.add(Run(10, 44, SIZE, 0.0, stream_id=0, offset=0, step=1000))
        (taken,) = sent.take(0, 100)
        assert (taken.first, taken.count) == (10, 44)

    def test_a_hole_splits_it_in_two(self) -> None:
        sent = SentPackets()
        sent.add(Run(10, 10, SIZE, 0.0, stream_id=0, offset=0, step=1000))
        (middle,) = sent.take(13, 15)
        assert (middle.offset, middle.length) == (3000, 3000)
        assert [(run.first, run.count, run.offset) for run in sent.runs] == [(10, 3, 0), (16, 4, 6000)]


class TestRtt:
    def test_the_first_sample_counts_whole(self) -> None:
        rtt = rtt_of(0.1)
        assert (rtt.smoothed, rtt.variation, rtt.minimum) == (0.1, 0.05, 0.1)

    def test_the_peers_delay_is_taken_off_but_never_below_the_minimum(self) -> None:
        rtt = rtt_of(0.1)
        rtt.update(0.15, 0.02, 1.0)
        assert rtt.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * 0.13)
        rtt = rtt_of(0.1)
        rtt.update(0.11, 0.02, 1.0)
        assert rtt.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * 0.11)


def detector(*times: float) -> LossDetector:
    sent = SentPackets()
    for number, time in enumerate(times):
        sent.add(Run(number, 1, SIZE, time))
    return LossDetector(sent)


class TestLoss:
    def test_three_later_packets_make_a_loss(self) -> None:
        loss = detector(0.0, 0.0, 0.0, 0.0)
        loss.sent.take(3, 3)
        lost = loss.detect(3, 0.01, rtt_of(0.1), 0.025)
        assert [run.first for run in lost.runs] == [0]
        assert loss.due is not None

    def test_time_makes_a_loss(self) -> None:
        loss = detector(0.0, 0.1)
        loss.sent.take(1, 1)
        rtt = rtt_of(0.1)
        assert not loss.detect(1, 0.11, rtt, 0.025).runs
        assert loss.due == pytest.approx(9 / 8 * 0.1)
        assert [run.first for run in loss.detect(1, 0.1126, rtt, 0.025).runs] == [0]

    def test_nothing_is_lost_before_something_later_is_acknowledged(self) -> None:
        loss = detector(0.0, 0.0)
        assert not loss.detect(-1, 100.0, rtt_of(0.1), 0.025).runs

    def test_losses_over_a_long_time_are_persistent_congestion(self) -> None:
        loss = detector(*(1.0 + i for i in range(10)), 11.0)
        loss.sent.take(10, 10)
        assert loss.detect(10, 12.0, rtt_of(0.1), 0.025).persistent

    def test_an_acknowledged_packet_in_between_is_not(self) -> None:
        loss = detector(1.0, 1.1, 5.0, 5.1, 11.0)
        loss.sent.take(2, 2)
        loss.sent.take(4, 4)
        assert not loss.detect(4, 12.0, rtt_of(1.0), 0.025).persistent

    def test_a_loss_that_arrives_after_all_was_spurious(self) -> None:
        loss = detector(*[0.0] * 5)
        loss.sent.take(4, 4)
        loss.detect(4, 0.01, rtt_of(0.1), 0.025)
        assert loss.spurious([(0, 0)]) == [(0, 0, 0.0)]
        loss.widen(4)
        assert loss.packet_threshold == 5


class TestPacing:
    def test_over_a_round_trip_a_window_and_a_quarter_may_leave(self) -> None:
        pacer = Pacer()
        window, now, sent = 100 * SIZE, 1.0, 0
        pacer.spend(pacer.budget(now, window, 0.1, SIZE))
        while now < 1.1:
            now += 0.001
            budget = pacer.budget(now, window, 0.1, SIZE)
            pacer.spend(budget)
            sent += budget
        assert sent == pytest.approx(1.25 * window, rel=0.05)

    def test_at_the_time_that_it_names_a_packet_may_leave(self) -> None:
        pacer = Pacer()
        for _ in range(200):
            now = 1.0
            pacer.spend(pacer.budget(now, 3 * SIZE, 0.237, SIZE))
            now = pacer.next_at(SIZE)
            assert pacer.budget(now, 3 * SIZE, 0.237, SIZE) >= SIZE


class TestControllers:
    @pytest.mark.parametrize("name", CONTROLLERS)
    def test_slow_start_doubles_and_a_loss_reduces_once_a_round_trip(self, name: str) -> None:
        controller: Controller = CONTROLLERS[name](SIZE)
        before = controller.window
        assert before == initial_window(SIZE)
        controller.on_acked(1.0, before, 0.9, 10, 0.1, True)
        assert controller.window == 2 * before
        controller.on_lost(1.1, 1.0, False)
        reduced = controller.window
        assert reduced < 2 * before
        controller.on_lost(1.2, 1.05, False)
        assert controller.window == reduced

    @pytest.mark.parametrize("name", CONTROLLERS)
    def test_persistent_congestion_leaves_two_packets(self, name: str) -> None:
        controller = CONTROLLERS[name](SIZE)
        controller.on_lost(1.1, 1.0, True)
        assert controller.window == 2 * SIZE

    @pytest.mark.parametrize("name", CONTROLLERS)
    def test_an_application_that_does_not_fill_the_window_does_not_grow_it(self, name: str) -> None:
        controller = CONTROLLERS[name](SIZE)
        before = controller.window
        controller.on_acked(1.0, before, 0.9, 10, 0.1, False)
        assert controller.window == before

    @pytest.mark.parametrize("name", CONTROLLERS)
    def test_a_spurious_loss_is_undone(self, name: str) -> None:
        controller = CONTROLLERS[name](SIZE)
        controller.on_acked(1.0, 50 * SIZE, 0.9, 10, 0.1, True)
        before = controller.window
        controller.on_lost(1.1, 1.0, False)
        controller.on_spurious_loss(1.0)
        assert controller.window == before

    @pytest.mark.parametrize("name", CONTROLLERS)
    def test_larger_packets_always_leave_room_for_two(self, name: str) -> None:
        controller = CONTROLLERS[name](SIZE)
        controller.on_lost(1.1, 1.0, True)
        controller.on_packet_size(8900)
        assert controller.window >= 2 * 8900

    def test_cubic_grows_like_reno_with_a_factor_of_one_only_past_the_window_before_the_last_loss(self) -> None:
        cubic = Cubic(SIZE)
        cubic.on_acked(1.0, 10 * SIZE, 0.99, 10, 0.01, True)
        cubic.on_lost(1.01, 1.005, False)
        before = cubic.window / SIZE
        cubic.on_lost(1.02, 1.015, False)  # below the maximum: it is remembered lower than the window was
        now, steps = 1.03, []
        while cubic.window < (before + 2) * SIZE:
            window = cubic.window / SIZE
            now += 0.01
            cubic.on_acked(now, cubic.window, now - 0.005, 20, 0.01, True)
            steps.append((window, cubic.window / SIZE - window))
        assert before * (1 + BETA) / 2 < before - 1  # there is room between the two
        assert all(step == pytest.approx(ALPHA, abs=0.05) for window, step in steps if window < before - 1)
        assert steps[-1][1] == pytest.approx(1, abs=0.1)

    def test_cubic_comes_back_to_its_maximum_after_k_seconds(self) -> None:
        cubic = Cubic(SIZE)
        cubic.on_acked(1.0, 990 * SIZE, 0.9, 10, 0.1, True)
        maximum = cubic.window / SIZE
        cubic.on_lost(2.0, 1.9, False)
        assert cubic.window / SIZE == pytest.approx(maximum * BETA, rel=0.01)
        k = (maximum * (1 - BETA) / 0.4) ** (1 / 3)
        now = 2.0
        while now < 2.1 + k:
            now += 0.1
            cubic.on_acked(now, cubic.window, now - 0.05, 20, 0.1, True)
        assert cubic.window / SIZE == pytest.approx(maximum, rel=0.05)

    def test_slow_start_ends_when_the_round_trip_rises(self) -> None:
        hystart = HyStart()
        number = 0
        ended = False
        for rtt in [0.1] * 3 + [0.13] * 7:
            hystart.on_sent(number + 10)
            for _ in range(10):
                number += 1
                ended = ended or hystart.on_acked(number, rtt)
        assert ended
