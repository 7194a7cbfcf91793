"""Sessions between two nodes: what is told, what is kept while a peer is away, and what is refused."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from exchange_network import NETWORK, RESTART_S, Connection, End, World, block_of, permit_of

from fairway.net.exchange import Channel, CloseCode, Endpoint, Held, Loss, Permit, State, limits
from fairway.net.exchange.messages import Announce, Hello, Member, Members, Resume, Withdraw, encode
from fairway.net.exchange.own import Own
from fairway.net.exchange.sending import Sender

POD = ip_network("10.0.200.1/32")


def _two(count: int = 2) -> World:
    world = World(count)
    for node in world.nodes:
        node.announced[block_of(node.number)] = 0
        world.start(node)
    world.rest(2)
    return world


def _only(world: World) -> Connection:
    (connection,) = world.connections
    return connection


def _from(world: World, number: int) -> tuple[Connection, End]:
    connection = _only(world)
    return connection, next(end for end in connection.ends if end.node.number == number)


def _routes(world: World, number: int) -> dict[str, str]:
    exchange = world.nodes[number].exchange
    assert exchange is not None
    return {str(route.prefix): route.node for route in exchange.routes()}


def _say(world: World, number: int, channel: Channel, data: bytes) -> None:
    """Let a node say what an honest one would not."""
    connection, end = _from(world, number)
    opened = channel in connection.other(end).incoming
    end.sent[channel].append((b"" if opened else bytes((channel,))) + data)
    world.deliver(connection, end, channel)


class TestWhatIsTold:
    def test_two_nodes_know_each_others_blocks(self) -> None:
        world = _two()
        assert _routes(world, 0) == {"10.0.1.0/24": "n1"}
        assert _routes(world, 1) == {"10.0.0.0/24": "n0"}

    def test_there_is_one_connection_a_pair(self) -> None:
        world = _two(5)
        assert len(world.connections) == 10
        world.check()

    def test_the_next_hop_is_the_peers_own_address(self) -> None:
        world = _two()
        assert world.nodes[0].exchange is not None
        (route,) = world.nodes[0].exchange.routes()
        assert route.via == ip_address("192.0.2.2")

    def test_what_goes_to_another_node_is_elsewhere(self) -> None:
        world = _two()
        exchange, other = (node.exchange for node in world.nodes)
        assert exchange is not None
        assert other is not None
        inside = ip_network("10.0.1.7/32")
        assert [exchange.is_elsewhere(each) for each in (POD, inside)] == [False, True]
        other.announce(POD, world.now)
        world.rest(2)
        assert exchange.is_elsewhere(POD)
        assert not exchange.is_elsewhere(ip_network("10.0.0.7/32"))
        exchange.announce(ip_network("10.0.200.2/32"), world.now)
        assert not exchange.is_elsewhere(ip_network("10.0.200.2/32"))

    def test_peers_that_were_told_different_things_before_are_told_different_things(self) -> None:
        own = Own(7)
        early, late = Sender(own), Sender(own)
        for sender in (early, late):
            sender.begin(Held(7, 0))
        first, second = own.announce(POD), own.announce(ip_network("10.0.200.2/32"), 3)
        assert early.next(Channel.ANNOUNCEMENTS) == encode(Announce(7, 0, 2, (first, second)))
        third = own.announce(ip_network("10.0.200.3/32"))
        assert early.next(Channel.ANNOUNCEMENTS) == encode(Announce(7, 2, 3, (third,)))
        assert late.next(Channel.ANNOUNCEMENTS) == encode(Announce(7, 0, 3, (first, second, third)))
        own.withdraw(POD)
        for sender in (early, late):
            assert sender.next(Channel.WITHDRAWALS) == encode(Withdraw(7, 0, 4, ((POD, 4),)))
            assert not sender.pending(Channel.ANNOUNCEMENTS)

    def test_a_withdrawal_overtakes_a_table_that_is_on_its_way(self) -> None:
        world = World(2)
        first, second = world.nodes
        for number in range(2000):
            first.announced[ip_network(f"10.0.{100 + number // 250}.{number % 250}/32")] = 0
        world.start(first)
        world.start(second)
        world.call()
        connection = _only(world)
        sender = next(end for end in connection.ends if end.node is first)
        for _ in range(5):
            for end in connection.ends:
                while world.send(end, Channel.CONTROL) or world.deliver(connection, end, Channel.CONTROL):
                    pass
        while world.send(sender, Channel.TABLE):
            pass
        assert len(sender.sent[Channel.TABLE]) > 5
        world.deliver(connection, sender, Channel.TABLE)  # it begins
        world.deliver(connection, sender, Channel.TABLE)
        gone = ip_network("10.0.100.0/32")
        assert str(gone) in _routes(world, 1)
        late = ip_network("10.0.107.9/32")
        world.withdraw(first, gone)
        world.withdraw(first, late)
        world.send(sender, Channel.WITHDRAWALS)
        world.deliver(connection, sender, Channel.WITHDRAWALS)
        assert str(gone) not in _routes(world, 1)
        world.rest(1)
        assert str(late) not in _routes(world, 1)  # though the table had it
        world.check()

    def test_what_changes_back_is_not_told(self) -> None:
        world = _two()
        before = world.messages
        for _ in range(100):
            world.announce(world.nodes[0], POD)
            world.withdraw(world.nodes[0], POD)
        world.rest(1)
        assert world.messages - before == 2  # the last withdrawal, and that no announcement is left
        world.check()

    def test_a_peer_that_reads_nothing_is_owed_no_memory(self) -> None:
        world = _two()
        connection, _ = _from(world, 0)
        for number in range(20_000):
            prefix = ip_network(f"10.0.200.{number % 250}/32")
            world.announce(world.nodes[0], prefix)
            world.withdraw(world.nodes[0], prefix)
        assert not any(connection.caller.sent.values())
        world.rest(1)
        world.check()

    def test_who_missed_too_many_withdrawals_gets_the_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "WITHDRAWALS_KEPT", 10)
        world = _two()
        pods = [ip_network(f"10.0.200.{number}/32") for number in range(30)]
        for pod in pods:
            world.announce(world.nodes[0], pod)
        world.rest(1)
        for pod in pods[:25]:
            world.withdraw(world.nodes[0], pod)
        world.rest(1)
        world.check()

    def test_a_table_that_is_cut_off_does_not_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "WITHDRAWALS_KEPT", 2)
        world = _two()
        kept, gone = POD, [ip_network(f"10.0.201.{number}/32") for number in range(5)]
        for pod in gone:
            world.announce(world.nodes[0], pod)
        world.rest(1)
        for pod in gone:
            world.withdraw(world.nodes[0], pod)
        world.announce(world.nodes[0], kept)
        connection, sender = _from(world, 0)
        world.send(sender, Channel.TABLE)  # it begins
        world.deliver(connection, sender, Channel.TABLE)
        world.blocked.add((world.nodes[0], world.nodes[1]))
        for end in connection.ends:
            world.notice(connection, end, host_answers=True)
        world.settle()
        world.blocked.clear()
        world.rest(5)
        world.check()

    def test_withdrawals_are_not_remembered_for_good(self) -> None:
        world = _two()
        pods = [ip_network(f"10.0.{200 + number // 250}.{number % 250}/32") for number in range(1000)]
        for pod in pods:
            world.announce(world.nodes[0], pod)
        world.rest(1)
        for pod in pods:
            world.withdraw(world.nodes[0], pod)
        world.rest(1)
        assert world.nodes[1].exchange is not None
        assert len(world.nodes[1].exchange.peers["n0"].replica._gone) <= limits.PROGRESS_EVERY

    def test_a_node_whose_address_changes_tells_the_others(self) -> None:
        world = _two()
        exchange, other = world.nodes[0].exchange, world.nodes[1].exchange
        assert exchange is not None
        assert other is not None
        other.rib.take_changed()
        where = Endpoint(ip_address("2001:db8::7"), 7000)
        exchange.news.move((where,))
        world.rest(1)
        assert other.directory.known["n0"].endpoints == (where,)
        assert block_of(0) in other.rib.take_changed()


class TestWhoIsAway:
    def test_routes_stay_while_an_agent_restarts_and_are_told_anew(self) -> None:
        world = _two()
        world.announce(world.nodes[1], POD)
        world.rest(1)
        world.stop(world.nodes[1])
        world.elapse(RESTART_S / 2)
        assert _routes(world, 0) == {"10.0.1.0/24": "n1", str(POD): "n1"}
        del world.nodes[1].announced[POD]  # it went while the agent was away
        world.start(world.nodes[1])
        world.rest(1)
        world.check()

    def test_routes_go_when_the_agent_does_not_come_back_in_time(self) -> None:
        world = _two()
        world.stop(world.nodes[1])
        world.elapse(RESTART_S - 1)
        assert _routes(world, 0)
        world.elapse(1.1)
        assert not _routes(world, 0)

    def test_a_silent_peers_routes_go_at_once_unless_its_host_answers(self) -> None:
        for answers in (False, True):
            world = _two()
            world.crash(world.nodes[1])
            connection, end = _from(world, 0)
            assert world.notice(connection, end, host_answers=answers)
            world.elapse(limits.VERDICT_S)
            assert bool(_routes(world, 0)) is answers
            world.elapse(RESTART_S)
            assert not _routes(world, 0)

    def test_who_leaves_takes_its_routes_along(self) -> None:
        world = _two()
        world.stop(world.nodes[1], CloseCode.LEAVING)
        assert not _routes(world, 0)

    def test_a_lost_connection_is_resumed_without_a_table(self) -> None:
        world = _two()
        first, second = world.nodes
        world.blocked.add((first, second))
        for end in _only(world).ends:
            world.notice(_only(world), end, host_answers=True)
        world.settle()
        world.announce(first, POD)
        world.blocked.clear()
        world.rest(5)
        world.check()
        (session,) = second.exchange.peers.sessions() if second.exchange else ()
        assert session._sender.tables == 0

    def test_a_node_that_lost_its_state_is_believed_again(self) -> None:
        world = _two()
        world.announce(world.nodes[1], POD)
        world.rest(1)
        world.crash(world.nodes[1])
        del world.nodes[1].announced[POD]
        world.start(world.nodes[1], lost_epoch=True)
        world.rest(5)
        world.check()
        assert world.nodes[1].exchange is not None
        assert world.nodes[1].exchange.own.epoch == world.nodes[1].epoch < 1000, (
            "nobody tells a node which life it is in"
        )


class TestTwoConnections:
    def test_of_two_that_call_each_other_at_once_one_call_is_kept_by_both(self) -> None:
        world = World(2)
        first, second = world.nodes
        world.start(first)
        world.start(second)
        world.connect(second, first)
        world.connect(first, second)
        world.rest(1)
        assert _only(world).caller.node is first  # the lower name

    def test_the_call_of_a_later_life_takes_the_place_of_what_is_left_of_the_former(self) -> None:
        world = _two()
        world.crash(world.nodes[1])
        world.start(world.nodes[1])
        world.connect(world.nodes[1], world.nodes[0])
        for _ in range(3):
            for connection in list(world.connections):
                for end in connection.ends:
                    while world.send(end, Channel.CONTROL) or world.deliver(connection, end, Channel.CONTROL):
                        pass
        assert world.nodes[0].exchange is not None
        session = world.nodes[0].exchange.peers["n1"].session
        assert session is not None
        assert session.epoch == world.nodes[1].epoch


class TestWhatIsRefused:
    def test_what_the_certificate_does_not_allow_is_refused_and_counted(self) -> None:
        world = _two()
        stolen = block_of(0)
        assert world.nodes[1].exchange is not None
        world.nodes[1].exchange.announce(stolen, world.now, version=99)
        world.nodes[1].exchange.announce(ip_network("10.0.0.0/16"), world.now)
        world.nodes[1].exchange.announce(ip_network("192.168.1.1/32"), world.now)
        world.rest(1)
        assert world.nodes[0].exchange is not None
        peer = world.nodes[0].exchange.peers["n1"]
        assert peer.counters.refused == 3
        assert _routes(world, 0) == {"10.0.1.0/24": "n1"}
        assert peer.session is not None

    def test_a_node_under_another_name_is_refused(self) -> None:
        world = World(2)
        world.start(world.nodes[0])
        exchange = world.nodes[0].exchange
        assert exchange is not None
        session = exchange.peers.connect(permit_of(1), world.nodes[1].endpoint)
        session.stream().receive(b"\x00" + encode(Hello(NETWORK, "n7", 1)), 0.0)
        assert session.closing == (CloseCode.REFUSED, "n1 calls itself n7")
        assert exchange.peers["n1"].counters.faults == 1

    def test_a_node_of_another_network_is_refused(self) -> None:
        world = World(2)
        world.start(world.nodes[0])
        assert world.nodes[0].exchange is not None
        session = world.nodes[0].exchange.peers.connect(permit_of(1), world.nodes[1].endpoint)
        session.stream().receive(b"\x00" + encode(Hello(bytes(16), "n1", 1)), 0.0)
        assert session.closing == (CloseCode.REFUSED, "the peer is of another network")

    def test_a_node_with_our_own_name_is_refused(self) -> None:
        world = World(1)
        world.start(world.nodes[0])
        assert world.nodes[0].exchange is not None
        session = world.nodes[0].exchange.peers.connect(permit_of(0), world.nodes[0].endpoint)
        assert session.state is State.CLOSED

    def test_a_revoked_node_is_cut_off_and_not_let_in_again(self) -> None:
        world = _two()
        exchange = world.nodes[0].exchange
        assert exchange is not None
        exchange.peers.revoke(frozenset({1}))
        world.settle()
        assert not _routes(world, 0)
        world.rest(5)
        assert not _routes(world, 0)
        assert not exchange.peers.sessions()

    @pytest.mark.parametrize(
        ("channel", "data"),
        [
            (Channel.CONTROL, encode(Hello(NETWORK, "n1", 1001))),
            (Channel.CONTROL, b"\x02\x01\x00"),
            (Channel.WITHDRAWALS, b"\x11\x80\xff\xff\xff"),
            (Channel.ANNOUNCEMENTS, encode(Resume(1, 2))),
        ],
    )
    def test_what_is_not_of_the_protocol_ends_the_session_and_no_other(self, channel: Channel, data: bytes) -> None:
        world = _two(3)
        between = [c for c in world.connections if {end.node.number for end in c.ends} == {0, 1}]
        keep = [c for c in world.connections if c not in between]
        world.connections = between
        session = world.nodes[0].exchange.peers["n1"].session if world.nodes[0].exchange else None
        assert session is not None
        _say(world, 1, channel, data)
        assert session.closing is not None
        assert session.closing[0] is CloseCode.PROTOCOL
        world.connections = keep
        world.rest(RESTART_S)
        world.check()

    def test_more_prefixes_than_are_held_are_refused_and_fetched_when_there_is_room(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "MAX_PREFIXES", 20)
        world = _two()
        pods = [ip_network(f"10.0.200.{number}/32") for number in range(30)]
        for pod in pods:
            world.announce(world.nodes[1], pod)
        world.rest(1)
        assert len(_routes(world, 0)) == 20
        for pod in pods[:15]:
            world.withdraw(world.nodes[1], pod)
        world.rest(1)
        world.check()

    def test_a_flood_is_left_unread_for_a_while(self) -> None:
        world = _two()
        assert world.nodes[0].exchange is not None
        session = world.nodes[0].exchange.peers["n1"].session
        assert session is not None
        stream = session.stream()
        paused = stream.receive(bytes((Channel.WITHDRAWALS,)), world.now)
        assert paused == 0.0
        flood = b"".join(encode(Withdraw(world.nodes[1].epoch, 0, 0)) for _ in range(2000))
        for _ in range(40):
            paused = stream.receive(flood, world.now)
        assert 1.0 < paused < 10.0
        assert session.counters.paused_s > 0

    def test_much_data_before_the_hello_is_refused(self) -> None:
        world = World(2)
        world.start(world.nodes[0])
        assert world.nodes[0].exchange is not None
        session = world.nodes[0].exchange.peers.connect(permit_of(1), world.nodes[1].endpoint)
        stream = session.stream()
        for _ in range(5):
            stream.receive(bytes((Channel.TABLE,)) * 16_384, 0.0)
        assert session.closing == (CloseCode.PROTOCOL, "much data, and no hello")

    def test_more_streams_than_there_are_kinds_are_refused(self) -> None:
        world = World(2)
        world.start(world.nodes[0])
        assert world.nodes[0].exchange is not None
        session = world.nodes[0].exchange.peers.connect(permit_of(1), world.nodes[1].endpoint)
        for _ in range(6):
            session.stream()
        assert session.state is State.CLOSED

    def test_a_gap_is_noticed_and_mended(self) -> None:
        world = _two()
        _, end = _from(world, 1)
        for number in range(3):
            world.announce(world.nodes[1], ip_network(f"10.0.200.{number}/32"))
            world.send(end, Channel.ANNOUNCEMENTS)
        del end.sent[Channel.ANNOUNCEMENTS][1]
        world.rest(1)
        assert world.nodes[0].exchange is not None
        assert world.nodes[0].exchange.peers["n1"].counters.resyncs == 1
        world.check()

    def test_who_never_tells_what_it_says_is_missing_is_given_up(self) -> None:
        world = _two()
        epoch = world.nodes[1].epoch
        assert world.nodes[0].exchange is not None
        peer = world.nodes[0].exchange.peers["n1"]
        _say(world, 1, Channel.ANNOUNCEMENTS, encode(Announce(epoch, 1, 1)) + encode(Announce(epoch, 50, 51)))
        world.rest(1)
        assert peer.counters.faults == 1
        world.rest(RESTART_S)
        world.check()


class TestMembers:
    def test_from_one_peer_all_others_are_learnt(self) -> None:
        world = _two(6)
        assert world.nodes[5].exchange is not None
        assert set(world.nodes[5].exchange.directory.known) == {"n0", "n1", "n2", "n3", "n4"}

    def test_a_lie_about_where_somebody_is_changes_nothing_for_who_speaks_with_him(self) -> None:
        world = _two(3)
        assert world.nodes[0].exchange is not None
        exchange = world.nodes[0].exchange
        session = exchange.peers["n1"].session
        assert session is not None
        lie = Member("n2", (Endpoint(ip_address("203.0.113.1"), 1),))
        exchange.news.told_members(Members((lie,)), world.now)
        assert exchange.directory.known["n2"].endpoints[0] == world.nodes[2].endpoint

    def test_who_is_only_told_of_is_called_less_and_less_and_apart_from_the_others(self) -> None:
        world = _two()
        assert world.nodes[0].exchange is not None
        exchange = world.nodes[0].exchange
        session = exchange.peers["n1"].session
        assert session is not None
        lie = Member("x", (Endpoint(ip_address("203.0.113.1"), 1),))
        exchange.news.told_members(Members((lie,)), world.now)
        calls = 0
        for _ in range(3000):
            world.now += 0.1
            for call in exchange.calls(world.now):
                assert call.hearsay
                calls += 1
        assert 10 <= calls <= 25

    def test_nobody_speaks_of_a_node_that_is_gone(self) -> None:
        world = _two(3)
        world.crash(world.nodes[2])
        world.rest(limits.FORGET_S + 60)
        assert world.nodes[0].exchange is not None
        assert "n2" not in world.nodes[0].exchange.directory.known
        assert world.nodes[0].exchange.peers.get("n2") is None

    def test_the_number_of_members_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "MAX_MEMBERS", 10)
        world = _two()
        assert world.nodes[0].exchange is not None
        exchange = world.nodes[0].exchange
        session = exchange.peers["n1"].session
        assert session is not None
        exchange.news.told_members(Members(tuple(Member(f"x{n}", ()) for n in range(50))), world.now)
        assert len(exchange.directory.known) == 10


class TestConflicts:
    def test_overlapping_blocks_are_seen_on_both_sides(self) -> None:
        world = World(2)
        for node in world.nodes:
            node.permit = Permit(node.name, (ip_network("10.0.0.0/16"),))
        world.nodes[0].announced[ip_network("10.0.4.0/22")] = 0
        world.nodes[1].announced[ip_network("10.0.5.0/24")] = 0
        for node in world.nodes:
            world.start(node)
        world.rest(2)
        for node in world.nodes:
            assert node.exchange is not None
            assert node.exchange.rib.take_may_conflict()
            assert [str(each) for each in node.exchange.conflicts()] == ["10.0.4.0/22 of n0 overlaps 10.0.5.0/24 of n1"]

    def test_one_address_of_two_nodes_is_a_conflict_unless_it_moves(self) -> None:
        world = _two(3)
        world.announce(world.nodes[0], POD)
        world.announce(world.nodes[1], POD)
        world.rest(1)
        third = world.nodes[2].exchange
        assert third is not None
        assert [str(each) for each in third.conflicts()] == [f"n0 and n1 both announce {POD}"]
        assert third.route(POD) is not None
        moved = world.nodes[1].exchange
        assert moved is not None
        world.announce(world.nodes[1], POD, version=moved.next_version(POD))
        world.rest(1)
        assert third.conflicts() == []
        route = third.route(POD)
        assert route is not None
        assert route.node == "n1"

    def test_an_address_in_another_nodes_block_is_no_conflict(self) -> None:
        world = _two()
        world.announce(world.nodes[0], ip_network("10.0.1.9/32"))
        world.rest(1)
        assert world.nodes[1].exchange is not None
        assert world.nodes[1].exchange.conflicts() == []
        assert _routes(world, 1)["10.0.1.9/32"] == "n0"


def test_what_became_of_a_session_that_was_replaced_is_nobodys_loss() -> None:
    world = _two()
    assert world.nodes[0].exchange is not None
    peers = world.nodes[0].exchange.peers
    other = peers.connect(permit_of(1), world.nodes[1].endpoint)
    peers.lost(other, Loss.LEFT, world.now)
    assert _routes(world, 0) == {"10.0.1.0/24": "n1"}
