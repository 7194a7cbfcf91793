"""Packet protection: the vectors of RFC 9001 and RFC 9369 (each in its appendix A), batches, key updates."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.quic.errors import PeerError
from fairway.quic.packets.headers import FIXED_BIT, KEY_PHASE, VERSION_1, VERSION_2, parse_long_header
from fairway.quic.packets.protection import (
    ApplicationKeys,
    initial_secrets,
    make_opener,
    make_sealer,
    retry_tag,
)
from fairway.tls import CipherSuite

_FILES = {VERSION_1: "rfc9001_packets.json", VERSION_2: "rfc9369_packets.json"}
VECTORS: dict[int, dict[str, Any]] = {
    version: json.loads((Path(__file__).parent / "vectors" / name).read_text()) for version, name in _FILES.items()
}
AES = CipherSuite.AES_128_GCM_SHA256


def hexed(version: int, name: str, field: str) -> bytes:
    return bytes.fromhex(VECTORS[version][name][field])


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
class TestAppendixA:
    def test_a_clients_initial_packet_is_protected_as_in_section_a_2(self, version: int) -> None:
        vector = VECTORS[version]["client_initial"]
        client, _ = initial_secrets(version, hexed(version, "client_initial", "destination"))
        payload = hexed(version, "client_initial", "payload").ljust(vector["padded_to"], b"\0")
        packet = make_sealer(version, AES, client).seal_long(hexed(version, "client_initial", "header"), 2, 4, payload)
        assert len(packet) == vector["protected_length"]
        assert packet.startswith(hexed(version, "client_initial", "protected_start"))
        assert packet.endswith(hexed(version, "client_initial", "protected_end"))
        header = parse_long_header(packet, 0, len(packet))
        assert make_opener(version, AES, client).open_long(packet, 0, header, -1) == (2, payload)

    def test_a_servers_initial_packet_is_protected_as_in_section_a_3(self, version: int) -> None:
        _, server = initial_secrets(version, hexed(version, "server_initial", "destination"))
        payload = hexed(version, "server_initial", "payload")
        packet = make_sealer(version, AES, server).seal_long(hexed(version, "server_initial", "header"), 1, 2, payload)
        assert packet == hexed(version, "server_initial", "protected")
        header = parse_long_header(packet, 0, len(packet))
        assert make_opener(version, AES, server).open_long(packet, 0, header, -1) == (1, payload)

    def test_a_retry_packet_has_the_tag_of_section_a_4(self, version: int) -> None:
        packet = hexed(version, "retry", "packet")
        assert retry_tag(version, hexed(version, "retry", "original_destination"), packet[:-16]) == packet[-16:]

    def test_a_short_header_packet_with_chacha20_is_protected_as_in_section_a_5(self, version: int) -> None:
        vector = VECTORS[version]["chacha20_short"]
        suite = CipherSuite.CHACHA20_POLY1305_SHA256
        secret = hexed(version, "chacha20_short", "secret")
        packet = make_sealer(version, suite, secret).seal(FIXED_BIT, b"", vector["number"], 3, [b"\x01"])
        assert packet == hexed(version, "chacha20_short", "protected")
        opener = make_opener(version, suite, secret)
        opened = opener.open_batch(packet, len(packet), len(packet), b"", vector["number"] - 1, 0)
        assert opened == ([vector["number"]], [b"\x01"], [])


class TestBatches:
    @pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
    @pytest.mark.parametrize("suite", CipherSuite)
    @given(
        number=st.integers(0, 1 << 40),
        count=st.integers(1, 44),
        size=st.integers(4, 200),
        last=st.integers(4, 200),
        length=st.integers(1, 4),
    )
    def test_what_is_sealed_opens(
        self, suite: CipherSuite, version: int, number: int, count: int, size: int, last: int, length: int
    ) -> None:
        secret = bytes(suite.hash_length)
        payloads = [os.urandom(size) for _ in range(count - 1)] + [os.urandom(min(last, size))]
        buffer = make_sealer(version, suite, secret).seal(FIXED_BIT, b"8bytesid", number, length, payloads)
        segment = 1 + 8 + length + size + 16 if count > 1 else len(buffer)
        opener = make_opener(version, suite, secret)
        numbers, opened, others = opener.open_batch(buffer, len(buffer), segment, b"8bytesid", number - 1, 0)
        assert (numbers, opened, others) == (list(range(number, number + count)), payloads, [])

    def test_a_damaged_packet_does_not_keep_the_others_from_opening(self) -> None:
        payloads = [bytes((i,)) * 50 for i in range(5)]
        buffer = bytearray(make_sealer(VERSION_1, AES, b"s" * 32).seal(FIXED_BIT, b"", 7, 2, payloads))
        segment = len(buffer) // 5
        buffer[2 * segment + 30] ^= 1
        opener = make_opener(VERSION_1, AES, b"s" * 32)
        numbers, opened, others = opener.open_batch(buffer, len(buffer), segment, b"", 6, 0)
        assert numbers == [7, 8, 10, 11]
        assert opened == payloads[:2] + payloads[3:]
        assert others == [(2 * segment, 3 * segment)]

    @given(st.binary(max_size=300), st.integers(1, 100))
    def test_garbage_opens_nothing_and_raises_nothing(self, data: bytes, segment: int) -> None:
        opener = make_opener(VERSION_1, AES, b"s" * 32)
        assert opener.open_batch(data, len(data), segment, b"8bytesid", 5, 0)[0] == []

    def test_a_first_byte_that_unmasks_to_zero_is_not_opened(self) -> None:
        sealed = bytearray(make_sealer(VERSION_1, AES, b"s" * 32).seal(FIXED_BIT, b"", 0, 1, [bytes(20)]))
        for first in range(256):
            sealed[0] = first
            make_opener(VERSION_1, AES, b"s" * 32).open_batch(sealed, len(sealed), len(sealed), b"", -1, 0)

    def test_reserved_bits_are_the_peers_fault(self) -> None:
        packet = make_sealer(VERSION_1, AES, b"s" * 32).seal(FIXED_BIT | 0x08, b"", 0, 2, [bytes(20)])
        with pytest.raises(PeerError, match="reserved bits"):
            make_opener(VERSION_1, AES, b"s" * 32).open_batch(packet, len(packet), len(packet), b"", -1, 0)


class TestKeyUpdate:
    def pair(self) -> tuple[ApplicationKeys, ApplicationKeys]:
        return ApplicationKeys(VERSION_1, AES, b"a" * 32, b"b" * 32), ApplicationKeys(
            VERSION_1, AES, b"b" * 32, b"a" * 32
        )

    def test_the_next_phases_packet_opens_ahead_of_time(self) -> None:
        ours, theirs = self.pair()
        theirs.update(5, None, float("inf"))
        assert theirs.phase == KEY_PHASE
        packet = theirs.sealer.seal(FIXED_BIT | theirs.phase, b"", 5, 2, [b"hello"])
        assert ours.opener.open_batch(packet, len(packet), len(packet), b"", 4, ours.phase)[0] == []
        assert ours.open_other(packet, 0, len(packet), b"", 4, 0.0) == (5, b"hello", True)

    def test_the_previous_phases_packets_open_for_a_while(self) -> None:
        ours, theirs = self.pair()
        late = theirs.sealer.seal(FIXED_BIT | theirs.phase, b"", 4, 2, [b"late!"])
        ours.update(0, 5, until=10.0)
        assert ours.open_other(late, 0, len(late), b"", 5, 9.0) == (4, b"late!", False)
        assert ours.open_other(late, 0, len(late), b"", 5, 11.0) is None
