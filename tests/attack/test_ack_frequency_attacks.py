"""What a peer may ask of our acknowledgements, without end and to the extreme (draft-ietf-quic-ack-frequency-14)."""

from __future__ import annotations

import pytest
from quic_attacker import Attacker, bounded
from quic_pair import Pair

from fairway.quic import ErrorCode, frames
from fairway.quic.ack_frames import AckFrequency, ImmediateAck
from fairway.quic.packets.headers import PacketType
from fairway.wire import VARINT_MAX

PING = frames.Ping().encode()
LEAST_US, MOST_US = 1000, (1 << 14) * 1000 - 1


def asks(sequence: int, threshold: int = 1, delay_us: int = 25_000, reordering: int = 1) -> bytes:
    return AckFrequency(sequence, threshold, delay_us, reordering).encode()


class TestRequests:
    @pytest.mark.parametrize("delay_us", [0, LEAST_US - 1, MOST_US + 1, VARINT_MAX])
    def test_delays_that_cannot_be(self, delay_us: int) -> None:
        attacker = Attacker()
        attacker.send(asks(0, delay_us=delay_us))
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION

    @pytest.mark.parametrize("frame", [asks(0), ImmediateAck().encode()])
    def test_not_before_the_handshake_is_complete(self, frame: bytes) -> None:
        attacker = Attacker(connect=False)
        attacker.pair.run(lambda: attacker.pair.server.core is not None)
        attacker.take_over()
        attacker.pair.inject(attacker.long_packet(PacketType.INITIAL, frame), to_server=True)
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION

    def test_without_end_they_keep_nothing(self) -> None:
        attacker = Attacker()
        with bounded(steps=20_000_000, megabytes=0.5):
            for start in range(0, 50_000, 100):
                attacker.send(b"".join(asks(start + index) for index in range(100)))
        assert attacker.code is None
        attacker.honest_peers_notice_nothing()

    def test_an_older_one_is_not_heeded(self) -> None:
        attacker = Attacker()
        attacker.send(asks(VARINT_MAX, threshold=0))
        attacker.send(asks(5, threshold=1000, delay_us=MOST_US, reordering=0))
        attacker.pair.run_for(1.0)
        before = attacker.answered
        attacker.send(PING)
        assert attacker.answered > before

    def test_the_greatest_values_delay_by_what_was_asked_and_no_more(self) -> None:
        attacker = Attacker()
        attacker.send(asks(0, threshold=VARINT_MAX, delay_us=LEAST_US, reordering=VARINT_MAX))
        attacker.pair.run_for(1.0)
        before = attacker.answered
        attacker.send(PING)
        assert attacker.answered == before
        attacker.pair.run_for(LEAST_US / 1e6 + 0.0001)
        assert attacker.answered > before

    def test_odd_numbers_only_and_never_an_acknowledgement_are_bounded(self) -> None:
        attacker = Attacker()
        attacker.send(asks(0, threshold=VARINT_MAX, delay_us=MOST_US, reordering=0))
        with bounded(steps=10_000_000, megabytes=0.5):
            for number in range(3001, 9000, 2):
                packet = attacker.packet(PING, number)
                attacker.server.receive(packet, len(packet), attacker.pair.now)
                while attacker.server.transmit(attacker.pair.now) is not None:
                    pass
        assert attacker.code is None
        attacker.honest_peers_notice_nothing()


class TestAtOnce:
    def test_a_packet_full_of_it_is_answered_once(self) -> None:
        attacker = Attacker()
        attacker.pair.run_for(1.0)
        before, packets = attacker.answered, attacker.server.statistics()["packets_sent"]
        with bounded(steps=50_000_000):
            for _ in range(500):
                attacker.send(ImmediateAck().encode() * 1100)
        assert attacker.server.statistics()["packets_sent"] - packets <= 2 * 500
        assert attacker.answered - before < 500 * 100
        attacker.honest_peers_notice_nothing()

    def test_a_batch_of_packets_with_it_is_answered_once(self) -> None:
        attacker = Attacker()
        attacker.pair.run_for(1.0)
        before = attacker.server.statistics()["packets_sent"]
        attacker.batch([attacker.packet(ImmediateAck().encode().ljust(20, b"\0")) for _ in range(40)])
        attacker.pair.settle()
        assert attacker.server.statistics()["packets_sent"] - before == 1

    def test_an_honest_pair_has_it_too(self) -> None:
        pair = Pair()
        assert pair.client.core is not None
        assert pair.client.core.peer_parameters.min_ack_delay_us == LEAST_US
