"""Paths: a client whose address changes under it, one that moves on purpose, and those who only pretend."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from quic_pair import CLIENT_ADDRESS, Pair, Side, SimulatedPath, identity

from fairway.quic import ClosedBy, Connection, Endpoint, QuicConfiguration, UsageError
from fairway.quic import events as ev
from fairway.quic.frames import PathChallenge, PathResponse
from fairway.tls import ServerConfig

NEW_PORT = (CLIENT_ADDRESS[0], 4001)
NEW_HOST = ("198.51.100.7", 4000)
MOBILE = "mobile"
PathFrame = PathChallenge | PathResponse


def core(side: Side) -> Connection:
    assert side.core is not None
    return side.core


def download(pair: Pair, size: int) -> int:
    """The server sends `size` bytes on a new stream."""
    stream_id = core(pair.server).open_stream(unidirectional=True)
    assert stream_id is not None
    left = size

    def write() -> None:
        nonlocal left
        if left:
            left -= core(pair.server).write(stream_id, bytes(min(left, 100_000)), end=left <= 100_000)

    pair.on_turn = write
    write()
    return stream_id


def got(pair: Pair, stream_id: int) -> int:
    return len(pair.client.received.get(stream_id, b""))


class TestRebinding:
    """RFC 9000 section 9.3: a NAT gives the client another port, or the client another network."""

    @pytest.mark.parametrize("address", [NEW_PORT, NEW_HOST])
    def test_the_server_follows_and_the_download_goes_on(self, address: tuple[str, int]) -> None:
        pair = Pair(QuicConfiguration(keep_alive_s=0.5), there=SimulatedPath(delay=0.02))
        stream_id = download(pair, 2_000_000)
        pair.run(lambda: got(pair, stream_id) > 200_000)
        pair.rebind(address)
        pair.run(lambda: stream_id in pair.client.ended, limit_s=10)
        assert core(pair.server).path.address == address
        assert core(pair.server).path.validated
        assert len(pair.server.of(ev.PathChanged)) == 1
        assert len(pair.client.of(ev.HandshakeCompleted)) == 1

    def test_an_idle_client_that_speaks_from_elsewhere_is_answered_there(self) -> None:
        pair = Pair()
        pair.run_for(1.0)
        pair.rebind(NEW_HOST)
        stream_id = core(pair.client).open_stream()
        assert stream_id is not None
        core(pair.client).write(stream_id, b"hello", end=True)
        pair.run(lambda: stream_id in pair.server.ended)
        core(pair.server).write(stream_id, b"there", end=True)
        pair.run(lambda: stream_id in pair.client.ended)
        assert bytes(pair.client.received[stream_id]) == b"there"

    def test_the_first_packet_to_a_new_address_is_a_challenge_and_it_is_answered(self) -> None:
        pair = Pair()
        pair.run_for(1.0)
        sizes: list[int] = []
        pair.links[None].back.drop = lambda index, data: bool(sizes.append(len(data)))
        pair.rebind(NEW_PORT)
        core(pair.client).ping()
        pair.run(lambda: core(pair.server).path.validated and core(pair.server).path.address == NEW_PORT)
        assert sizes[0] >= 40
        pair.run_for(1.0)
        assert 1200 in sizes  # the address was proved by a small datagram; a second one proves the size

    def test_no_more_than_three_times_what_came_goes_to_an_address_that_is_not_validated(self) -> None:
        pair = Pair(QuicConfiguration(handshake_timeout_s=120.0, keep_alive_s=0.5))
        pair.run_for(1.0)
        stream_id = download(pair, 3_000_000)
        pair.run(lambda: got(pair, stream_id) > 100_000)
        there = pair.links[None].there
        elsewhere = pair.add_link("victim", NEW_HOST)
        elsewhere.back.drop = lambda index, data: True
        stolen: list[int] = []

        def steal(index: int, data: bytes) -> bool:
            """Copy one of the client's packets: it arrives first, from an address that never asked."""
            if not stolen and index > there_count and core(pair.server).path.address == CLIENT_ADDRESS:
                stolen.append(len(data))
                pair.inject_soon(data, NEW_HOST)
            return False

        there_count = there.count
        there.drop = steal
        pair.run(lambda: stream_id in pair.client.ended, limit_s=60)
        assert stolen
        assert elsewhere.back.bytes <= 3 * stolen[0]
        assert core(pair.server).path.address == CLIENT_ADDRESS

    def test_who_never_proves_the_new_address_is_sought_at_the_old_one_again(self) -> None:
        pair = Pair(QuicConfiguration(handshake_timeout_s=120.0))
        pair.run_for(1.0)
        pair.add_link("victim", NEW_HOST).back.drop = lambda index, data: True
        core(pair.client).ping()
        out = core(pair.client).transmit(pair.now)
        assert out is not None
        pair.inject(out.data, to_server=True, address=NEW_HOST)
        assert core(pair.server).path.address == NEW_HOST
        pair.links[None].there.drop = lambda index, data: True  # even if the client is not heard meanwhile
        pair.run_for(4.0)
        assert core(pair.server).path.address == CLIENT_ADDRESS
        assert core(pair.server).closing is None

    def test_another_network_starts_with_a_window_and_a_round_trip_of_its_own(self) -> None:
        pair = Pair(there=SimulatedPath(delay=0.02))
        stream_id = download(pair, 1_000_000)
        pair.run(lambda: got(pair, stream_id) > 500_000)
        window = core(pair.server).path.controller.window
        assert window > 30_000
        pair.rebind(NEW_HOST)
        core(pair.client).ping()
        pair.run(lambda: core(pair.server).path.address == NEW_HOST)
        assert core(pair.server).path.controller.window <= 14_720

    def test_another_port_keeps_window_and_round_trip(self) -> None:
        pair = Pair(there=SimulatedPath(delay=0.02))
        stream_id = download(pair, 1_000_000)
        pair.run(lambda: got(pair, stream_id) > 500_000)
        old = core(pair.server).path
        pair.rebind(NEW_PORT)
        core(pair.client).ping()
        pair.run(lambda: core(pair.server).path.address == NEW_PORT)
        assert core(pair.server).path.rtt is old.rtt
        assert core(pair.server).path.controller.window > 20_000

    def test_a_client_that_is_moved_every_second_loses_nothing(self) -> None:
        pair = Pair(QuicConfiguration(keep_alive_s=0.2), there=SimulatedPath(delay=0.02, rate=250_000.0))
        stream_id = download(pair, 3_000_000)
        moves = 0
        while stream_id not in pair.client.ended:
            pair.run_for(1.0)
            moves += 1
            assert moves < 100
            pair.rebind((f"198.51.100.{moves % 250}", 1000 + moves))
        assert moves > 10
        assert got(pair, stream_id) == 3_000_000
        assert len(core(pair.server).other_paths) <= 4

    def test_a_server_that_acknowledges_only_where_it_has_proof_gets_it_though_the_window_is_full(self) -> None:
        pair = Pair(QuicConfiguration(handshake_timeout_s=120.0), there=SimulatedPath(delay=0.02, rate=1e6))
        pair.run_for(1.0)
        stream_id = core(pair.client).open_stream(unidirectional=True)
        assert stream_id is not None
        client = core(pair.client)

        def write() -> None:
            client.write(stream_id, bytes(100_000))

        pair.on_turn = write
        write()
        pair.run(lambda: len(pair.server.received.get(stream_id, b"")) > 500_000)
        room: list[float] = []

        def lost_at_the_old_address(index: int, _: bytes) -> bool:
            """One challenge reaches the new address; what follows goes to the old one, as with qh3 2.1."""
            path = core(pair.server).path
            if path.address != NEW_PORT or path.validated:
                return False
            room.append(client.statistics()["congestion_window"] - client.statistics()["bytes_in_flight"])
            return len(room) > 1

        pair.links[None].back.drop = lost_at_the_old_address
        pair.rebind(NEW_PORT)
        pair.run(lambda: core(pair.server).path.address == NEW_PORT and core(pair.server).path.validated, limit_s=5)
        assert room[0] < 1200
        before = len(pair.server.received[stream_id])
        pair.run(lambda: len(pair.server.received[stream_id]) > before + 1_000_000, limit_s=30)

    @pytest.mark.parametrize(("frame", "kept"), [(PathResponse(bytes(8)), False), (PathChallenge(bytes(8)), True)])
    def test_an_answer_that_comes_too_late_is_not_asked_about(self, frame: PathFrame, kept: bool) -> None:
        """Two addresses that were given up, one for the other, would else answer and be asked for ever."""
        pair = Pair()
        pair.run_for(1.0)
        state = core(pair.client)._state
        payload, number = frame.encode().ljust(1150, b"\0"), state.application.next_number
        state.application.next_number += 1
        assert state.application.keys is not None
        first, destination = state.first_byte(state.path), state.remote_ids.current
        datagram = state.application.keys.sealer.seal(first, destination, number, 4, [payload])
        pair.inject(datagram, to_server=True, address=NEW_HOST)
        known = [path.address for path in core(pair.server)._migration.others]
        assert known == ([NEW_HOST] if kept else [])

    def test_before_the_handshake_ends_nobody_moves(self) -> None:
        pair = Pair(connect=False)
        first = core(pair.client).transmit(pair.now)
        assert first is not None
        pair.inject(first.data, to_server=True)
        server = pair.endpoint.connections()[0]
        received = server.path.bytes_received
        pair.inject(first.data, to_server=True, address=NEW_HOST)
        assert server.path.bytes_received == received
        assert server.path.address == CLIENT_ADDRESS


