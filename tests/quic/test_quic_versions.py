"""Version 2 (RFC 9369) and version negotiation (RFC 9368): who speaks what, and that nobody gets them to take less."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quic_pair import Pair, SimulatedPath, identity

from fairway.quic import ClosedBy, KnownServer, MemorySessionStore, QuicConfiguration, UsageError
from fairway.quic import events as ev
from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.handshake.version_negotiation import check_server, served_version
from fairway.quic.packets.headers import (
    LONG_HEADER,
    VERSION_1,
    VERSION_2,
    PacketType,
    encode_version_negotiation,
    parse_long_header,
    parse_versions,
)
from fairway.quic.version_information import VersionInformation, encode_version_information
from fairway.tls import ClientConfig, NamedGroup, ServerConfig, Tickets

SERVER = ("localhost", 443, ("test",))
ONE, TWO, BOTH_ONE, BOTH_TWO = (VERSION_1,), (VERSION_2,), (VERSION_1, VERSION_2), (VERSION_2, VERSION_1)


def speaks(versions: tuple[int, ...] | None, first: int | None = None) -> QuicConfiguration:
    return QuicConfiguration(versions=versions, first_version=first, handshake_timeout_s=120.0)


VERSIONS = st.integers(1, (1 << 32) - 1)


class Wire:
    """What went over the wire in long headers: (to the server, version, type)."""

    def __init__(self, pair: Pair) -> None:
        self.seen: list[tuple[bool, int, PacketType | None]] = []
        pair.there.drop = lambda index, data: self._note(True, data)
        pair.back.drop = lambda index, data: self._note(False, data)

    def _note(self, to_server: bool, data: bytes) -> bool:
        offset = 0
        while offset < len(data) and data[offset] & LONG_HEADER:
            header = parse_long_header(data, offset, len(data))
            self.seen.append((to_server, header.version, header.type))
            offset = header.end
        return False

    def versions(self, kind: PacketType, *, to_server: bool | None = None) -> set[int]:
        return {
            version for there, version, each in self.seen if each is kind and (to_server is None or there is to_server)
        }


def connect(
    client: QuicConfiguration, server: QuicConfiguration, *, seed: int = 0, **options: object
) -> tuple[Pair, Wire]:
    pair = Pair(client, server_configuration=server, connect=False, seed=seed, **options)  # type: ignore[arg-type]
    wire = Wire(pair)
    pair.run(lambda: pair.connected)
    return pair, wire


def agreed(pair: Pair) -> int:
    """The version that both sides say was negotiated."""
    found = set()
    for side in (pair.client, pair.server):
        (event,) = side.of(ev.HandshakeCompleted)
        assert isinstance(event, ev.HandshakeCompleted)
        assert side.core is not None
        assert side.core.statistics()["quic_version"] == event.version
        found.add(event.version)
    (version,) = found
    return version


def transfers(pair: Pair) -> None:
    assert pair.client.core is not None
    stream_id = pair.client.core.open_stream()
    assert stream_id is not None
    pair.client.core.write(stream_id, b"x" * 5000, end=True)
    pair.run(lambda: stream_id in pair.server.ended)
    assert pair.server.received[stream_id] == b"x" * 5000


class TestCompatible:
    @pytest.mark.parametrize(
        ("client", "first", "server", "result"),
        [
            (None, None, None, VERSION_1),
            (ONE, None, BOTH_TWO, VERSION_1),
            (BOTH_TWO, None, None, VERSION_2),
            (BOTH_TWO, None, BOTH_ONE, VERSION_1),
            (BOTH_TWO, VERSION_1, None, VERSION_1),
            (BOTH_TWO, VERSION_1, BOTH_TWO, VERSION_2),
            (None, None, BOTH_TWO, VERSION_2),
            (TWO, None, BOTH_ONE, VERSION_2),
        ],
    )
    def test_a_server_answers_in_what_it_likes_best_of_what_is_offered(
        self, client: tuple[int, ...] | None, first: int | None, server: tuple[int, ...] | None, result: int
    ) -> None:
        pair, wire = connect(speaks(client, first), speaks(server))
        assert agreed(pair) == result
        assert wire.versions(PacketType.HANDSHAKE) == {result}
        assert wire.versions(PacketType.VERSION_NEGOTIATION) == set()
        transfers(pair)

    def test_it_costs_no_round_trip(self) -> None:
        pair = Pair(
            speaks(BOTH_TWO, VERSION_1), server_configuration=speaks(BOTH_TWO), there=SimulatedPath(delay=0.05),
            connect=False,
        )  # fmt: skip
        begun = pair.now
        pair.run(lambda: bool(pair.client.of(ev.HandshakeCompleted)))
        assert pair.now - begun == pytest.approx(0.1, abs=0.001)

    def test_the_client_follows_in_its_initial_packets_too(self) -> None:
        _, wire = connect(speaks(BOTH_TWO, VERSION_1), speaks(BOTH_TWO))
        initials = [version for to_server, version, kind in wire.seen if to_server and kind is PacketType.INITIAL]
        assert initials[0] == VERSION_1
        assert initials[-1] == VERSION_2
        assert wire.versions(PacketType.INITIAL, to_server=False) == {VERSION_2}

    @pytest.mark.parametrize("retry", [False, True])
    @pytest.mark.parametrize("seed", range(20))
    def test_on_any_path(self, seed: int, retry: bool) -> None:
        path = SimulatedPath(loss=0.25, duplication=0.1, corruption=0.05, jitter=0.02)
        pair = Pair(
            speaks(BOTH_TWO, VERSION_1),
            server_configuration=speaks(BOTH_TWO),
            there=path,
            seed=seed,
            retry=retry,
            connect=False,
        )
        pair.run(lambda: pair.connected)
        assert agreed(pair) == VERSION_2
        transfers(pair)

    def test_a_hello_retry_request_is_in_the_negotiated_version(self) -> None:
        pair, wire = connect(
            speaks(BOTH_TWO, VERSION_1),
            speaks(BOTH_TWO),
            client_tls=ClientConfig("localhost", ("test",), verify=False, key_shares=(NamedGroup.X25519,)),
            server_tls=ServerConfig((identity(),), ("test",), groups=(NamedGroup.SECP256R1,)),
        )
        assert agreed(pair) == VERSION_2
        assert wire.versions(PacketType.INITIAL, to_server=False) == {VERSION_2}


class TestIncompatible:
    def test_a_client_begins_again_in_what_the_server_lists(self) -> None:
        pair, wire = connect(speaks(BOTH_TWO), speaks(ONE))
        assert agreed(pair) == VERSION_1
        assert len(wire.versions(PacketType.VERSION_NEGOTIATION)) == 1
        transfers(pair)

    def test_it_costs_one_round_trip(self) -> None:
        pair = Pair(speaks(BOTH_ONE), server_configuration=speaks(TWO), there=SimulatedPath(delay=0.05), connect=False)
        begun = pair.now
        pair.run(lambda: bool(pair.client.of(ev.HandshakeCompleted)))
        assert pair.now - begun == pytest.approx(0.2, abs=0.001)
        pair.run(lambda: pair.connected)
        assert agreed(pair) == VERSION_2

    def test_nothing_in_common_ends_at_once(self) -> None:
        pair = Pair(speaks(TWO), server_configuration=speaks(ONE), connect=False)
        assert pair.client.core is not None
        pair.run(lambda: pair.client.core is not None and pair.client.core.closing is not None)
        assert pair.client.core.closing is not None
        assert pair.client.core.closing.by is ClosedBy.VERSION
        assert "0x1" in pair.client.core.closing.reason

    @pytest.mark.parametrize("seed", range(20))
    def test_on_any_path_also_after_a_retry(self, seed: int) -> None:
        path = SimulatedPath(loss=0.25, duplication=0.2, corruption=0.05, jitter=0.02)
        pair = Pair(
            speaks(BOTH_TWO), server_configuration=speaks(ONE), there=path, seed=seed, retry=True, connect=False
        )
        pair.run(lambda: pair.connected)
        assert agreed(pair) == VERSION_1
        transfers(pair)

    def test_the_list_has_a_version_that_is_reserved_to_be_ignored(self) -> None:
        pair = Pair(speaks(BOTH_TWO), server_configuration=speaks(ONE), connect=False)
        lists: list[tuple[int, ...]] = []

        def look(index: int, data: bytes) -> bool:
            if data[0] & LONG_HEADER:
                header = parse_long_header(data, 0, len(data))
                if header.type is PacketType.VERSION_NEGOTIATION:
                    lists.append(parse_versions(data, header))
            return False

        pair.back.drop = look
        pair.run(lambda: pair.connected)
        ((ours, reserved),) = lists
        assert ours == VERSION_1
        assert reserved & 0x0F0F0F0F == 0x0A0A0A0A

    def test_early_data_is_sent_again(self) -> None:
        store = MemorySessionStore()
        tls = ServerConfig((identity(),), ("test",), tickets=Tickets(early_data=True))
        first = Pair(speaks(TWO), server=KnownServer(store, SERVER), server_tls=tls)
        first.run_for(5.0)
        pair = Pair(
            speaks(BOTH_TWO), server_configuration=speaks(ONE), server_tls=tls, server=KnownServer(store, SERVER),
            early_data=True, now=first.now, seed=2, connect=False,
        )  # fmt: skip
        core = pair.client.core
        assert core is not None
        assert core.early
        stream_id = core.open_stream()
        assert stream_id is not None
        core.write(stream_id, b"early" * 1000, end=True)
        pair.run(lambda: stream_id in pair.server.ended)
        assert pair.server.received[stream_id] == b"early" * 1000
        pair.run(lambda: pair.connected)
        assert agreed(pair) == VERSION_1
        assert len(pair.client.of(ev.EarlyDataRejected)) == 1


class TestReturning:
    def visit(
        self, store: MemorySessionStore, client: QuicConfiguration, before: Pair | None, **options: object
    ) -> tuple[Pair, Wire]:
        if before is not None:
            options |= {"endpoint": before.endpoint, "now": before.now}
        pair = Pair(client, server=KnownServer(store, SERVER), connect=False, **options)  # type: ignore[arg-type]
        wire = Wire(pair)
        pair.run(lambda: pair.connected)
        pair.run_for(5.0)
        return pair, wire

    def test_a_session_is_resumed_in_the_version_that_was_negotiated(self) -> None:
        store = MemorySessionStore()
        client = speaks(BOTH_TWO, VERSION_1)
        first, _ = self.visit(store, client, None, server_configuration=speaks(BOTH_TWO))
        second, wire = self.visit(store, client, first, seed=2)
        assert [agreed(first), agreed(second)] == [VERSION_2, VERSION_2]
        assert wire.versions(PacketType.INITIAL) == {VERSION_2}
        (event,) = second.client.of(ev.HandshakeCompleted)
        assert isinstance(event, ev.HandshakeCompleted)
        assert event.resumed

    @pytest.mark.parametrize("retry", [False, True])
    def test_early_data_stays_in_the_version_that_the_client_began_with(self, retry: bool) -> None:
        """A server that has come to prefer version 2 takes early data of version 1 and goes on in 2."""
        store = MemorySessionStore()
        tls = ServerConfig((identity(),), ("test",), tickets=Tickets(early_data=True))
        first, _ = self.visit(store, speaks(None), None, server_tls=tls)
        pair = Pair(
            speaks(None), server_configuration=speaks(BOTH_TWO), server_tls=tls, server=KnownServer(store, SERVER),
            early_data=True, now=first.now, seed=2, connect=False, retry=retry,
        )  # fmt: skip
        wire = Wire(pair)
        core = pair.client.core
        assert core is not None
        stream_id = core.open_stream()
        assert stream_id is not None
        core.write(stream_id, b"early" * 1000, end=True)
        pair.run(lambda: stream_id in pair.server.ended)
        assert pair.server.received[stream_id] == b"early" * 1000
        pair.run(lambda: pair.connected)
        assert agreed(pair) == VERSION_2
        assert wire.versions(PacketType.ZERO_RTT) == {VERSION_1}
        # The context of early data names all that it went by, and the preferred versions are not among that.
        assert len(pair.client.of(ev.EarlyDataAccepted)) == 1

    def test_neither_ticket_nor_token_is_used_in_another_version(self) -> None:
        store = MemorySessionStore()
        first, _ = self.visit(store, speaks(ONE), None, server_configuration=speaks(None))
        second, _ = self.visit(store, speaks(TWO), first, seed=2)
        (event,) = second.client.of(ev.HandshakeCompleted)
        assert isinstance(event, ev.HandshakeCompleted)
        assert (event.version, event.resumed) == (VERSION_2, False)

    def test_a_server_judges_by_the_version_that_a_ticket_is_from(self) -> None:
        store = MemorySessionStore()
        first, _ = self.visit(store, speaks(ONE), None, server_configuration=speaks(None))
        saved = store.take_session(SERVER)
        assert saved is not None
        store.save_session(SERVER, replace(saved, version=VERSION_2))  # a client that does not care
        second, _ = self.visit(store, speaks(TWO), first, seed=2)
        (event,) = second.client.of(ev.HandshakeCompleted)
        assert isinstance(event, ev.HandshakeCompleted)
        assert (event.version, event.resumed) == (VERSION_2, False)

    @pytest.mark.parametrize(("version", "proved"), [(VERSION_1, True), (VERSION_2, False)])
    def test_a_server_judges_by_the_version_that_a_token_is_from(self, version: int, proved: bool) -> None:
        store = MemorySessionStore()
        first, _ = self.visit(store, speaks(ONE), None, server_configuration=speaks(None))
        token = KnownServer(store, SERVER).take_token(VERSION_1)
        assert token
        KnownServer(store, SERVER).save_token(token, version)  # a client that does not care
        pair = Pair(
            speaks((version,)), endpoint=first.endpoint, now=first.now, server=KnownServer(store, SERVER), seed=2,
            connect=False,
        )  # fmt: skip
        pair.run(lambda: pair.server.core is not None)
        assert pair.server.core is not None
        assert pair.server.core.path.validated is proved


class TestDecisions:
    """The functions by themselves: what the simulated peers, being honest, never do."""

    def refused(self, code: int, act: object) -> None:
        with pytest.raises(PeerError) as error:
            act()  # type: ignore[operator]
        assert error.value.code == code

    def test_what_a_client_says_must_be_what_its_packets_say(self) -> None:
        said = VersionInformation(VERSION_2, BOTH_TWO)
        self.refused(ErrorCode.VERSION_NEGOTIATION_ERROR, lambda: served_version(VERSION_1, BOTH_TWO, said))

    @pytest.mark.parametrize("value", [b"", b"\0\0\0", bytes(4), b"\0\0\0\1" + bytes(4), b"\0\0\0\1\0\0\0\2\0"])
    def test_what_cannot_be_parsed(self, value: bytes) -> None:
        self.refused(ErrorCode.TRANSPORT_PARAMETER_ERROR, lambda: VersionInformation.decode(value, from_client=False))

    def test_a_client_must_list_what_it_chose_and_a_server_need_not(self) -> None:
        value = VersionInformation(VERSION_1, TWO).encode()
        self.refused(ErrorCode.TRANSPORT_PARAMETER_ERROR, lambda: VersionInformation.decode(value, from_client=True))
        assert VersionInformation.decode(value, from_client=False).available == TWO

    @pytest.mark.parametrize(
        ("server", "began", "speaks", "reacted", "good"),
        [
            (None, VERSION_1, VERSION_1, False, True),
            (None, VERSION_1, VERSION_2, False, False),
            (None, VERSION_1, VERSION_1, True, True),  # RFC 9368 section 8
            (None, VERSION_2, VERSION_2, True, False),
            (VersionInformation(VERSION_2, BOTH_ONE), VERSION_1, VERSION_1, False, False),
            (VersionInformation(VERSION_2, BOTH_ONE), VERSION_1, VERSION_2, False, True),
            (VersionInformation(VERSION_1, ONE), VERSION_1, VERSION_1, True, True),
            (VersionInformation(VERSION_1, BOTH_ONE), VERSION_1, VERSION_1, True, False),  # 2 would have been taken
            (VersionInformation(VERSION_2, TWO), VERSION_2, VERSION_2, True, True),
            (VersionInformation(VERSION_1, ()), VERSION_1, VERSION_1, True, False),
            (VersionInformation(VERSION_1, ()), VERSION_1, VERSION_1, False, True),
        ],
    )
    def test_what_a_client_that_prefers_2_makes_of_what_the_server_says(
        self, server: VersionInformation | None, began: int, speaks: int, reacted: bool, good: bool
    ) -> None:
        def check() -> None:
            check_server(server, began=began, speaks=speaks, reacted=reacted, ours=BOTH_TWO)

        if good:
            check()
        else:
            self.refused(ErrorCode.VERSION_NEGOTIATION_ERROR, check)

    @given(VERSIONS, st.lists(VERSIONS, max_size=9), st.binary(min_size=4, max_size=4))
    def test_the_parameter_survives_with_a_reserved_version_behind_it(
        self, chosen: int, available: list[int], random: bytes
    ) -> None:
        encoded = encode_version_information(chosen, (chosen, *available))(random)
        assert encoded[0] == 0x11
        assert encoded[1] == len(encoded) - 2
        decoded = VersionInformation.decode(encoded[2:], from_client=True)
        assert decoded.available[:-1] == (chosen, *available)
        assert decoded.available[-1] & 0x0F0F0F0F == 0x0A0A0A0A


class TestConfiguration:
    @pytest.mark.parametrize("versions", [(), (VERSION_1, VERSION_1), (7,)])
    def test_versions_that_cannot_be(self, versions: tuple[int, ...]) -> None:
        with pytest.raises(UsageError):
            QuicConfiguration(versions=versions)

    def test_a_first_version_that_is_not_spoken(self) -> None:
        with pytest.raises(UsageError, match="first_version"):
            QuicConfiguration(versions=ONE, first_version=VERSION_2)


class TestForged:
    """Attack: Version Negotiation by somebody on the way, who has no keys."""

    def forge(self, pair: Pair, *lists: tuple[int, ...]) -> None:
        core = pair.client.core
        assert core is not None
        hellos: list[bytes] = []
        pair.there.drop = lambda index, data: hellos.append(data) is None
        pair.run(lambda: bool(hellos))
        pair.there.drop = None
        header = parse_long_header(hellos[0], 0, len(hellos[0]))
        for versions in lists:
            packet = encode_version_negotiation(header.source, header.destination, versions)
            core.receive(packet, len(packet), pair.now)

    def test_a_downgrade_is_noticed(self) -> None:
        pair = Pair(speaks(BOTH_TWO), server_configuration=speaks(BOTH_ONE), connect=False)
        self.forge(pair, ONE)
        core = pair.client.core
        assert core is not None
        pair.run(lambda: core.closing is not None)
        assert core.closing is not None
        assert core.closing.code == ErrorCode.VERSION_NEGOTIATION_ERROR

    def test_one_that_lists_what_was_tried_is_ignored(self) -> None:
        pair = Pair(speaks(BOTH_TWO), server_configuration=speaks(BOTH_TWO), connect=False)
        self.forge(pair, BOTH_ONE)
        pair.run(lambda: pair.connected)
        assert agreed(pair) == VERSION_2

    def test_only_one_is_heeded(self) -> None:
        pair = Pair(speaks(BOTH_TWO), server_configuration=speaks(ONE), connect=False)
        self.forge(pair, ONE)
        self.forge(pair, TWO, (7,), BOTH_ONE, (), (0,))
        pair.run(lambda: pair.connected)
        assert agreed(pair) == VERSION_1
