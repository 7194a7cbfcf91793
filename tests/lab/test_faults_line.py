import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.lab.faults.frames import VNET
from fairway.lab.faults.line import Line, Loss
from fairway.lab.faults.switch import MOST_ADDRESSES, Switch
from fairway.lab.model import Faults


def frame(length: int = 1000, mark: int = 0) -> bytes:
    return bytes(VNET) + mark.to_bytes(4, "big") + bytes(length - 4)


def mark_of(data: bytes) -> int:
    return int.from_bytes(data[VNET : VNET + 4], "big")


def line_of(**faults) -> Line:
    return Line(Faults(**faults), random.Random(1).random)


def released(line: Line) -> list[tuple[float, int]]:
    out = []
    now = 0.0
    while line.next_due < math.inf:
        now = max(now, line.next_due)
        out += [(now, mark_of(data)) for data in line.due(now)]
    return out


def test_a_frame_comes_out_after_the_delay_and_not_before():
    line = line_of(delay_ms=10)
    line.accept(frame(), 5.0)
    assert line.next_due == pytest.approx(5.01)
    assert line.due(5.0099) == []
    assert line.due(5.0101) == [frame()]
    assert line.next_due == math.inf


@given(st.lists(st.floats(0, 0.01), min_size=1, max_size=60), st.integers(0, 2**32))
def test_jitter_stays_within_its_bounds_and_keeps_the_order(gaps, seed):
    line = Line(Faults(delay_ms=10, jitter_ms=4), random.Random(seed).random)
    sent = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    for mark, at in enumerate(sent):
        line.accept(frame(mark=mark), at)
    out = released(line)
    assert [mark for _, mark in out] == list(range(len(gaps)))
    assert all(at + 0.006 - 1e-9 <= due <= at + 0.014 + 1e-9 for at, (due, _) in zip(sent, out, strict=True))


def test_jitter_larger_than_the_delay_never_releases_a_frame_before_it_came():
    line = line_of(delay_ms=1, jitter_ms=50)
    for mark in range(100):
        line.accept(frame(mark=mark), float(mark))
    assert all(due >= mark for due, mark in released(line))


def test_the_rate_spaces_frames_by_their_time_on_the_wire():
    line = line_of(rate_bps=8_000_000)
    for mark in range(20):
        line.accept(frame(1000, mark), 1.0)
    out = released(line)
    assert [due for due, _ in out] == pytest.approx([1 + 0.001 * (n + 1) for n in range(20)])


def test_a_full_queue_before_the_rate_drops_its_tail():
    line = line_of(rate_bps=8_000_000)
    for mark in range(1000):
        line.accept(frame(1000, mark), 1.0)
    out = released(line)
    assert [mark for _, mark in out] == list(range(100))  # 100 ms of 1 ms each
    line.accept(frame(1000, 7), 1.2)
    assert [mark for _, mark in released(line)] == [7]


def test_a_queue_drains_while_time_passes():
    line = line_of(rate_bps=8_000_000)
    for mark in range(300):
        line.accept(frame(1000, mark), 1.0 + mark * 0.001)
    assert len(released(line)) == 300


def test_what_a_line_holds_is_bounded():
    line = Line(Faults(delay_ms=60_000), random.random, held_bytes=1_000_000)
    for _ in range(3000):
        line.accept(frame(1000), 0.0)
    assert 700 < len(line.due(61.0)) <= 1000
    line.accept(frame(1000), 62.0)
    assert line.due(123.0) == [frame(1000)]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_the_share_of_packets_lost_is_the_one_asked_for(share):
    loss = Loss(share, random.Random(7).random)
    counts = [1, 44, 3, 17] * 10_000
    passed = sum(last - first for count in counts for first, last in loss.survivors(count))
    expected = sum(counts) * (1 - share)
    deviation = math.sqrt(sum(counts) * share * (1 - share))
    assert abs(passed - expected) < 6 * deviation


@given(st.floats(0, 1), st.lists(st.integers(1, 60), max_size=50), st.integers(0, 2**32))
def test_survivors_are_ordered_ranges_with_a_loss_between_them(share, counts, seed):
    loss = Loss(share, random.Random(seed).random)
    for count in counts:
        ranges = loss.survivors(count)
        assert all(0 <= first < last <= count for first, last in ranges)
        assert all(before[1] < after[0] for before, after in pairwise(ranges))


def test_no_loss_loses_nothing_and_full_loss_everything():
    assert Loss(0.0, random.random).survivors(50) == [(0, 50)]
    assert Loss(1.0, random.random).survivors(50) == []


def addressed(target: int, source: int) -> bytes:
    return bytes(VNET) + target.to_bytes(6, "big") + source.to_bytes(6, "big") + bytes(48)


def test_a_switch_floods_the_unknown_and_groups_and_then_knows_where_an_address_is():
    switch = Switch(3)
    assert switch.outputs(addressed(0x0200_0000_0002, 0x0200_0000_0001), 0) == (1, 2)
    assert switch.outputs(addressed(0x0200_0000_0001, 0x0200_0000_0002), 1) == (0,)
    assert switch.outputs(addressed(0x0200_0000_0002, 0x0200_0000_0001), 0) == (1,)
    assert switch.outputs(addressed(0xFFFF_FFFF_FFFF, 0x0200_0000_0001), 0) == (1, 2)
    assert switch.outputs(addressed(0x0200_0000_0001, 0x0200_0000_0003), 0) == ()


def test_a_switch_follows_an_address_that_moves():
    switch = Switch(3)
    switch.outputs(addressed(0xFFFF_FFFF_FFFF, 0x0200_0000_0001), 0)
    switch.outputs(addressed(0xFFFF_FFFF_FFFF, 0x0200_0000_0001), 2)
    assert switch.outputs(addressed(0x0200_0000_0001, 0x0200_0000_0002), 1) == (2,)


def test_a_switch_forgets_the_oldest_address_when_it_is_full():
    switch = Switch(3)
    for number in range(MOST_ADDRESSES + 1):
        switch.outputs(addressed(0xFFFF_FFFF_FFFF, 0x0200_0000_0000 + number), 0)
    assert switch.outputs(addressed(0x0200_0000_0000, 0x0200_FFFF_0000), 1) == (0, 2)
    assert switch.outputs(addressed(0x0200_0000_0000 + MOST_ADDRESSES, 0x0200_FFFF_0000), 1) == (0,)


def test_between_two_ports_a_frame_goes_out_by_the_other():
    switch = Switch(2)
    assert switch.outputs(addressed(1, 2), 0) == (1,)
    assert switch.outputs(addressed(2, 2), 1) == (0,)
