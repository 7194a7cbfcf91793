"""The spin bit (RFC 9000 section 17.4) and the greased fixed bit (RFC 9287), as somebody on the way sees them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from quic_pair import CLIENT_ADDRESS, Pair, SimulatedPath

from fairway.quic import QuicConfiguration
from fairway.quic.handshake import local_parameters as local
from fairway.quic.packets.first_byte import FixedBit, SpinBit
from fairway.quic.packets.headers import FIXED_BIT, LONG_HEADER, SPIN_BIT, PacketType, parse_long_header
from fairway.quic.transport_parameters import TransportParameters, encode_parameters

DELAY = 0.05


class Onlooker:
    """Notes the time and the first byte of each packet at the beginning of a datagram."""

    def __init__(self, pair: Pair) -> None:
        self.seen: dict[str, list[tuple[float, int]]] = {"there": [], "back": []}
        pair.there.drop = lambda index, data: self._note("there", pair.now, data)
        pair.back.drop = lambda index, data: self._note("back", pair.now, data)

    def _note(self, way: str, now: float, data: bytes) -> bool:
        self.seen[way].append((now, data[0]))
        return False

    def short(self, way: str) -> list[tuple[float, int]]:
        return [(now, first) for now, first in self.seen[way] if not first & LONG_HEADER]

    def spins(self, way: str) -> list[float]:
        """When the spin bit changed."""
        packets = self.short(way)
        return [now for (_, before), (now, first) in itertools.pairwise(packets) if (before ^ first) & SPIN_BIT]


def talk(pair: Pair, seconds: float) -> None:
    """A small message each way every few milliseconds."""
    client, server = pair.client.core, pair.server.core
    assert client is not None
    assert server is not None
    end = pair.now + seconds
    while pair.now < end:
        client.ping()
        server.ping()
        pair.run_for(0.005)


def spinning(client: bool, server: bool) -> tuple[Pair, Onlooker]:
    """A pair on whose path the spin bit is enabled as asked: chance decides against it now and then."""
    for seed in range(20):
        pair = Pair(
            QuicConfiguration(spin_bit=client),
            server_configuration=QuicConfiguration(spin_bit=server),
            there=SimulatedPath(delay=DELAY),
            seed=seed,
            connect=False,
        )
        onlooker = Onlooker(pair)
        pair.run(lambda pair=pair: pair.connected)  # type: ignore[misc]
        assert pair.client.core is not None
        assert pair.server.core is not None
        if (pair.client.core.path.spin.spins, pair.server.core.path.spin.spins) == (client, server):
            return pair, onlooker
    raise AssertionError("chance is against it twenty times")


class TestSpinBit:
    @pytest.mark.parametrize("way", ["there", "back"])
    def test_it_changes_once_a_round_trip(self, way: str) -> None:
        pair, onlooker = spinning(True, True)
        talk(pair, 2.0)
        times = onlooker.spins(way)[2:]
        assert len(times) > 10
        for before, after in itertools.pairwise(times):
            assert after - before == pytest.approx(2 * DELAY, abs=0.015)

    def test_lost_and_reordered_packets_do_not_make_it_spin_faster(self) -> None:
        pair, onlooker = spinning(True, True)
        for path in (pair.there, pair.back):
            path.jitter, path.loss = 0.03, 0.1
        talk(pair, 3.0)
        assert 10 < len(onlooker.spins("there")) <= 2 * 3.0 / (2 * DELAY)

    @pytest.mark.parametrize(("client", "server"), [(False, False), (True, False), (False, True)])
    def test_it_does_not_spin_unless_both_want_it(self, client: bool, server: bool) -> None:
        pair, onlooker = spinning(client, server)
        talk(pair, 1.0)
        for way in ("there", "back"):
            assert len(onlooker.spins(way)) <= 1
            assert len(onlooker.short(way)) > 100

    def test_on_one_of_sixteen_paths_it_never_spins(self) -> None:
        chosen = [SpinBit.choose(lambda n, i=i: bytes((i,)), is_client=True, enabled=True) for i in range(256)]  # type: ignore[misc]
        assert sum(not bit.spins for bit in chosen) == 16

    def test_where_it_is_off_it_is_as_chance_will_have_it(self) -> None:
        chosen = [SpinBit.choose(lambda n, i=i: bytes((i,)), is_client=True, enabled=False) for i in range(256)]  # type: ignore[misc]
        assert not any(bit.spins for bit in chosen)
        assert {bit.value for bit in chosen} == {0, SPIN_BIT}

    def test_an_old_packet_does_not_turn_it_back(self) -> None:
        bit = SpinBit(is_client=False, spins=True)
        bit.heard(7, SPIN_BIT)
        bit.heard(6, 0)
        assert bit.value == SPIN_BIT

    def test_it_begins_anew_with_another_connection_id(self) -> None:
        bit = SpinBit(is_client=True, spins=True)
        bit.heard(7, 0)
        assert bit.value == SPIN_BIT
        bit.restart()
        assert bit.value == 0


class TestFixedBit:
    def test_it_is_greased_both_ways_once_both_have_said_that_it_may_be(self) -> None:
        pair = Pair(connect=False)
        onlooker = Onlooker(pair)
        pair.run(lambda: pair.connected)
        talk(pair, 1.0)
        for way in ("there", "back"):
            assert {first & FIXED_BIT for _, first in onlooker.short(way)} == {0, FIXED_BIT}
        assert onlooker.seen["there"][0][1] & FIXED_BIT

    def test_nobody_is_sent_a_greased_one_who_has_not_said_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shared: Callable[[QuicConfiguration], tuple[TransportParameters, bytes]] = local.shared_parameters

        def without(configuration: QuicConfiguration) -> tuple[TransportParameters, bytes]:
            parameters, encoded = shared(configuration)
            flag = encode_parameters(TransportParameters(grease_quic_bit=True))
            assert flag in encoded
            return parameters, encoded.replace(flag, b"")

        monkeypatch.setattr("fairway.quic.connection.shared_parameters", without)
        pair = Pair(connect=False)
        onlooker = Onlooker(pair)
        pair.run(lambda: pair.connected)
        talk(pair, 1.0)
        assert all(first & FIXED_BIT for way in ("there", "back") for _, first in onlooker.seen[way])

    def test_a_stranger_must_set_it(self) -> None:
        pair = Pair(connect=False)
        assert pair.client.core is not None
        out = pair.client.core.transmit(pair.now)
        assert out is not None
        header = parse_long_header(out.data, 0, out.segment)
        assert header.type is PacketType.INITIAL
        datagram = bytes((out.data[0] & ~FIXED_BIT,)) + out.data[1 : out.segment]
        pair.endpoint.receive(datagram, len(datagram), CLIENT_ADDRESS, pair.now)
        assert len(pair.endpoint) == 0
        assert not pair.endpoint.replies

    def test_it_is_unpredictable(self) -> None:
        fixed = FixedBit(lambda n: bytes(range(0x35, 0x35 + n)))
        fixed.greased = True
        ones = sum(fixed.next() == FIXED_BIT for _ in range(64))
        assert ones == sum(value.bit_count() for value in range(0x35, 0x35 + 8))
