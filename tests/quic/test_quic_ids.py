"""Connection IDs that say where they lead (`endpoint.ids`): the format, and connections that use it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quic_pair import CLIENT_ADDRESS, Pair

from fairway.quic import UsageError
from fairway.quic.endpoint.ids import Ids, ServerId
from fairway.quic.packets.headers import LONG_HEADER, PacketType, parse_long_header

SERVER = ServerId(b"\x0a\x0b\x0c", 5)


class TestFormat:
    def test_the_octets_are_where_a_balancer_looks_for_them(self) -> None:
        made = Ids(SERVER, 0x0102).make(lambda length: b"\xee" * length)
        assert made.hex() == "ad" + "0a0b0c" + "0102" + "ee" * 8
        assert made[0] >> 5 == 5
        assert made[0] & 0x1F == len(made) - 1  # the length of what follows the first octet

    def test_without_a_server_id_all_of_it_is_random(self) -> None:
        ids = Ids()
        assert ids.make(lambda length: b"\xee" * length) == b"\xee" * 8 == ids.for_anyone(lambda n: b"\xee" * n)
        assert ids.length == 8
        assert ids.other(b"\xee" * 8) is None

    @given(st.binary(max_size=9), st.integers(0, 6), st.integers(0, 0xFFFE), st.integers(0, 0xFFFE))
    def test_a_worker_knows_the_ids_of_the_others(self, value: bytes, rotation: int, one: int, other: int) -> None:
        server = ServerId(value, rotation)
        made = Ids(server, one).make(os.urandom)
        assert len(made) == server.id_length == Ids(server).length <= 20
        assert Ids(server, other).other(made) == (None if one == other else one)
        assert Ids(server, other).other(Ids(server, one).for_anyone(os.urandom)) is None

    @given(st.binary(max_size=24))
    def test_what_another_server_or_a_client_made_leads_nowhere(self, made: bytes) -> None:
        if not made.startswith(SERVER.prefix):
            assert Ids(SERVER, 1).other(made) is None

    def test_no_two_are_alike(self) -> None:
        ids = Ids(SERVER, 1)
        assert len({ids.make(os.urandom) for _ in range(1000)}) == 1000

    @pytest.mark.parametrize(("value", "rotation"), [(bytes(10), 0), (b"", 7), (b"", -1)])
    def test_what_does_not_fit_is_said(self, value: bytes, rotation: int) -> None:
        with pytest.raises(UsageError, match="server ID"):
            ServerId(value, rotation)


class TestConnections:
    def test_every_id_of_a_connection_leads_to_its_worker(self) -> None:
        seen: set[bytes] = set()
        pair = Pair(ids=Ids(SERVER, 7), connect=False)
        own = SERVER.prefix + b"\0\x07"

        def note(_: int, data: bytes) -> bool:
            if data[0] & LONG_HEADER:
                seen.add(parse_long_header(data, 0, len(data)).destination)
            else:
                seen.add(data[1 : 1 + SERVER.id_length])
            return False

        pair.there.drop = note
        pair.run(lambda: pair.connected)
        assert pair.client.core is not None
        for port in range(3):
            pair.run_for(1.0)
            pair.rebind((CLIENT_ADDRESS[0], 2000 + port))
            stream = pair.client.core.open_stream()
            assert stream is not None
            pair.client.core.write(stream, b"where am I", end=True)
            pair.run(lambda stream=stream: stream in pair.server.ended)  # type: ignore[misc]
        chosen_by_us = [made for made in seen if len(made) == SERVER.id_length]
        assert len(seen) - len(chosen_by_us) == 1  # the first one is the client's
        assert chosen_by_us
        assert all(made.startswith(own) for made in chosen_by_us)

    def test_the_id_of_a_retry_leads_to_no_worker_in_particular(self) -> None:
        pair = Pair(ids=Ids(SERVER, 7), retry=True, connect=False)
        retried: list[bytes] = []

        def note(_: int, data: bytes) -> bool:
            header = parse_long_header(data, 0, len(data)) if data[0] & LONG_HEADER else None
            if header is not None and header.type is PacketType.RETRY:
                retried.append(header.source)
            return False

        pair.back.drop = note
        pair.run(lambda: pair.connected)
        assert [made[: len(SERVER.prefix) + 2] for made in retried] == [SERVER.prefix + b"\xff\xff"]

    def test_datagrams_for_another_worker_in_one_buffer_go_there(self) -> None:
        passed: list[tuple[int, bytes]] = []

        def elsewhere(worker: int, buffer: bytes, segment: int, address: object) -> bool:
            passed.append((worker, bytes(buffer)))
            return worker == 8

        pair = Pair(ids=Ids(SERVER, 7), elsewhere=elsewhere)
        datagrams = [b"\x40" + Ids(SERVER, worker).make(os.urandom) + bytes(60) for worker in (8, 9)]
        pair.endpoint.replies.clear()
        pair.endpoint.receive(b"".join(datagrams), len(datagrams[0]), CLIENT_ADDRESS, pair.now)
        assert passed == [(8, datagrams[0]), (9, datagrams[1])]
        assert len(pair.endpoint.replies) == 1  # for the second: that worker is no more, so its connections are told

    def test_a_reset_is_the_same_from_every_worker_that_has_the_key(self) -> None:
        made = Ids(SERVER, 9).make(os.urandom)
        tokens = []
        for worker in (7, 9):
            pair = Pair(ids=Ids(SERVER, worker), reset_key=bytes(32), elsewhere=lambda *_: False)
            pair.endpoint.receive(b"\x40" + made + bytes(60), 61 + len(made), CLIENT_ADDRESS, pair.now)
            (reply,) = pair.endpoint.replies
            tokens.append(reply.data[-16:])
        assert tokens[0] == tokens[1]
