"""Unproved paths, storms of addresses, resets of resets, lies about sizes (attacks 9, 10, 14 and 28)."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest
from quic_attacker import Attacker, bounded
from quic_pair import CLIENT_ADDRESS

from fairway.aio import QuicConnection, connect, serve
from fairway.aio.udp import IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE, UdpSocket
from fairway.quic import frames
from fairway.quic.paths.validation import PathValidation
from fairway.tls import self_signed_identity

PING = frames.Ping().encode()


def test_a_path_that_never_answers_is_asked_a_few_times_however_long_it_has() -> None:
    asked, now = PathValidation(0.0, 0.1, 3600.0), 0.0
    for _ in range(20):
        if asked.due is not None:
            now = max(now, asked.due)
            asked.challenge(os.urandom, now)
    assert asked.due is None
    assert now < 1.0
    assert asked.next_after(now) == 3600.0


class TestNewAddresses:  # 9
    @pytest.mark.parametrize("payload", [PING, PING.ljust(1000, b"\0"), frames.PathChallenge(bytes(8)).encode()])
    def test_9_an_address_that_was_not_validated_gets_three_times_what_it_sent(self, payload: bytes) -> None:
        attacker = Attacker()
        stream_id = attacker.server.open_stream(unidirectional=True)
        assert stream_id is not None
        attacker.server.write(stream_id, bytes(1_000_000), end=True)
        pair, victim = attacker.pair, ("198.51.100.66", 53)
        sent = received = 0
        for _ in range(50):
            packet = attacker.packet(payload)
            sent += len(packet)
            pair.endpoint.receive(packet, len(packet), victim, pair.now)
            while (out := attacker.server.transmit(pair.now)) is not None:
                if out.address == victim:
                    received += len(out.data)
            assert received <= 3 * sent
            pair.now += 0.1
            attacker.server.handle_timeout(pair.now)
        attacker.honest_peers_notice_nothing()


class TestStorms:  # 10
    def test_10_a_storm_of_addresses_keeps_a_few_paths(self) -> None:
        attacker = Attacker()
        pair = attacker.pair
        with bounded(steps=6_000_000, megabytes=1.0):
            for index in range(3000):
                packet = attacker.packet(PING)
                address = (f"198.51.{index >> 8}.{index & 255}", 4000)
                pair.endpoint.receive(packet, len(packet), address, pair.now)
                while attacker.server.transmit(pair.now) is not None:
                    pass
                pair.now += 0.001
                attacker.server.handle_timeout(pair.now)
        assert len(attacker.server.other_paths) <= 3
        assert attacker.server.closing is None
        attacker.honest_peers_notice_nothing()

    def test_10_after_the_storm_the_connection_is_where_it_was_validated_last(self) -> None:
        attacker = Attacker()
        pair = attacker.pair
        for index in range(100):
            packet = attacker.packet(PING)
            pair.endpoint.receive(packet, len(packet), (f"198.51.100.{index}", 4000), pair.now)
            attacker.server.transmit(pair.now)
        for _ in range(100):
            pair.now += 0.1
            attacker.server.handle_timeout(pair.now)
            while attacker.server.transmit(pair.now) is not None:
                pass
        assert attacker.server.path.address == CLIENT_ADDRESS

    def test_10_packets_that_do_not_open_make_no_paths(self) -> None:
        attacker = Attacker()
        pair = attacker.pair
        with bounded(steps=1_500_000, megabytes=0.2):
            for index in range(2000):
                packet = attacker.packet(PING)
                packet = packet[:-1] + bytes((packet[-1] ^ 1,))
                pair.endpoint.receive(packet, len(packet), (f"198.51.100.{index % 250}", index), pair.now)
        assert attacker.server.other_paths == ()
        assert attacker.server.path.address == CLIENT_ADDRESS

    def test_10_old_packets_from_elsewhere_move_nobody(self) -> None:
        attacker = Attacker()
        pair = attacker.pair
        late = attacker.packet(PING)
        attacker.send(PING)
        pair.endpoint.receive(late, len(late), ("198.51.100.1", 1), pair.now)
        assert attacker.server.path.address == CLIENT_ADDRESS

    def test_10_probes_move_nobody(self) -> None:
        attacker = Attacker()
        pair = attacker.pair
        packet = attacker.packet(frames.PathChallenge(bytes(8)).encode() + frames.PathResponse(bytes(8)).encode())
        pair.endpoint.receive(packet, len(packet), ("198.51.100.1", 1), pair.now)
        assert attacker.server.path.address == CLIENT_ADDRESS
        assert len(attacker.server.other_paths) == 1


class TestResets:  # 14
    def test_14_two_endpoints_that_reset_each_other_stop(self) -> None:
        first, second = Attacker().pair.endpoint, Attacker(seed=1).pair.endpoint
        datagram, count = b"\x40" + bytes(1199), 0
        while True:
            first.receive(datagram, len(datagram), ("192.0.2.50", 1), 0.0)
            if not first.replies:
                break
            datagram = first.replies.popleft().data
            first, second = second, first
            count += 1
        assert count < 50

    def test_14_strangers_are_answered_at_a_bounded_rate(self) -> None:
        attacker = Attacker()
        endpoint = attacker.pair.endpoint
        answered = 0
        with bounded(steps=400_000, megabytes=0.2):
            for _ in range(5000):
                endpoint.receive(b"\x40" + os.urandom(99), 100, ("192.0.2.50", 1), attacker.pair.now)
                answered += len(endpoint.replies)
                endpoint.replies.clear()
        assert answered <= 100
        attacker.honest_peers_notice_nothing()

    def test_14_no_reset_tells_the_token_of_a_connection_that_lives(self) -> None:
        attacker = Attacker()
        endpoint = attacker.pair.endpoint
        packet = b"\x40" + attacker.server_id + os.urandom(80)
        endpoint.receive(packet, len(packet), ("192.0.2.50", 1), attacker.pair.now)
        assert not endpoint.replies


class TestPacketTooBig:  # 28
    @pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
    def test_28_our_sockets_ask_no_icmp_for_the_size_of_packets(self, family: socket.AddressFamily) -> None:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        udp = UdpSocket(sock)
        if family == socket.AF_INET:
            assert sock.getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER) == PMTUDISC_PROBE
        else:
            assert sock.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER) == PMTUDISC_PROBE
        udp.close()

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
    def test_28_a_forged_packet_too_big_changes_nothing(self) -> None:
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.78", 0))  # the kernel remembers the forged size for this address: nobody else has it
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.bind(("127.0.0.77", 0))
        udp = UdpSocket(sender)
        udp.connect(receiver.getsockname())
        (_, ours), (_, theirs) = udp.address, receiver.getsockname()
        inner = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1300, 1, 0x4000, 64, 17, 0, b"\x7f\0\0\x4d", b"\x7f\0\0\x4e")
        quoted = inner + struct.pack("!HHHH", ours, theirs, 1280, 0)
        body = struct.pack("!BBHHH", 3, 4, 0, 0, 552) + quoted  # fragmentation needed, next hop MTU 552
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as forger:
            forger.sendto(body[:2] + _checksum(body) + body[4:], ("127.0.0.77", 0))
        udp.send(b"the kernel tells this one of the error, and loses it", 100, None)
        for size in (1200, 1452, 9000):
            assert udp.send(bytes(size), size, None) == size
            assert len(receiver.recv(65535)) == size
        udp.close()
        receiver.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it forges ICMP")
class TestUnreachable:
    """RFC 9000 section 21.1.1.1 and RFC 5927: whoever guesses two ports can say that a host is not there."""

    @pytest.mark.parametrize("code", [1, 2, 3, 13], ids=["host", "protocol", "port", "prohibited"])
    def test_a_connection_that_stands_is_not_ended_by_forged_errors(self, code: int) -> None:
        async def echo(connection: QuicConnection) -> None:
            while True:
                stream = await connection.accept_stream()
                await stream.send(await stream.receive_all(), end=True)

        async def main() -> None:
            identities = [self_signed_identity(["localhost"])]
            async with (
                serve(echo, "127.0.0.79", 0, alpn="test", identities=identities) as server,
                connect("127.0.0.79", server.port, server_name="localhost", alpn="test", verify=False) as client,
            ):
                await client.wait_connected()
                (seen,) = server.connections
                address, port = seen.peer_address[:2]
                ends = struct.pack("!4s4s", socket.inet_aton(address), b"\x7f\0\0\x4f")
                quoted = struct.pack("!BBHHHBBH", 0x45, 0, 1228, 1, 0x4000, 64, 17, 0) + ends
                body = struct.pack("!BBHI", 3, code, 0, 0) + quoted + struct.pack("!HHHH", port, server.port, 1208, 0)
                for number in range(20):
                    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as forger:
                        forger.sendto(body[:2] + _checksum(body) + body[4:], (address, 0))
                    stream = await client.open_stream()
                    await stream.send(b"%d" % number, end=True)
                    assert await stream.receive_all() == b"%d" % number

        asyncio.run(asyncio.wait_for(main(), 60))


def _checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)


class TestAnswers:  # 7, 9
    """PATH_RESPONSE fills 1200 bytes, however small the question, but for the limit of section 8.1 (section 8.2.2)."""

    QUESTION = frames.PathChallenge(b"question").encode()

    def answers(self, attacker: Attacker, address: tuple[str, int]) -> list[int]:
        """The sizes of the datagrams that a small question from this address brings there at once."""
        packet = attacker.packet(self.QUESTION)
        attacker.pair.endpoint.receive(packet, len(packet), address, attacker.pair.now)
        sizes = []
        while (out := attacker.server.transmit(attacker.pair.now)) is not None:
            if out.address == address:
                sizes.append(len(out.data))
        return sizes

    def test_on_the_path_in_use_it_is_of_full_size(self) -> None:
        assert 1200 in self.answers(Attacker(), CLIENT_ADDRESS)

    def test_on_a_path_that_was_validated_too(self) -> None:
        attacker = Attacker()
        pair, elsewhere = attacker.pair, ("198.51.100.9", 4000)
        packet = attacker.packet(PING)
        pair.endpoint.receive(packet, len(packet), elsewhere, pair.now)  # it moves there: the old path is another one
        assert attacker.server.path.address == elsewhere
        assert [path.address for path in attacker.server.other_paths] == [CLIENT_ADDRESS]
        assert 1200 in self.answers(attacker, CLIENT_ADDRESS)

    def test_to_an_address_that_is_not_validated_it_is_three_times_the_question_at_most(self) -> None:
        attacker = Attacker()
        question = len(attacker.packet(self.QUESTION))
        assert 0 < sum(self.answers(attacker, ("198.51.100.9", 4000))) <= 3 * question

    def test_where_the_window_is_full_one_goes_each_probe_timeout_and_the_others_wait(self) -> None:
        attacker = Attacker()
        server = attacker.server
        sizes: list[int] = []
        for _ in range(40):  # nobody acknowledges the answers
            sizes += self.answers(attacker, CLIENT_ADDRESS)
        answers = [size for size in sizes if size > 100]
        assert answers
        assert set(answers) == {1200}
        assert server.statistics()["bytes_in_flight"] <= server.statistics()["congestion_window"] + 1200
