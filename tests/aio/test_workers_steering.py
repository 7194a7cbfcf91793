"""The kernel steers by connection ID: real sockets, real datagrams."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairway.aio.udp import bind
from fairway.aio.workers.group import Group
from fairway.aio.workers.steering import MAX_INSTRUCTIONS, program
from fairway.quic.endpoint.ids import Ids, ServerId

SERVER = ServerId(b"\x0a\x0b\x0c", 5)
TAIL = bytes(40)


class Port:
    """A group on loopback, whose sockets the test reads itself."""

    def __init__(self, family: int = socket.AF_INET, server: ServerId = SERVER) -> None:
        self.server = server
        self.group = Group(bind("127.0.0.1" if family == socket.AF_INET else None, 0), server)
        self.host = "127.0.0.1" if family == socket.AF_INET else "::1"

    @property
    def sockets(self) -> list[socket.socket]:
        return [slot.udp for slot in self.group._slots]

    def send(self, *datagrams: bytes) -> None:
        """Each from another port."""
        for datagram in datagrams:
            with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(datagram, (self.host, self.group.address[1]))

    def arrived(self) -> list[list[bytes]]:
        """What is in each socket: loopback delivers at once."""
        found: list[list[bytes]] = []
        for sock in self.sockets:
            sock.setblocking(False)
            found.append([])
            with contextlib.suppress(BlockingIOError):
                while True:
                    found[-1].append(sock.recv(2048))
        return found

    def where(self, datagram: bytes) -> int:
        self.send(datagram)
        (index,) = [index for index, got in enumerate(self.arrived()) if got]
        return index


@contextlib.contextmanager
def port(family: int = socket.AF_INET, server: ServerId = SERVER) -> Iterator[Port]:
    made = Port(family, server)
    try:
        yield made
    finally:
        made.group.close()


def short(connection_id: bytes) -> bytes:
    return b"\x40" + connection_id + TAIL


def long(connection_id: bytes, first: int = 0xC0, version: int = 1) -> bytes:
    return bytes((first,)) + version.to_bytes(4, "big") + bytes((len(connection_id),)) + connection_id + TAIL


class TestConnections:
    @pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
    @pytest.mark.parametrize("server", [ServerId(), SERVER, ServerId(b"9 bytes!!", 6)])
    def test_a_packet_goes_to_the_worker_of_its_connection_wherever_it_comes_from(
        self, family: int, server: ServerId
    ) -> None:
        with port(family, server) as here:
            here.group.steer(here.group.grow(4), [0, 1, 2, 3])
            expected = []
            for number in range(4):
                made = [Ids(server, number).make(os.urandom) for _ in range(8)]
                expected.append([form(made_id) for made_id in made for form in (short, long)])
                here.send(*expected[-1])
            assert here.arrived() == expected

    def test_a_port_for_both_families_is_steered_for_both(self) -> None:
        with port(socket.AF_INET6) as here:
            here.group.steer(here.group.grow(4), [0, 1, 2, 3])
            for here.host in ("127.0.0.1", "::1"):
                for number in range(4):
                    assert here.where(short(Ids(SERVER, number).make(os.urandom))) == number

    def test_a_thousand_sockets_have_their_indexes(self) -> None:
        with port() as here:
            numbers = here.group.grow(1000)
            here.group.steer(numbers, numbers)
            for number in (0, 127, 128, 500, 999):
                assert here.where(short(Ids(SERVER, number).make(os.urandom))) == number


class TestNewcomers:
    @pytest.mark.parametrize("length", [8, 14, 18, 20])
    def test_they_are_spread_evenly_and_each_stays_with_one(self, length: int) -> None:
        with port() as here:
            here.group.steer(here.group.grow(3), [0, 1, 2])
            chosen = [os.urandom(length) for _ in range(600)]
            first = []
            for one in chosen:
                first.append(here.where(long(one)))
                assert here.where(long(one, 0xD3)) == first[-1]  # 0-RTT, from another port
            assert all(140 < count < 260 for count in Counter(first).values())
            assert len(Counter(first)) == 3

    def test_packets_for_workers_that_are_no_more_go_to_those_who_accept(self) -> None:
        with port() as here:
            here.group.grow(4)
            here.group.steer([2, 3], [1, 2, 3])
            seen = Counter(here.where(short(Ids(SERVER, number).make(os.urandom))) for number in [0, 200] * 40)
            assert set(seen) == {2, 3}
            assert here.where(short(Ids(SERVER, 1).make(os.urandom))) == 1

    def test_the_id_of_a_retry_goes_to_those_who_accept_spread_evenly(self) -> None:
        with port() as here:
            here.group.grow(4)
            here.group.steer([2, 3], [0, 1, 2, 3])
            seen = Counter(here.where(long(Ids(SERVER, 0).for_anyone(os.urandom))) for _ in range(200))
            assert set(seen) == {2, 3}
            assert min(seen.values()) > 60

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
    @given(st.binary(max_size=80))
    def test_whatever_arrives_goes_to_one_socket(self, datagram: bytes) -> None:
        with port() as here:
            here.group.steer(here.group.grow(3), [0, 1, 2])
            assert 0 <= here.where(datagram) < 3

    def test_another_server_s_ids_are_not_ours(self) -> None:
        with port() as here:
            here.group.steer(here.group.grow(2), [0, 1])
            stranger = ServerId(b"\x0a\x0b\x0d", 5)
            seen = Counter(here.where(short(Ids(stranger, 1).make(os.urandom))) for _ in range(60))
            assert set(seen) == {0, 1}


class TestGenerations:
    def test_the_old_one_keeps_its_connections_and_the_new_one_gets_the_newcomers(self) -> None:
        with port() as here:
            old = here.group.grow(2)
            here.group.steer(old, old)
            new = here.group.grow(2)
            assert new == [2, 3]
            here.group.steer(new, [*old, *new])
            assert {here.where(long(os.urandom(8))) for _ in range(60)} == {2, 3}
            assert [here.where(short(Ids(SERVER, n).make(os.urandom))) for n in range(4)] == [0, 1, 2, 3]

    def test_nothing_is_lost_while_programs_are_exchanged(self) -> None:
        with port() as here:
            here.group.grow(4)
            sent = 0
            for turn in range(200):
                here.group.steer([0, 1] if turn % 2 else [2, 3], range(4))
                here.send(long(os.urandom(8)), short(Ids(SERVER, turn % 4).make(os.urandom)))
                sent += 2
            assert sum(map(len, here.arrived())) == sent

    def test_a_worker_that_closes_what_it_inherited_moves_no_index(self) -> None:
        with port() as here:
            here.group.steer(here.group.grow(3), [0, 1, 2])
            if not (child := os.fork()):
                for sock in here.sockets:
                    sock.close()
                os._exit(0)
            os.waitpid(child, 0)
            assert here.where(short(Ids(SERVER, 2).make(os.urandom))) == 2


class TestPort:
    def test_a_port_that_somebody_else_shares_is_not_joined(self) -> None:
        """Whoever was there first would have the indexes that our connection IDs name."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(("127.0.0.1", 0))
            with pytest.raises(OSError, match="in use"):
                bind(*other.getsockname())

    def test_who_joins_later_gets_nothing(self) -> None:
        with port() as here:
            here.group.steer(here.group.grow(2), [0, 1])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                other.bind(here.group.address)
                for _ in range(50):
                    assert here.where(long(os.urandom(8))) in (0, 1)

    def test_one_worker_is_a_group_too(self) -> None:
        with port() as here:
            here.group.steer(here.group.grow(1), [0])
            assert {here.where(long(os.urandom(8))) for _ in range(20)} == {0}


class TestPrograms:
    @settings(max_examples=40, deadline=None)
    @given(st.sets(st.integers(0, 11), min_size=1), st.sets(st.integers(0, 11)))
    def test_whoever_accepts_and_whoever_runs_gets_what_is_theirs(self, newcomers: set[int], running: set[int]) -> None:
        with port() as here:
            here.group.grow(12)
            here.group.steer(sorted(newcomers), running)
            for number in range(12):
                where = here.where(short(Ids(SERVER, number).make(os.urandom)))
                assert where == number if number in running else where in newcomers
                assert here.where(long(os.urandom(8))) in newcomers

    def test_the_worst_that_the_kernel_takes(self) -> None:
        numbers = range(0, 1300, 2)
        assert len(program(SERVER, numbers, numbers)) <= MAX_INSTRUCTIONS
        with pytest.raises(ValueError, match="more than the kernel takes"):
            program(SERVER, range(0, 6000, 2), range(0, 6000, 2))
