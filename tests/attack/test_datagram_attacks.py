"""Datagrams (RFC 9221) that nobody asked for, and without end."""

from __future__ import annotations

import pytest
from quic_attacker import Attacker, FalseServer, bounded

from fairway.quic import ErrorCode, QuicConfiguration, frames
from fairway.quic import events as ev
from fairway.quic.limits import MAX_DATAGRAM_BYTES_KEPT, MAX_DATAGRAMS_KEPT
from fairway.quic.packets.headers import PacketType

TAKES = QuicConfiguration(handshake_timeout_s=120.0, max_datagram_frame_size=65535)


def kept(events: list[ev.Event]) -> list[bytes]:
    return [event.data for event in events if isinstance(event, ev.DatagramReceived)]


class TestDatagrams:
    @pytest.mark.parametrize("explicit", [True, False])
    @pytest.mark.parametrize("size", [0, 1, 1000])
    def test_one_that_was_not_invited_closes_the_connection(self, size: int, explicit: bool) -> None:
        attacker = Attacker()
        attacker.send(frames.Datagram(bytes(size), explicit).encode())
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION
        attacker.honest_peers_notice_nothing()

    @pytest.mark.parametrize(
        ("frame", "allowed"),
        [
            (frames.Datagram(bytes(99), explicit_length=False), True),
            (frames.Datagram(bytes(100), explicit_length=False), False),
            (frames.Datagram(bytes(97)), True),  # its length takes two bytes
            (frames.Datagram(bytes(98)), False),
        ],
    )
    def test_one_that_is_larger_than_was_allowed_closes_the_connection(
        self, frame: frames.Datagram, allowed: bool
    ) -> None:
        attacker = Attacker(QuicConfiguration(max_datagram_frame_size=100))
        attacker.push(frame.encode())
        assert attacker.code == (None if allowed else ErrorCode.PROTOCOL_VIOLATION)
        assert kept(attacker.server.events()) == ([frame.data] if allowed else [])

    def test_one_before_the_handshake_is_complete_closes_the_connection(self) -> None:
        attacker = Attacker(TAKES, connect=False)
        attacker.pair.run(lambda: attacker.pair.server.core is not None)
        attacker.take_over()
        packet = attacker.long_packet(PacketType.INITIAL, frames.Datagram(b"x").encode())
        attacker.pair.inject(packet, to_server=True)
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION

    def test_large_ones_without_end_that_nobody_fetches_are_bounded(self) -> None:
        attacker = Attacker(TAKES)
        with bounded(steps=4_000_000, megabytes=1.5):
            for number in range(4000):
                attacker.push(frames.Datagram(b"%01000d" % number).encode())
        assert attacker.code is None
        got = kept(attacker.server.events())
        assert sum(map(len, got)) <= MAX_DATAGRAM_BYTES_KEPT
        assert got[-1] == b"%01000d" % 3999
        assert attacker.server.statistics()["datagrams_dropped"] == 4000 - len(got)
        attacker.honest_peers_notice_nothing()

    def test_small_ones_without_end_that_nobody_fetches_are_bounded(self) -> None:
        attacker = Attacker(TAKES)
        flood = frames.Datagram(b"").encode() * 300 + frames.Datagram(b"ab").encode() * 100
        with bounded(steps=25_000_000, megabytes=0.5):
            for _ in range(300):
                attacker.push(flood)
        assert attacker.code is None
        assert len(kept(attacker.server.events())) == MAX_DATAGRAMS_KEPT

    def test_longer_connection_ids_of_the_peer_only_lose_what_no_longer_fits(self) -> None:
        server = FalseServer(TAKES)
        client = server.victim
        size = client.max_datagram_size
        assert client.send_datagram(b"a" * size)
        assert client.send_datagram(b"b" * (size - 12))
        server.push(frames.NewConnectionId(9, 9, bytes(20), bytes(16)).encode())
        assert client.max_datagram_size == size - 12
        sent = 0
        while (out := client.transmit(server.pair.now)) is not None:
            assert out.segment <= 1200
            sent += len(out.data)
        assert sent > size
        figures = client.statistics()
        assert (figures["datagrams_sent"], figures["datagrams_lost"]) == (1, 1)
