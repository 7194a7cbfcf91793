"""What strangers do to an endpoint: amplification, strange headers, failed handshakes (attacks 9, 13, 34)."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from quic_attacker import Attacker, bounded
from quic_pair import CLIENT_ADDRESS, Pair, SimulatedPath, identity

from fairway.quic import Endpoint, ErrorCode, frames
from fairway.quic.endpoint.admission import AdmissionLimits
from fairway.quic.observe.observer import DropReason, Observer
from fairway.quic.packets.headers import VERSION_1, PacketType, encode_long_header, parse_long_header
from fairway.quic.packets.protection import initial_secrets, make_sealer
from fairway.tls import CipherSuite, ServerConfig


def initial(destination: bytes, payload: bytes, number: int = 0) -> bytes:
    """A client's Initial packet, which whoever sees the connection ID can make."""
    sealer = make_sealer(VERSION_1, CipherSuite.AES_128_GCM_SHA256, initial_secrets(VERSION_1, destination)[0])
    payload = payload.ljust(1180, b"\0")
    header = encode_long_header(PacketType.INITIAL, VERSION_1, destination, b"attacker", number, 2, len(payload) + 16)
    return sealer.seal_long(header, number, 2, payload)


BROKEN_HELLO = frames.Crypto(0, b"\x01\x00\x00\x02\xff\xff").encode()