class TestMoving:
    """A client that moves on purpose (section 9.1, 9.2)."""

    def test_a_probed_path_carries_the_connection_with_another_connection_id(self) -> None:
        pair = Pair(there=SimulatedPath(delay=0.02))
        pair.run_for(1.0)
        link = pair.add_link(MOBILE, NEW_HOST, SimulatedPath(delay=0.05))
        ids: dict[str, set[bytes]] = {"old": set(), "new": set()}
        pair.there.drop = lambda index, data: bool(ids["old"].add(data[1:9]))
        link.there.drop = lambda index, data: bool(ids["new"].add(data[1:9]))
        core(pair.client).probe_path(pair.now, MOBILE)
        pair.run(lambda: bool(pair.client.of(ev.PathValidated)))
        assert core(pair.client).path.local is None
        assert not pair.server.of(ev.PathChanged)  # probes move nobody
        core(pair.client).migrate(pair.now, MOBILE)
        stream_id = core(pair.client).open_stream()
        assert stream_id is not None
        core(pair.client).write(stream_id, bytes(100_000), end=True)
        pair.run(lambda: stream_id in pair.server.ended)
        assert core(pair.server).path.address == NEW_HOST
        assert core(pair.server).path.validated
        assert core(pair.client).path.rtt.minimum == pytest.approx(0.1, abs=0.01)
        assert ids["old"].isdisjoint(ids["new"])
        assert ids["new"]

    def test_a_path_that_does_not_answer_is_reported_and_nothing_moves(self) -> None:
        pair = Pair()
        pair.run_for(1.0)
        pair.add_link(MOBILE, NEW_HOST, SimulatedPath(drop=lambda index, data: True))
        core(pair.client).probe_path(pair.now, MOBILE)
        pair.run(lambda: bool(pair.client.of(ev.PathFailed)), limit_s=10)
        assert core(pair.client).path.local is None
        assert core(pair.client).other_paths == ()
        stream_id = core(pair.client).open_stream()
        assert stream_id is not None
        core(pair.client).write(stream_id, b"still here", end=True)
        pair.run(lambda: stream_id in pair.server.ended)

    def test_a_dead_link_is_left_without_asking_it(self) -> None:
        pair = Pair(there=SimulatedPath(delay=0.02))
        stream_id = download(pair, 1_000_000)
        pair.run(lambda: got(pair, stream_id) > 300_000)
        pair.there.drop = pair.back.drop = lambda index, data: True
        pair.run_for(1.0)
        pair.add_link(MOBILE, NEW_HOST)
        core(pair.client).migrate(pair.now, MOBILE)
        core(pair.client).forget_path(None)
        pair.run(lambda: stream_id in pair.client.ended, limit_s=20)
        assert core(pair.server).path.address == NEW_HOST

    def test_connection_ids_of_paths_that_are_left_are_retired_and_replaced(self) -> None:
        pair = Pair()
        pair.run_for(1.0)
        for index in range(12):
            local = f"link {index}"
            pair.add_link(local, ("198.51.100.9", 5000 + index))
            core(pair.client).probe_path(pair.now, local)
            pair.run(lambda index=index: len(pair.client.of(ev.PathValidated)) == index + 1)  # type: ignore[misc]
            before = core(pair.client).path.local
            core(pair.client).migrate(pair.now, local)
            core(pair.client).ping()
            pair.run_for(0.5)
            core(pair.client).forget_path(before)
            pair.run_for(0.5)
        assert core(pair.server).path.address == ("198.51.100.9", 5011)
        assert core(pair.server).closing is None

    @pytest.mark.parametrize(
        "moves", ["the server", "where the server forbids it", "before the handshake is confirmed"]
    )
    def test_who_may_not_move_is_told_so(self, moves: str) -> None:
        forbids = QuicConfiguration(disable_active_migration=moves == "where it is forbidden")
        pair = Pair(server_configuration=forbids, connect=moves != "before the handshake is confirmed")
        side = pair.server if moves == "the server" else pair.client
        with pytest.raises(UsageError, match="cannot move"):
            core(side).probe_path(pair.now, MOBILE)

    def test_a_client_that_was_asked_not_to_move_and_is_moved_is_followed(self) -> None:
        pair = Pair(server_configuration=QuicConfiguration(disable_active_migration=True))
        pair.rebind(NEW_PORT)
        core(pair.client).ping()
        pair.run(lambda: core(pair.server).path.address == NEW_PORT and core(pair.server).path.validated)


