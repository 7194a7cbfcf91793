"""Any order of joins, leaves, crashes, partitions, moves and restarts ends where the places of the pods demand."""

from __future__ import annotations

import os
import random
from ipaddress import ip_network

import pytest
from exchange_network import RESTART_S, World, block_of
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fairway.net.exchange import Channel, CloseCode

NODES = 4
PODS = [ip_network(f"10.0.200.{number}/32") for number in range(1, 6)]


class Schedule:
    """The things that may happen, each for given numbers: what Hypothesis and the seeded schedules both draw from."""

    def __init__(self) -> None:
        self.world = World(NODES, room=64)
        for node in self.world.nodes:
            node.announced[block_of(node.number)] = 0
            self.world.start(node)
        self.world.rest(2)

    def begin(self, number: int, lost_epoch: bool) -> None:
        node = self.world.nodes[number]
        if not node.running:
            self.world.start(node, lost_epoch=lost_epoch, seeds=tuple(range(NODES)))  # whom it knew before

    def crash(self, number: int) -> None:
        self.world.crash(self.world.nodes[number])

    def stop(self, number: int, leave: bool) -> None:
        node = self.world.nodes[number]
        if node.running:
            self.world.stop(node, CloseCode.LEAVING if leave else CloseCode.RESTARTING)

    def cut(self, a: int, b: int, both: bool) -> None:
        first, second = self.world.nodes[a], self.world.nodes[b]
        if first is not second:
            self.world.blocked.add((first, second))
            if both:
                self.world.blocked.add((second, first))

    def heal(self, a: int, b: int) -> None:
        first, second = self.world.nodes[a], self.world.nodes[b]
        self.world.blocked -= {(first, second), (second, first)}

    def notice(self, which: int, first: bool, host_answers: bool) -> None:
        if self.world.connections:
            connection = self.world.connections[which % len(self.world.connections)]
            self.world.notice(connection, connection.ends[first], host_answers=host_answers)

    def announce(self, number: int, pod: int) -> None:
        self.world.announce(self.world.nodes[number], PODS[pod])

    def withdraw(self, number: int, pod: int) -> None:
        self.world.withdraw(self.world.nodes[number], PODS[pod])

    def move(self, pod: int, to: int) -> None:
        """From wherever it is announced: the new place has the higher version, then the old one withdraws."""
        target = self.world.nodes[to]
        versions = [node.announced[PODS[pod]] for node in self.world.nodes if PODS[pod] in node.announced]
        if PODS[pod] not in target.announced and target.running:
            self.world.announce(target, PODS[pod], version=max(versions, default=-1) + 1)

    def call(self) -> None:
        self.world.call()

    def some(self, which: int, first: bool, channel: Channel, part: float) -> None:
        """One message on one stream goes out, and a part of what is on the way arrives."""
        if self.world.connections:
            connection = self.world.connections[which % len(self.world.connections)]
            self.world.send(connection.ends[first], channel)
            self.world.deliver(connection, connection.ends[first], channel, part=part)

    def elapse(self, seconds: float) -> None:
        self.world.elapse(seconds)

    def end(self) -> None:
        """All is healed, and time passes."""
        self.world.blocked.clear()
        self.world.room = 1 << 30
        self.world.rest(2 * RESTART_S)
        self.world.check()


node_numbers = st.integers(0, NODES - 1)
pod_numbers = st.integers(0, len(PODS) - 1)
anything = st.integers(0, 1000)


class Exchanging(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule()

    @rule(number=node_numbers, lost_epoch=st.booleans())
    def begin(self, number: int, lost_epoch: bool) -> None:
        self.schedule.begin(number, lost_epoch)

    @rule(number=node_numbers)
    def crash(self, number: int) -> None:
        self.schedule.crash(number)

    @rule(number=node_numbers, leave=st.booleans())
    def stop(self, number: int, leave: bool) -> None:
        self.schedule.stop(number, leave)

    @rule(a=node_numbers, b=node_numbers, both=st.booleans())
    def cut(self, a: int, b: int, both: bool) -> None:
        self.schedule.cut(a, b, both)

    @rule(a=node_numbers, b=node_numbers)
    def heal(self, a: int, b: int) -> None:
        self.schedule.heal(a, b)

    @rule(which=anything, first=st.booleans(), host_answers=st.booleans())
    def notice(self, which: int, first: bool, host_answers: bool) -> None:
        self.schedule.notice(which, first, host_answers)

    @rule(number=node_numbers, pod=pod_numbers)
    def announce(self, number: int, pod: int) -> None:
        self.schedule.announce(number, pod)

    @rule(number=node_numbers, pod=pod_numbers)
    def withdraw(self, number: int, pod: int) -> None:
        self.schedule.withdraw(number, pod)

    @rule(pod=pod_numbers, to=node_numbers)
    def move(self, pod: int, to: int) -> None:
        self.schedule.move(pod, to)

    @rule()
    def call(self) -> None:
        self.schedule.call()

    @rule(which=anything, first=st.booleans(), channel=st.sampled_from(Channel), part=st.floats(0.1, 1.0))
    def some(self, which: int, first: bool, channel: Channel, part: float) -> None:
        self.schedule.some(which, first, channel, part)

    @rule(seconds=st.sampled_from([0.1, 0.3, 1.0, 5.0, 25.0]))
    def elapse(self, seconds: float) -> None:
        self.schedule.elapse(seconds)

    @invariant()
    def nothing_rises_from_the_dead(self) -> None:
        self.schedule.world.watch()

    def teardown(self) -> None:
        self.schedule.end()


TestExchanging = Exchanging.TestCase
TestExchanging.settings = settings(
    max_examples=int(os.environ.get("FAIRWAY_EXCHANGE_EXAMPLES", "60")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def _run(seed: int) -> None:
    draw = random.Random(seed)
    schedule = Schedule()
    weights = {
        "begin": 6, "crash": 3, "stop": 2, "cut": 4, "heal": 4, "notice": 12, "announce": 6, "withdraw": 6, "move": 4,
        "call": 8, "some": 60, "elapse": 8,
    }  # fmt: skip
    for name in draw.choices(list(weights), list(weights.values()), k=120):
        number, other = draw.randrange(NODES), draw.randrange(NODES)
        pod, yes = draw.randrange(len(PODS)), draw.random() < 0.5
        match name:
            case "begin" | "stop":
                getattr(schedule, name)(number, yes)
            case "crash":
                schedule.crash(number)
            case "cut":
                schedule.cut(number, other, yes)
            case "heal":
                schedule.heal(number, other)
            case "notice":
                schedule.notice(draw.randrange(100), yes, draw.random() < 0.5)
            case "announce" | "withdraw":
                getattr(schedule, name)(number, pod)
            case "move":
                schedule.move(pod, number)
            case "call":
                schedule.call()
            case "some":
                schedule.some(draw.randrange(100), yes, draw.choice(list(Channel)), draw.uniform(0.1, 1))
            case "elapse":
                schedule.elapse(draw.choice([0.1, 0.3, 1.0, 5.0, 25.0]))
        schedule.world.watch()
    schedule.end()


@pytest.mark.parametrize("hundred", range(int(os.environ.get("FAIRWAY_EXCHANGE_HUNDREDS", "4"))))
def test_schedules_by_the_hundred_all_converge(hundred: int) -> None:
    for seed in range(hundred * 100, hundred * 100 + 100):
        try:
            _run(seed)
        except AssertionError as error:
            raise AssertionError(f"schedule {seed}: {error}") from error