class TestAmplification:  # 9
    @pytest.mark.parametrize("coalesced", [False, True])
    def test_9_an_unvalidated_address_gets_three_times_what_it_sent(self, coalesced: bool) -> None:
        pair = Pair(there=SimulatedPath(), connect=False)
        assert pair.client.core is not None
        sent = []
        while (out := pair.client.core.transmit(pair.now)) is not None:
            sent.append(out.data)
        pair.client.core = None
        datagrams = [b"".join(data[: len(data) // 2] for data in sent)] if coalesced else []
        for datagram in [*sent, *datagrams]:
            pair.inject(datagram, to_server=True)
        received = sum(map(len, sent)) + sum(map(len, datagrams))
        pair.run_for(60.0)
        assert 0 < pair.back.bytes <= 3 * received

    def test_9_a_close_is_within_the_limit_too(self) -> None:
        pair = Pair(connect=False)
        pair.client.core = None
        destination = b"\x09" * 8
        hello = initial(destination, BROKEN_HELLO)
        pair.inject(hello, to_server=True)
        received = len(hello)
        assert pair.server.core is not None
        assert pair.server.core.closing is not None
        assert pair.server.core.closing.code == ErrorCode.CRYPTO_ERROR + 50
        for _ in range(4096):
            datagram = b"\xc0\0\0\0\1\x08" + destination + b"\0"
            received += len(datagram)
            pair.inject(datagram, to_server=True)
            assert pair.back.bytes <= 3 * received
        assert 0 < pair.back.count < 20

    def test_9_a_long_farewell_to_who_says_little_is_within_the_limit(self) -> None:
        attacker = Attacker(connect=False)
        attacker.pair.run(lambda: attacker.pair.server.core is not None)
        attacker.take_over()
        attacker.server.close(attacker.pair.now, 1, "farewell " * 25, application=False)
        attacker.pair.settle()
        received = attacker.pair.there.bytes
        for _ in range(40):
            datagram = b"\x40" + attacker.first_id
            received += len(datagram)
            attacker.pair.inject(datagram, to_server=True)
            assert attacker.answered <= 3 * received


class TestVersions:  # 13
    def test_13_version_zero_and_tiny_headers_get_no_answer(self) -> None:
        pair = Pair()
        pair.run_for(0.1)
        before = pair.back.count
        for datagram in (
            b"\xc0\0\0\0\0\x08" + bytes(8) + b"\0" + bytes(1200),
            b"\xc0\x1a\x2a\x3a\x4a\x08" + bytes(8) + b"\0",
            b"\xc0\x1a\x2a",
            b"\xc0",
            b"",
        ):
            if datagram:
                pair.inject(datagram, to_server=True)
        pair.run_for(0.1)
        assert pair.back.count == before

    def test_13_unknown_versions_are_answered_at_a_bounded_rate(self) -> None:
        pair = Pair()
        before = pair.back.count
        for _ in range(1000):
            pair.inject(b"\xc0\x1a\x2a\x3a\x4a\x08" + os.urandom(8) + b"\0" + bytes(1200), to_server=True)
        assert 0 < pair.back.count - before <= 100

    def test_13_an_unknown_version_for_a_known_connection_gets_no_answer(self) -> None:
        attacker = Attacker()
        before = attacker.answered
        for version in (0, 0x1A2A3A4A, 0xFFFFFFFF):
            header = b"\xc0" + version.to_bytes(4, "big") + b"\x08" + attacker.server_id + b"\0"
            attacker.pair.inject(header + bytes(1200), to_server=True)
        assert attacker.answered == before
        assert attacker.code is None

    def test_13_a_flood_of_unknown_versions_leaves_nothing_behind(self) -> None:
        attacker = Attacker()
        with bounded(steps=300_000, megabytes=0.5):
            for _ in range(2000):
                attacker.batch([b"\xc0\x1a\x2a\x3a\x4a\xff" + os.urandom(255) + b"\xff" + os.urandom(255) + bytes(800)])
        assert len(attacker.pair.endpoint.replies) <= 100
        attacker.honest_peers_notice_nothing()


class TestNewcomers:
    def test_handshakes_that_failed_count_as_pending_until_they_are_forgotten(self) -> None:
        endpoint = Endpoint(
            ServerConfig((identity(),), ("test",)),
            random=os.urandom,
            clock=lambda: datetime.now(UTC),
            limits=AdmissionLimits(retry_from=3),
        )
        for index in range(50):
            packet = initial(index.to_bytes(8, "big"), BROKEN_HELLO)
            endpoint.receive(packet, len(packet), CLIENT_ADDRESS, 1000.0)
        assert len(endpoint) == endpoint.pending == 3
        assert endpoint.statistics.retries == 47
        for connection in endpoint.connections():
            endpoint.forget(connection)
        assert len(endpoint) == endpoint.pending == 0

    def test_forged_packets_leave_no_connection(self) -> None:
        attacker = Attacker()
        known = len(attacker.pair.endpoint)
        with bounded(steps=1_000_000, megabytes=1.0):
            for index in range(300):
                packet = initial(index.to_bytes(8, "big"), BROKEN_HELLO)
                attacker.batch([packet[:-1] + bytes((packet[-1] ^ 1,))])
        assert len(attacker.pair.endpoint) == known
        attacker.honest_peers_notice_nothing()

    def test_packets_that_wait_for_keys_are_bounded_in_bytes(self) -> None:
        attacker = Attacker(connect=False)
        attacker.pair.run(lambda: attacker.pair.server.core is not None)
        attacker.take_over()
        with bounded(steps=20_000, megabytes=0.1):
            for _ in range(100):
                attacker.batch([b"\x40" + attacker.server_id + os.urandom(60_000)])
        assert attacker.code is None
        attacker.honest_peers_notice_nothing()

    def test_packets_that_wait_for_keys_are_bounded_in_number(self) -> None:
        """Ten of them wait, of whatever size (RFC 9000 section 5.7): the rest is dropped at once."""
        seen = Drops()
        first_ids: list[bytes] = []

        def look(index: int, datagram: bytes) -> bool:
            first_ids.append(parse_long_header(datagram, 0, len(datagram)).destination)
            return False

        pair = Pair(connect=False, observe_server=lambda: (seen,))
        pair.there.drop = look
        pair.run(lambda: pair.server.core is not None)
        pair.client.core = None
        for _ in range(100):
            packet = b"\x40" + first_ids[0] + os.urandom(30)
            pair.endpoint.receive(packet, len(packet), CLIENT_ADDRESS, pair.now)
        assert seen.reasons == [DropReason.NO_KEYS] * 90


class Drops(Observer):
    """Why packets were dropped."""

    def __init__(self) -> None:
        self.reasons: list[DropReason] = []

    def dropped(self, reason: DropReason, size: int, now: float) -> None:
        self.reasons.append(reason)


class TestBatches:
    @pytest.mark.parametrize("size", [10, 25, 40, 1200])
    def test_a_buffer_of_datagrams_for_the_first_id_is_walked_and_counted_once(self, size: int) -> None:
        """The client's first Destination Connection ID finds the connection, and is none of its own."""
        attacker = Attacker()
        before = attacker.server.statistics()["bytes_received"]
        datagrams = [(b"\x40" + attacker.first_id + bytes(size))[:size] for _ in range(65_000 // size)]
        attacker.batch(datagrams)
        assert attacker.server.statistics()["bytes_received"] - before == size * len(datagrams)
        assert attacker.code is None

    def test_strays_in_a_buffer_do_not_hide_the_others(self) -> None:
        attacker = Attacker()
        genuine = attacker.packet(frames.Stream(0, 0, b"heard all the same").encode())
        stray = b"\x40" + attacker.first_id + bytes(len(genuine) - 9)
        attacker.server.receive(stray + stray + genuine + stray, len(genuine), attacker.pair.now)
        attacker.pair.settle()
        assert attacker.pair.server.received[0] == b"heard all the same"


class TestHashes:  # 34
    def test_34_connection_ids_hash_differently_in_every_process(self) -> None:
        command = [sys.executable, "-c", "print(hash(b'8bytesid'))"]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}
        results = {subprocess.run(command, capture_output=True, check=True, env=environment).stdout for _ in range(3)}
        assert len(results) > 1
