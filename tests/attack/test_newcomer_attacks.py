"""What comes before or beside a handshake: coalesced packets, endless ClientHellos, nothing (attacks 15, 19, 31)."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from quic_attacker import AES, Attacker, bounded
from quic_pair import CLIENT_ADDRESS, Pair

from fairway.aio.transport import BUFFERS_PER_TURN, Transport
from fairway.aio.udp import UdpSocket
from fairway.quic import ClosedBy, QuicConfiguration, frames
from fairway.quic.packets.headers import VERSION_1, PacketType, encode_long_header
from fairway.quic.packets.protection import initial_secrets, make_sealer

PING = frames.Ping().encode()
DESTINATION = b"\x55" * 8


def initial(payload: bytes, number: int) -> bytes:
    """A client's Initial packet with this payload."""
    sealer = make_sealer(VERSION_1, AES, initial_secrets(VERSION_1, DESTINATION)[0])
    payload = payload.ljust(1180, b"\0")
    header = encode_long_header(PacketType.INITIAL, VERSION_1, DESTINATION, b"attacker", number, 2, len(payload) + 16)
    return sealer.seal_long(header, number, 2, payload)


class TestCoalesced:  # 15
    def test_15_packets_for_another_connection_id_behind_the_first_are_not_looked_at(self) -> None:
        """RFC 9000 section 12.2: one datagram is for one connection, whatever its further packets say."""
        attacker = Attacker(connect=False)
        attacker.pair.run(lambda: attacker.pair.server.core is not None)
        attacker.take_over()
        first, second = (attacker.long_packet(PacketType.INITIAL, PING, 2000 + index) for index in range(2))
        length = second[5]
        other = second[:6] + bytes(byte ^ 1 for byte in second[6 : 6 + length]) + second[6 + length :]
        assert self.taken(attacker, first + other) == 1
        assert self.taken(attacker, first + second) == 1  # the first is a duplicate by now, the second was not read

    def taken(self, attacker: Attacker, datagram: bytes) -> float:
        """Packets that the server takes in of a datagram."""
        before = attacker.server.statistics()["packets_received"]
        attacker.server.receive(datagram, len(datagram), attacker.pair.now)
        return attacker.server.statistics()["packets_received"] - before

    def test_15_a_datagram_full_of_long_headers_costs_what_it_holds(self) -> None:
        attacker = Attacker(connect=False)
        attacker.pair.run(lambda: attacker.pair.server.core is not None)
        attacker.take_over()
        kept = attacker.long_packet(PacketType.INITIAL, frames.Ping().encode())
        # Handshake packets before there are keys for them, as many as fit.
        small = encode_long_header(PacketType.HANDSHAKE, VERSION_1, attacker.server_id, attacker.client_id, 0, 2, 30)
        datagram = kept + (small + bytes(30)) * 1000
        with bounded(steps=5_000_000, megabytes=0.2):
            for _ in range(20):
                attacker.server.receive(datagram, len(datagram), attacker.pair.now)
        assert attacker.code is None
        attacker.honest_peers_notice_nothing()


class TestSlowHandshakes:  # 19
    def test_19_who_never_ends_the_handshake_is_given_up_in_time(self) -> None:
        """A client that sends one byte of its ClientHello now and then, each in a genuine packet."""
        pair = Pair(QuicConfiguration(handshake_timeout_s=10.0), connect=False)
        pair.client.core = None
        hello = b"\x01\0\x20\0" + bytes(0x2000)
        begun = pair.now
        for number in range(100):
            pair.inject(initial(frames.Crypto(number, hello[number : number + 1]).encode(), number), to_server=True)
            pair.run_for(0.5)
            server = pair.server.core
            assert server is not None
            if server.closing is not None:
                break
        assert server.closing is not None
        assert server.closing.by is ClosedBy.HANDSHAKE_TIMEOUT
        assert pair.now - begun <= 11.0


class TestEmptyDatagrams:  # 31
    def test_31_they_are_for_nobody_and_leave_nothing(self) -> None:
        attacker = Attacker()
        with bounded(steps=1_000_000, megabytes=0.1):
            for _ in range(10_000):
                attacker.pair.endpoint.receive(b"", 1, CLIENT_ADDRESS, attacker.pair.now)
                attacker.server.receive(b"", 1, attacker.pair.now, CLIENT_ADDRESS)
        assert attacker.code is None
        assert not attacker.pair.endpoint.replies
        attacker.honest_peers_notice_nothing()

    def test_31_a_socket_that_has_nothing_else_does_not_hold_up_the_loop(self) -> None:
        """They count as buffers of a turn (CVE-2026-11352): other tasks go on between the turns."""

        class Endless(UdpSocket):
            taken = 0

            def receive(self) -> tuple[bytes, int, Any, int] | None:
                self.taken += 1
                return b"", 1, CLIENT_ADDRESS, 0

        async def scenario() -> None:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            with theirs:
                theirs.send(b"there is always something to read")
                endless = Endless.__new__(Endless)
                endless.fileno = ours.fileno  # type: ignore[method-assign]
                endless.close = ours.close  # type: ignore[method-assign]
                buffers: list[bytes] = []
                transport = Transport(
                    endless,
                    loop,
                    on_buffer=lambda data, *_: buffers.append(data),
                    on_turn=lambda: None,
                    on_error=lambda error: None,
                )
                transport.listen()
                for _ in range(100):
                    before = endless.taken
                    await asyncio.sleep(0)
                    assert endless.taken - before <= BUFFERS_PER_TURN
                transport.close()
            assert len(buffers) >= 99 * BUFFERS_PER_TURN

        asyncio.run(asyncio.wait_for(scenario(), 10))
