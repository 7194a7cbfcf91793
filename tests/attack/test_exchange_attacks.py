"""A member of the network that turned bad, against one honest node: what it says, and what it makes others do."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from quic_attacker import bounded

from effort import counted
from fairway.net.exchange import Channel, CloseCode, Endpoint, Exchange, Incoming, Loss, Permit, Session, State, limits
from fairway.net.exchange.messages import (
    Announce,
    Announcement,
    Endpoints,
    Held,
    Hello,
    Member,
    Members,
    Message,
    ResyncRequest,
    TableBegin,
    TableEnd,
    Withdraw,
    encode,
)
from fairway.wire.varint import VARINT_MAX, encode_varint

NETWORK = b"the-test-network"
POOL = ip_network("10.0.0.0/16")
HERE = Endpoint(ip_address("192.0.2.66"), 7946)


class Attacker:
    """A peer with a certificate of its own, that says whatever it likes; `node` is the honest one."""

    def __init__(self, node: Exchange, name: str = "mallory", serial: int = 66) -> None:
        self.node = node
        self.now = 100.0
        self.session = node.peers.connect(Permit(name, (ip_network("10.0.66.0/24"),), (POOL,), serial), HERE)
        self._streams: dict[Channel, Incoming] = {}
        self.name = name

    def hello(self, *, holds: Held | None = None, epoch: int = 7) -> Attacker:
        self.say(Channel.CONTROL, Hello(NETWORK, self.name, epoch, (HERE,), holds))
        return self

    def say(self, channel: Channel, *messages: Message) -> float:
        """Gives for how long no more is read."""
        return self.send(channel, b"".join(map(encode, messages)))

    def send(self, channel: Channel, data: bytes) -> float:
        if channel not in self._streams:
            self._streams[channel] = self.session.stream()
            data = bytes((channel,)) + data
        return self._streams[channel].receive(data, self.now)

    def announce(self, *announcements: Announcement) -> float:
        return self.say(Channel.ANNOUNCEMENTS, Announce(7, 0, len(announcements), announcements))


def drain(session: Session) -> int:
    """Take all that the node wants to say; how much it was."""
    size = 0
    while channels := session.pending():
        size += sum(len(session.next(channel)) for channel in channels)
    return size


@pytest.fixture
def node() -> Exchange:
    node = Exchange("honest", NETWORK, 1_000, jitter=lambda: 0.5, endpoints=(Endpoint(ip_address("192.0.2.1"), 7946),))
    node.announce(ip_network("10.0.1.0/24"), 0.0)
    return node


class TestWhatItSaysOfUs:
    @pytest.mark.parametrize("holds", [Held(VARINT_MAX, 1), Held(1_000, VARINT_MAX), Held(VARINT_MAX, VARINT_MAX)])
    def test_does_not_silence_us_towards_others(self, node: Exchange, holds: Held) -> None:
        """A node that had to speak of a life after the last number there is could speak to nobody any more."""
        Attacker(node).hello(holds=holds)
        other = Attacker(node, "friend", 5).hello()
        assert drain(other.session) > 0
        assert node.own.epoch == 1_000

    def test_does_not_make_us_tell_everybody_everything_again(self, node: Exchange) -> None:
        friend = Attacker(node, "friend", 5).hello()
        drain(friend.session)
        for number in range(20):
            attacker = Attacker(node).hello(holds=Held(2_000 + number, 5))
            node.peers.lost(attacker.session, Loss.SILENT, attacker.now)
        assert drain(friend.session) < 20 * 40, "who comes and where he is, and no table"


class TestNumbersAtTheirEnds:
    def test_a_version_that_nobody_can_follow_is_refused(self, node: Exchange) -> None:
        pod = ip_network("10.0.1.5/32")
        attacker = Attacker(node).hello()
        attacker.announce(Announcement(pod, 1, VARINT_MAX))
        assert node.route(pod) is None
        assert node.peers["mallory"].counters.refused == 1

    def test_where_the_highest_is_taken_both_announce_it_and_everybody_is_told(self, node: Exchange) -> None:
        pod = ip_network("10.0.1.5/32")
        Attacker(node).hello().announce(Announcement(pod, 1, limits.MAX_VERSION))
        node.announce(pod, 0.0, version=node.next_version(pod))
        assert drain(Attacker(node, "friend", 5).hello().session) > 0, "it can be said"
        assert [str(conflict) for conflict in node.conflicts()] == ["honest and mallory both announce 10.0.1.5/32"]

    @pytest.mark.parametrize("channel", [Channel.ANNOUNCEMENTS, Channel.WITHDRAWALS])
    def test_a_sequence_that_cannot_be_told_back_is_a_fault(self, node: Exchange, channel: Channel) -> None:
        attacker = Attacker(node).hello()
        kind = Announce if channel is Channel.ANNOUNCEMENTS else Withdraw
        attacker.say(channel, kind(7, VARINT_MAX, 2 * VARINT_MAX))
        assert attacker.session.state is State.CLOSED
        drain(Attacker(node).hello().session)

    def test_another_life_than_that_of_the_hello_is_a_fault(self, node: Exchange) -> None:
        attacker = Attacker(node).hello()
        attacker.say(Channel.ANNOUNCEMENTS, Announce(8, 0, 0))
        assert attacker.session.state is State.CLOSED


class TestWhatItMayAnnounce:
    @pytest.mark.parametrize(
        "prefix", ["0.0.0.0/0", "::/0", "10.0.0.0/16", "10.0.1.0/24", "10.0.1.0/31", "192.0.2.1/32"]
    )
    def test_is_not_the_network_nor_others_blocks(self, node: Exchange, prefix: str) -> None:
        Attacker(node).hello().announce(Announcement(ip_network(prefix), 1))
        assert node.routes() == []


class TestARevokedNode:
    def test_that_waits_with_its_hello_until_it_is_revoked_is_not_let_in(self, node: Exchange) -> None:
        attacker = Attacker(node)
        node.peers.revoke(frozenset({66}))
        attacker.hello()
        assert attacker.session.closing is not None
        assert attacker.session.closing[0] is CloseCode.REFUSED
        assert node.peers.sessions() == []


class TestWhatItTellsOfOthers:
    def crowd(self, start: int, count: int) -> Members:
        return Members(tuple(Member(f"x{start + n}", (HERE,)) for n in range(count)))

    def test_members_that_are_not_there_are_few_and_called_seldom(self, node: Exchange) -> None:
        attacker = Attacker(node).hello()
        calls = 0
        for second in range(300):
            attacker.now = now = 200.0 + second
            attacker.say(Channel.MEMBERS, self.crowd(second * 100, 100))
            calls += sum(call.hearsay for call in node.calls(now))
        assert len(node.directory.known) <= limits.MAX_HEARSAY + 1
        assert calls < 300 * 60

    def test_they_hold_up_no_call_to_one_that_was_spoken_with(self, node: Exchange) -> None:
        friend = Attacker(node, "friend", 5).hello()
        attacker = Attacker(node).hello()
        attacker.say(Channel.MEMBERS, self.crowd(0, 1_000))
        node.peers.lost(friend.session, Loss.SILENT, attacker.now)
        (call,) = [call for call in node.calls(attacker.now + 1) if call.name == "friend"]
        assert not call.hearsay

    def test_one_that_is_there_is_learnt_in_the_end_though_there_is_a_crowd(self, node: Exchange) -> None:
        attacker = Attacker(node).hello()
        attacker.say(Channel.MEMBERS, self.crowd(0, limits.MAX_HEARSAY))
        friend = Members((Member("friend", (Endpoint(ip_address("192.0.2.9"), 7946),)),))
        for second in range(30):
            attacker.now = 200.0 + second
            node.calls(attacker.now)
        attacker.say(Channel.MEMBERS, friend)
        assert "friend" in node.directory.known

    @pytest.mark.parametrize("address", ["224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "::"])
    def test_nobody_is_called_at_an_address_of_many(self, node: Exchange, address: str) -> None:
        attacker = Attacker(node).hello()
        everybody = Members((Member("friend", (Endpoint(ip_address(address), 53), Endpoint(HERE.address, 0))),))
        attacker.say(Channel.MEMBERS, everybody)
        assert [call for call in node.calls(attacker.now + 10) if call.name == "friend"] == []

    def test_a_member_where_somebody_else_was_found_is_left_in_peace(self, node: Exchange) -> None:
        attacker = Attacker(node).hello()
        attacker.say(Channel.MEMBERS, self.crowd(0, 1))
        assert [call.name for call in node.calls(attacker.now + 1)] == ["x0"]
        node.directory.misled("x0", attacker.now + 1)
        assert node.calls(attacker.now + 500) == []


class TestWhatComesBeforeItsHello:
    def test_is_kept_in_bounds(self, node: Exchange) -> None:
        attacker = Attacker(node)
        attacker.send(Channel.ANNOUNCEMENTS, bytes(60_000))
        assert attacker.session.state is State.HELLO
        attacker.send(Channel.ANNOUNCEMENTS, bytes(10_000))
        assert attacker.session.state is State.CLOSED


class TestLongMessages:
    """Few of them, and of no type that is known: no work, but bytes."""

    def test_are_read_as_fast_as_bytes_may_come(self, node: Exchange) -> None:
        attacker = Attacker(node).hello()
        block = b"\x3f" + encode_varint(16_000) + bytes(16_000)
        pauses = [attacker.send(Channel.CONTROL, block) for _ in range(500)]
        assert attacker.session.state is State.OPEN
        assert pauses[:200] == [0.0] * 200
        assert 3.9 < pauses[-1] < 4.1, "8 MB, of which 4 may come at once, and 1 a second"


class TestContradictions:
    def test_by_the_thousand_are_told_of_by_the_hundred(self, node: Exchange) -> None:
        for name, serial in (("mallory", 66), ("eve", 67)):
            attacker = Attacker(node, name, serial).hello()
            for start in range(0, 3_000, 500):
                pods = tuple(Announcement(ip_network((0x0A000200 + start + n, 32)), start + n + 1) for n in range(500))
                attacker.say(Channel.ANNOUNCEMENTS, Announce(7, start, start + 500, pods))
        assert len(node.routes()) == 3_000
        assert len(node.conflicts()) == 100


class TestWhatItNeverTold:
    def test_withdrawals_of_it_without_end_are_not_remembered(self, node: Exchange) -> None:
        attacker = Attacker(node).hello()
        drain(attacker.session)
        with bounded(steps=20_000_000, megabytes=6.0):
            for start in range(0, 40_000, 500):
                prefixes = tuple((ip_network((0x0A000000 + start + n, 32)), start + n + 1) for n in range(500))
                attacker.say(Channel.WITHDRAWALS, Withdraw(7, start, start + 500, prefixes))
        assert attacker.session.state is State.OPEN
        assert Channel.CONTROL in attacker.session.pending(), "it asks for the table"

    def test_tables_that_never_have_it_end_the_session(self, node: Exchange) -> None:
        attacker = Attacker(node).hello()
        attacker.say(Channel.ANNOUNCEMENTS, Announce(7, 50, 60))  # what was before is missing
        for _ in range(limits.SHORT_TABLES):
            attacker.say(Channel.TABLE, TableBegin(7, 0), TableEnd())
        assert attacker.session.state is State.OPEN
        attacker.say(Channel.TABLE, TableBegin(7, 0), TableEnd())
        assert attacker.session.state is not State.OPEN


class TestShortMessagesThatCostMuch:
    """Each goes through the whole table: so many a second as a change costs would be a processor's whole time."""

    @pytest.fixture
    def loaded(self, node: Exchange) -> Attacker:
        attacker = Attacker(node).hello()
        for start in range(0, 8_000, 500):
            singles = [ip_network((0x0A000000 + start + n, 32)) for n in range(500)]
            attacker.announce(*(Announcement(single, 1_000_000 + start) for single in singles))
        assert len(node.peers["mallory"].replica) == 8_000
        return attacker

    @pytest.mark.parametrize(
        ("what", "steps"),
        [("tables", 2_000_000), ("addresses", 10_000_000), ("resyncs", 25_000), ("unknown", 3_000_000),
         ("members", 20_000_000)],
    )  # fmt: skip
    def test_are_read_seldom(self, node: Exchange, loaded: Attacker, what: str, steps: int) -> None:
        """What may be read in 15 s takes a processor a few of them, or less."""
        for number in range(4_000):
            node.announce(ip_network((0x0B000000 + number, 32)), 0.0)
        owed_s, rounds = 0.0, 0
        with counted(steps):
            while owed_s < 5.0 and rounds < 5_000:
                rounds += 1
                if what == "tables":
                    owed_s = loaded.say(Channel.TABLE, TableBegin(7, 0), TableEnd())
                elif what == "addresses":
                    elsewhere = Endpoint(ip_address(f"192.0.2.{rounds % 200}"), 7946)
                    owed_s = loaded.say(Channel.CONTROL, Endpoints((elsewhere,)))
                elif what == "resyncs":
                    owed_s = loaded.say(Channel.CONTROL, ResyncRequest())
                elif what == "unknown":
                    owed_s = loaded.send(Channel.MEMBERS, b"\x7f\x00" * 1_000)
                else:
                    crowd = tuple(Member(f"y{rounds}-{n}", (HERE,)) for n in range(500))
                    owed_s = loaded.say(Channel.MEMBERS, Members(crowd))
        assert loaded.session.state is State.OPEN
        assert owed_s >= 5.0, "it has to wait"