def test_paths_are_as_lossy_as_they_like() -> None:
    path = SimulatedPath(delay=0.03, loss=0.1, jitter=0.02)
    pair = Pair(QuicConfiguration(keep_alive_s=0.3, handshake_timeout_s=60), there=path, back=replace(path), seed=3)
    stream_id = download(pair, 500_000)
    for index in range(8):
        pair.run_for(0.7)
        pair.rebind(("198.51.100.20", 3000 + index))
    pair.run(lambda: stream_id in pair.client.ended, limit_s=120)


class TestPreferredAddress:
    """Section 9.6: the server would rather be reached elsewhere."""

    PREFERRED = ("192.0.2.3", 8443)

    def pair(self) -> Pair:
        configuration = QuicConfiguration(preferred_ipv4=self.PREFERRED, disable_active_migration=True)
        pair = Pair(server_configuration=configuration, there=SimulatedPath(delay=0.02))
        pair.server_sockets[self.PREFERRED] = "preferred"
        pair.run(lambda: bool(pair.client.of(ev.PreferredAddressOffered)))
        return pair

    def test_the_client_is_told_and_moves_there_with_the_connection_id_that_belongs_to_it(self) -> None:
        pair = self.pair()
        assert pair.client.of(ev.PreferredAddressOffered) == [ev.PreferredAddressOffered(self.PREFERRED, None)]
        parameters = core(pair.client).peer_parameters.preferred_address
        assert parameters is not None
        link = pair.add_link("second", NEW_PORT)
        ids: set[bytes] = set()
        link.there.drop = lambda index, data: bool(ids.add(data[1:9]))
        core(pair.client).probe_path(pair.now, "second", self.PREFERRED)
        pair.run(lambda: bool(pair.client.of(ev.PathValidated)))
        core(pair.client).migrate(pair.now, "second")
        stream_id = core(pair.client).open_stream()
        assert stream_id is not None
        core(pair.client).write(stream_id, bytes(50_000), end=True)
        pair.run(lambda: stream_id in pair.server.ended)
        assert ids == {parameters.connection_id}
        assert core(pair.client).path.address == self.PREFERRED
        assert core(pair.server).path.local == "preferred"

    def test_where_nobody_answers_there_the_client_stays(self) -> None:
        pair = self.pair()
        pair.add_link("second", NEW_PORT, SimulatedPath(drop=lambda index, data: True))
        core(pair.client).probe_path(pair.now, "second", self.PREFERRED)
        pair.run(lambda: bool(pair.client.of(ev.PathFailed)), limit_s=10)
        assert core(pair.client).path.local is None

    def test_it_is_the_only_move_where_the_server_forbids_others(self) -> None:
        pair = self.pair()
        pair.add_link("second", NEW_PORT)
        with pytest.raises(UsageError, match="disable_active_migration"):
            core(pair.client).probe_path(pair.now, "second")


