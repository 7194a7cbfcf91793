"""Which stream sends next: the schedule alone, and the order in which responses end over a simulated path."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quic_pair import Pair, SimulatedPath

from fairway.quic import Connection, QuicConfiguration, UsageError
from fairway.quic import events as ev
from fairway.quic.streams.flow_control import SendWindow
from fairway.quic.streams.schedule import Schedule
from fairway.quic.streams.send import SendStream


def stream(stream_id: int, urgency: int = 3, incremental: bool = True) -> SendStream:
    made = SendStream(stream_id, SendWindow(1 << 20))
    made.urgency, made.incremental = urgency, incremental
    return made


def turns(schedule: Schedule, count: int) -> list[int]:
    """Whose batches are the next so many."""
    order = []
    for _ in range(count):
        first = schedule.first()
        if first is None:
            break
        order.append(first.stream_id)
        schedule.served(first)
    return order


def filled(*streams: SendStream) -> Schedule:
    schedule = Schedule()
    for one in streams:
        schedule.add(one)
    return schedule


class TestSchedule:
    def test_the_more_urgent_go_first_always(self) -> None:
        urgent = stream(8, 0)
        schedule = filled(stream(0, 7), stream(4, 3), urgent)
        assert turns(schedule, 3) == [8, 8, 8]
        schedule.remove(urgent)
        assert turns(schedule, 2) == [4, 4]

    def test_those_that_are_not_incremental_go_one_after_the_other_by_their_ids(self) -> None:
        first, second, third = (stream(i, 3, incremental=False) for i in (0, 4, 8))
        schedule = filled(third, first, second)
        assert turns(schedule, 3) == [0, 0, 0]
        schedule.remove(first)
        assert turns(schedule, 2) == [4, 4]
        schedule.add(first)  # a loss: its bytes are due again
        assert turns(schedule, 2) == [0, 0]

    def test_those_that_are_incremental_take_turns(self) -> None:
        schedule = filled(stream(8), stream(0), stream(4))
        assert turns(schedule, 7) == [8, 0, 4, 8, 0, 4, 8]

    def test_of_both_kinds_every_other_batch_is_for_one_that_is_not_incremental(self) -> None:
        alone = [stream(i, 3, incremental=False) for i in (12, 16)]
        schedule = filled(stream(0), stream(4), *alone)
        assert turns(schedule, 8) == [12, 0, 12, 4, 12, 0, 12, 4]
        schedule.remove(alone[0])
        assert turns(schedule, 4) == [16, 0, 16, 4]
        schedule.remove(alone[1])
        assert turns(schedule, 3) == [0, 4, 0]

    def test_a_priority_changes_where_a_stream_waits(self) -> None:
        moving = stream(8, 5)
        schedule = filled(stream(0), stream(4, 3, incremental=False), moving)
        schedule.prioritize(moving, 1, True)
        assert turns(schedule, 2) == [8, 8]
        schedule.prioritize(moving, 3, False)
        assert turns(schedule, 4) == [4, 0, 4, 0]
        schedule.prioritize(moving, 7, False)
        schedule.prioritize(moving, 0, False)
        assert turns(schedule, 1) == [8]
        schedule.remove(moving)
        assert turns(schedule, 2) == [4, 0]

    def test_the_same_priority_again_keeps_the_turn(self) -> None:
        one, other = stream(0), stream(4)
        schedule = filled(one, other)
        for _ in range(5):
            schedule.prioritize(one, 3, True)
        assert turns(schedule, 2) == [0, 4]

    def test_a_priority_changes_while_a_stream_does_not_wait(self) -> None:
        moving = stream(8, 5)
        schedule = filled(stream(0))
        schedule.prioritize(moving, 1, True)
        assert turns(schedule, 1) == [0]
        schedule.add(moving)
        assert turns(schedule, 1) == [8]

    def test_a_priority_changes_while_the_connections_flow_control_holds_a_stream_up(self) -> None:
        moving, other = stream(8, 5), stream(0)
        schedule = filled(moving, other)
        schedule.block(other)
        schedule.block(moving)
        assert not schedule
        schedule.prioritize(moving, 1, True)
        assert not schedule
        schedule.unblock()
        assert turns(schedule, 1) == [8]

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.booleans(), st.integers(0, 4)), max_size=80))
    def test_it_is_what_a_plain_list_would_be(self, steps: list[tuple[int, int, bool, int]]) -> None:
        streams = {i: stream(i) for i in range(10)}
        schedule = Schedule()
        waiting: list[SendStream] = []  # the incremental ones of a level in the order of their turns
        sharing: dict[int, bool] = {}
        for index, urgency, incremental, what in steps:
            one = streams[index]
            if what == 0:
                schedule.remove(one)
                waiting = [other for other in waiting if other is not one]
            elif what == 1:
                changed = (urgency, incremental) != (one.urgency, one.incremental)
                schedule.prioritize(one, urgency, incremental)
                if changed and one in waiting:
                    waiting.remove(one)
                    waiting.append(one)
            elif one not in waiting:
                schedule.add(one)
                waiting.append(one)
            expected = None
            if waiting:
                level = min(other.urgency for other in waiting)
                alone = [other for other in waiting if other.urgency == level and not other.incremental]
                shared = [other for other in waiting if other.urgency == level and other.incremental]
                expected = shared[0] if shared and (not alone or sharing.get(level)) else None
                expected = expected or min(alone, key=lambda other: other.stream_id)
            assert schedule.first() is expected
            assert bool(schedule) == bool(waiting)
            if expected is not None and what == 4:
                schedule.served(expected)
                sharing[expected.urgency] = not expected.incremental
                if expected.incremental:
                    waiting.remove(expected)
                    waiting.append(expected)

    @pytest.mark.parametrize("incremental", [True, False])
    def test_a_thousand_streams_that_go_one_by_one_are_not_compared_with_each_other(self, incremental: bool) -> None:
        compared = 0

        class Number(int):
            def __lt__(self, other: int) -> bool:
                nonlocal compared
                compared += 1
                return int(self) < int(other)

            def __eq__(self, other: object) -> bool:
                nonlocal compared
                compared += 1
                return int(self) == other

            __hash__ = int.__hash__

        class Watched(SendStream):
            def __eq__(self, other: object) -> bool:
                nonlocal compared
                compared += 1
                return self is other

            __hash__ = object.__hash__

        count = 1000
        streams = [Watched(Number(4 * i), SendWindow(0)) for i in range(count)]
        for one in streams:
            one.incremental = incremental
        random.Random(1).shuffle(streams)
        schedule = filled(*streams)
        random.Random(2).shuffle(streams)
        for one in streams:
            assert schedule.first() is not None
            schedule.remove(one)
        assert not schedule
        assert compared < 40 * count

    def test_streams_that_come_and_go_behind_one_that_stays_leave_nothing_behind(self) -> None:
        schedule = filled(stream(0, 3, incremental=False))
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for i in range(1, 20_000):
                passing = stream(4 * i, 3, incremental=False)
                schedule.add(passing)
                schedule.remove(passing)
            assert tracemalloc.get_traced_memory()[0] - before < 20_000
        finally:
            tracemalloc.stop()


SIZE = 60_000


def slow() -> SimulatedPath:
    return SimulatedPath(delay=0.01, rate=1_000_000.0)


class Responses:
    """A server that answers requests with `SIZE` bytes each, as slow as the path is."""

    def __init__(
        self, count: int, configuration: QuicConfiguration | None = None, back: SimulatedPath | None = None
    ) -> None:
        self.pair = Pair(configuration, there=SimulatedPath(), back=back or slow())
        client, server = self.pair.client.core, self.pair.server.core
        assert client is not None
        assert server is not None
        self.client: Connection = client
        self.server: Connection = server
        self.streams: list[int] = []
        for _ in range(count):
            stream_id = client.open_stream()
            assert stream_id is not None
            client.write(stream_id, b"?", end=True)
            self.streams.append(stream_id)
        self.pair.run(lambda: len(self.pair.server.of(ev.StreamReadable)) == count)
        self.begun = self.pair.now

    def answer(self, index: int, urgency: int, incremental: bool, size: int = SIZE) -> None:
        self.server.set_priority(self.streams[index], urgency, incremental)
        assert self.server.write(self.streams[index], bytes(size), end=True) == size

    def got(self, index: int) -> int:
        return len(self.pair.client.received.get(self.streams[index], b""))

    def ended(self, index: int) -> bool:
        return self.streams[index] in self.pair.client.ended

    def begins(self, index: int) -> float:
        return self.pair.client.arrivals[self.streams[index]][0][0]

    def ends(self, index: int) -> float:
        return self.pair.client.arrivals[self.streams[index]][-1][0]

    def run(self) -> list[int]:
        """Until all have ended; in which order they did."""
        self.pair.run(lambda: all(map(self.ended, range(len(self.streams)))))
        return sorted(range(len(self.streams)), key=self.ends)


class TestResponses:
    def test_they_end_by_urgency_whatever_the_order_of_writing(self) -> None:
        responses = Responses(8)
        urgencies = [5, 2, 7, 0, 6, 1, 4, 3]
        for index, urgency in enumerate(urgencies):
            responses.answer(index, urgency, incremental=index % 2 == 0)
        assert [urgencies[index] for index in responses.run()] == sorted(urgencies)

    def test_those_that_are_not_incremental_are_sent_whole_in_the_order_of_the_requests(self) -> None:
        responses = Responses(5)
        for index in (3, 0, 4, 1, 2):
            responses.answer(index, 3, incremental=False)
        assert responses.run() == [0, 1, 2, 3, 4]
        for index in range(4):
            assert responses.begins(index + 1) >= responses.ends(index)

    def test_those_that_are_incremental_grow_together(self) -> None:
        responses = Responses(5)
        for index in (3, 0, 4, 1, 2):
            responses.answer(index, 3, incremental=True, size=4 * SIZE)
        order = responses.run()
        whole = responses.ends(order[-1]) - responses.begun
        assert responses.ends(order[0]) - responses.begun > 0.7 * whole
        assert max(map(responses.begins, range(5))) - responses.begun < 0.3 * whole

    @pytest.mark.parametrize("most", [1, 2, 5])
    def test_they_share_alike_though_every_batch_begins_with_an_acknowledgement(self, most: int) -> None:
        responses = Responses(2)
        client, server, now = responses.client, responses.server, responses.pair.now
        for index in range(2):
            responses.answer(index, 3, incremental=True, size=15 * SIZE)
        got = dict.fromkeys(responses.streams, 0)
        for _ in range(100):
            now += 0.02
            client.ping()
            while (out := client.transmit(now)) is not None:
                server.receive(out.data, out.segment, now)
            batch = server.transmit(now, most)
            assert batch is not None
            client.receive(batch.data, batch.segment, now)
            for stream_id in got:
                got[stream_id] += len(client.read(stream_id))
        assert sum(got.values()) > 100 * most * 1000
        assert min(got.values()) > 0.8 * max(got.values())

    def test_of_both_kinds_neither_waits_for_the_other(self) -> None:
        responses = Responses(4)
        for index in range(4):
            responses.answer(index, 3, incremental=index < 2, size=4 * SIZE)
        order = responses.run()
        assert order.index(2) < order.index(3)
        assert responses.begins(3) >= responses.ends(2)
        assert responses.begins(0) < responses.begins(3)
        assert responses.begins(1) < responses.begins(3)

    def test_a_request_that_arrives_late_and_is_urgent_overtakes(self) -> None:
        responses = Responses(3)
        responses.answer(0, 3, incremental=False, size=10 * SIZE)
        responses.answer(1, 3, incremental=True, size=10 * SIZE)
        responses.pair.run_for(0.2)
        responses.answer(2, 1, incremental=False)
        assert responses.run()[0] == 2

    def test_a_change_while_streams_wait_for_their_turn_takes_effect(self) -> None:
        responses = Responses(4)
        for index in range(4):
            responses.answer(index, 3, incremental=False, size=4 * SIZE)
        responses.pair.run_for(0.1)
        responses.server.set_priority(responses.streams[3], 0, False)
        responses.server.set_priority(responses.streams[0], 7, False)
        assert responses.run() == [3, 1, 2, 0]

    def test_a_change_for_a_stream_of_which_only_the_end_is_left_takes_effect(self) -> None:
        responses = Responses(2)
        responses.server.set_priority(responses.streams[0], 7)
        responses.server.write(responses.streams[0], b"x" * 100)
        responses.pair.run_for(0.1)
        responses.answer(1, 3, incremental=False, size=10 * SIZE)
        responses.server.write(responses.streams[0], b"", end=True)
        responses.pair.run_for(0.1)
        assert not responses.ended(0)
        responses.server.set_priority(responses.streams[0], 0)
        assert responses.run() == [0, 1]

    def test_a_stream_without_credit_of_its_own_holds_nobody_back_and_a_change_meanwhile_takes_effect(self) -> None:
        narrow = QuicConfiguration(handshake_timeout_s=120.0, stream_window=4 * SIZE, stream_window_cap=4 * SIZE)
        responses = Responses(3, narrow)
        pair = responses.pair
        pair.client.reading = False
        responses.answer(0, 0, incremental=False, size=8 * SIZE)
        responses.answer(1, 7, incremental=False, size=SIZE)
        pair.run_for(1.0)
        pair.read(pair.client, responses.streams[1])
        assert responses.ended(1)
        pair.client.reading = True
        responses.server.set_priority(responses.streams[0], 5, False)
        responses.answer(2, 3, incremental=False, size=3 * SIZE)
        pair.read(pair.client, responses.streams[0])
        assert responses.run() == [1, 2, 0]

    def test_a_change_while_the_connection_has_no_credit_takes_effect(self) -> None:
        narrow = QuicConfiguration(handshake_timeout_s=120.0, connection_window=SIZE, connection_window_cap=SIZE)
        responses = Responses(3, narrow)
        pair = responses.pair
        pair.client.reading = False
        responses.answer(0, 1, incremental=False, size=2 * SIZE)
        responses.answer(1, 3, incremental=True)
        responses.answer(2, 5, incremental=False)
        pair.run_for(1.0)
        responses.server.set_priority(responses.streams[0], 7, False)
        responses.server.set_priority(responses.streams[2], 0, False)
        pair.client.reading = True
        for stream_id in responses.streams:
            pair.read(pair.client, stream_id)
        assert responses.run() == [2, 1, 0]

    def test_what_is_sent_again_has_the_urgency_of_its_stream(self) -> None:
        back = slow()
        responses = Responses(2, back=back)
        lost = range(back.count + 5, back.count + 15)
        back.drop = lambda index, data: index in lost
        responses.answer(0, 1, incremental=False)
        responses.answer(1, 5, incremental=False, size=15 * SIZE)
        assert responses.run() == [0, 1]
        assert back.lost == 10
        assert responses.ends(0) - responses.begun < 0.3 * (responses.ends(1) - responses.begun)

    def test_what_is_sent_again_of_a_less_urgent_stream_waits(self) -> None:
        back = slow()
        responses = Responses(2, back=back)
        lost = range(back.count + 5, back.count + 8)
        back.drop = lambda index, data: index in lost
        responses.answer(0, 5, incremental=False, size=10_000)
        responses.pair.settle()
        responses.answer(1, 1, incremental=False, size=15 * SIZE)
        assert responses.run() == [1, 0]
        assert back.lost == 3

    @pytest.mark.parametrize("urgency", [-1, 8])
    def test_an_urgency_that_does_not_exist_is_named(self, urgency: int) -> None:
        responses = Responses(1)
        with pytest.raises(UsageError, match=f"urgency is {urgency}"):
            responses.server.set_priority(responses.streams[0], urgency)
