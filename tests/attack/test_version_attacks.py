"""Lies about versions, Version Negotiation by whoever has no keys (RFC 9368 section 4 and 9)."""

from __future__ import annotations

import pytest
from quic_attacker import bounded
from quic_pair import Pair

from fairway.quic import ErrorCode, QuicConfiguration
from fairway.quic.handshake import local_parameters as local
from fairway.quic.packets.headers import VERSION_1, VERSION_2, encode_version_negotiation, parse_long_header
from fairway.quic.version_information import VersionInformation

BOTH_TWO = (VERSION_2, VERSION_1)


def says(value: bytes | None) -> bytes:
    """The parameter with any value; nothing for None."""
    return b"" if value is None else bytes((0x11, len(value))) + value


def information(chosen: int, *available: int) -> bytes:
    return VersionInformation(chosen, available).encode()


def ended(pair: Pair) -> tuple[int | None, int | None]:
    """The codes with which client and server ended the handshake."""
    for _ in range(200):
        if not pair.step() or any(side.core and side.core.closing for side in (pair.client, pair.server)):
            break
    pair.run_for(0.5)
    closings = [side.core.closing if side.core else None for side in (pair.client, pair.server)]
    return closings[0] and closings[0].code, closings[1] and closings[1].code  # type: ignore[return-value]


class TestLies:
    @pytest.mark.parametrize(
        ("value", "code"),
        [
            (information(VERSION_2, *BOTH_TWO), ErrorCode.VERSION_NEGOTIATION_ERROR),
            (information(0x1A2A3A4A, 0x1A2A3A4A), ErrorCode.VERSION_NEGOTIATION_ERROR),
            (information(VERSION_1, VERSION_2), ErrorCode.TRANSPORT_PARAMETER_ERROR),
            (information(VERSION_1), ErrorCode.TRANSPORT_PARAMETER_ERROR),
            (information(VERSION_1, VERSION_1, 0), ErrorCode.TRANSPORT_PARAMETER_ERROR),
            (information(VERSION_1, VERSION_1)[:-1], ErrorCode.TRANSPORT_PARAMETER_ERROR),
            (b"", ErrorCode.TRANSPORT_PARAMETER_ERROR),
        ],
    )
    def test_a_client_that_lies_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, value: bytes, code: ErrorCode
    ) -> None:
        monkeypatch.setattr("fairway.quic.connection.of_this_connection", lambda *_: says(value))
        pair = Pair(QuicConfiguration(), server_configuration=QuicConfiguration(versions=BOTH_TWO), connect=False)
        assert ended(pair) == (code, code)

    @pytest.mark.parametrize(
        "value",
        [
            information(VERSION_1, VERSION_1, VERSION_2),  # while its packets are of version 2
            information(0x1A2A3A4A, VERSION_1, VERSION_2),
            None,
        ],
    )
    def test_a_server_that_lies_is_refused(self, monkeypatch: pytest.MonkeyPatch, value: bytes | None) -> None:
        shared = local.of_this_connection
        monkeypatch.setattr("fairway.quic.handshake.local_parameters.of_this_connection", lambda *_: says(value))
        monkeypatch.setattr("fairway.quic.connection.of_this_connection", shared)
        pair = Pair(QuicConfiguration(), server_configuration=QuicConfiguration(versions=BOTH_TWO), connect=False)
        assert ended(pair)[0] == ErrorCode.VERSION_NEGOTIATION_ERROR

    def test_a_list_without_end_costs_what_it_sends(self) -> None:
        value = information(VERSION_1, VERSION_1, *range(2, 10_000))
        with bounded(steps=250, at_once=1.0):
            for _ in range(10):
                VersionInformation.decode(value, from_client=True)

    def test_a_client_is_not_taken_to_a_version_that_it_did_not_offer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fairway.quic.handshake.local_parameters.served_version", lambda *_: VERSION_2)
        pair = Pair(
            QuicConfiguration(versions=(VERSION_1,), handshake_timeout_s=5.0),
            server_configuration=QuicConfiguration(),
            connect=False,
        )
        core = pair.client.core
        assert core is not None
        pair.run(lambda: core.closing is not None)
        assert core.statistics()["quic_version"] == VERSION_1
        assert not core.handshake_complete


class TestVersionNegotiation:
    def test_after_the_handshake_it_is_not_heard(self) -> None:
        pair = Pair(QuicConfiguration(), connect=False)
        core = pair.client.core
        assert core is not None
        hellos: list[bytes] = []
        pair.there.drop = lambda index, data: hellos.append(data) is not None
        pair.run(lambda: pair.connected)
        header = parse_long_header(hellos[0], 0, len(hellos[0]))
        for versions in ((VERSION_2,), (7,)):
            pair.inject(encode_version_negotiation(header.source, header.destination, versions), to_server=False)
        pair.run_for(1.0)
        assert core.closing is None
        assert core.statistics()["quic_version"] == VERSION_1

    def test_a_loop_of_it_costs_one_new_beginning(self) -> None:
        """Somebody answers each first flight by naming the other version."""
        pair = Pair(QuicConfiguration(handshake_timeout_s=5.0), connect=False)
        core = pair.client.core
        assert core is not None
        flights: set[tuple[int, bytes]] = set()

        def answer(index: int, data: bytes) -> bool:
            header = parse_long_header(data, 0, len(data))
            flights.add((header.version, header.destination))
            other = VERSION_2 if header.version == VERSION_1 else VERSION_1
            packet = encode_version_negotiation(header.source, header.destination, (other,))
            pair.send(packet, to_server=False)
            return True

        pair.there.drop = answer
        with bounded(steps=15_000):
            pair.run(lambda: core.closing is not None)
        assert len(flights) == 2

    def test_a_packet_that_lists_half_a_version_is_no_list(self) -> None:
        pair = Pair(QuicConfiguration(), connect=False)
        core = pair.client.core
        assert core is not None
        out = core.transmit(pair.now)
        assert out is not None
        header = parse_long_header(out.data, 0, out.segment)
        packet = encode_version_negotiation(header.source, header.destination, (VERSION_2,))
        for cut in (packet[:-4], packet[:-1], packet + b"\0"):
            core.receive(cut, len(cut), pair.now)
        assert core.statistics()["quic_version"] == VERSION_1
        core.receive(packet, len(packet), pair.now)
        assert core.statistics()["quic_version"] == VERSION_2