class TestStatelessReset:
    """Section 10.3: a server that has forgotten a connection says so."""

    def restarted(self, pair: Pair, key: bytes) -> Endpoint:
        return Endpoint(
            ServerConfig((identity(),), ("test",)),
            random=pair.rng.randbytes,
            clock=lambda: datetime.now(UTC),
            reset_key=key,
        )

    @pytest.mark.parametrize(("key", "ended"), [(b"the same", True), (b"another one", False)])
    def test_after_a_restart_with_the_same_key_the_client_learns_at_once(self, key: bytes, ended: bool) -> None:
        pair = Pair(connect=False)
        pair.endpoint = self.restarted(pair, b"the same")
        pair.run(lambda: pair.connected)
        pair.run_for(1.0)
        pair.endpoint = self.restarted(pair, key)
        pair.server.core = None
        core(pair.client).ping()
        pair.run_for(0.2)
        closing = core(pair.client).closing
        assert (closing is not None and closing.by is ClosedBy.RESET) == ended

    def test_the_answer_is_shorter_than_the_question_and_looks_like_any_packet(self) -> None:
        pair = Pair()
        for size in range(1, 1500):
            pair.endpoint.receive(b"\x4f" + bytes(size - 1), size, NEW_HOST, pair.now + size)
            for reply in pair.endpoint.replies:
                assert 21 <= len(reply.data) < size
                assert reply.data[0] & 0xC0 == 0x40
            assert len(pair.endpoint.replies) == (size > 21)
            pair.endpoint.replies.clear()
