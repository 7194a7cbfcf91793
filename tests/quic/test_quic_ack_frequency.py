"""ACK frequency (draft-ietf-quic-ack-frequency-14): what we ask for, and what is done when a peer asks."""

from __future__ import annotations

import pytest
from quic_pair import Pair, SimulatedPath

from fairway.quic import QuicConfiguration, ack_frames
from fairway.quic.errors import PeerError
from fairway.quic.spaces import ReceivedNumbers
from fairway.quic.transport_parameters import TransportParameters, decode_parameters, encode_parameters

PATH = {"delay": 0.02, "rate": 5e6}
SIZE = 4_000_000


def download(configuration: QuicConfiguration, server: QuicConfiguration | None = None, **path: float) -> Pair:
    """The server sends a few megabytes; what the client sends meanwhile is acknowledgements."""
    pair = Pair(
        configuration,
        server_configuration=server or configuration,
        there=SimulatedPath(**(PATH | path)),  # type: ignore[arg-type]
        back=SimulatedPath(**(PATH | path)),  # type: ignore[arg-type]
        max_segments=1,  # datagrams that arrive one by one
        seed=1,
    )
    assert pair.server.core is not None
    stream_id = pair.server.core.open_stream(unidirectional=True)
    assert stream_id is not None
    data = bytes(SIZE)
    offset = 0
    while stream_id not in pair.client.ended:
        if offset < SIZE:
            offset += pair.server.core.write(stream_id, data[offset:], end=True)
        assert pair.step()
    assert bytes(pair.client.received[stream_id]) == data
    return pair


def sent(pair: Pair) -> float:
    assert pair.client.core is not None
    return pair.client.core.statistics()["packets_sent"]


class TestAsking:
    def test_a_large_window_is_acknowledged_far_less_often_and_as_fast(self) -> None:
        took = []
        counts = []
        for on in (False, True):
            pair = download(QuicConfiguration(ack_frequency=on))
            took.append(pair.now)
            counts.append(sent(pair))
        assert counts[1] < counts[0] / 4
        assert took[1] < took[0] + 0.1

    def test_losses_are_noticed_as_fast(self) -> None:
        took = [download(QuicConfiguration(ack_frequency=on), loss=0.01).now for on in (False, True)]
        assert took[1] < took[0] + 0.5

    def test_nothing_is_asked_of_a_peer_that_cannot_be_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fairway.quic.handshake.local_parameters.decode_parameters", _deaf)
        pair = download(QuicConfiguration(), QuicConfiguration())
        assert sent(pair) > SIZE / 1500 / 3

    def test_a_small_window_is_not_worth_a_frame(self) -> None:
        pair = Pair(QuicConfiguration())
        assert pair.client.core is not None
        stream_id = pair.client.core.open_stream()
        assert stream_id is not None
        pair.client.core.write(stream_id, bytes(5000), end=True)
        seen: list[int] = []
        pair.there.drop = lambda index, data: seen.append(len(data)) is not None
        pair.run(lambda: stream_id in pair.server.ended)
        assert sum(seen) < 5000 + 10 * 60


def _deaf(data: bytes, *, from_client: bool) -> TransportParameters:
    return decode_parameters(data, from_client=from_client)._replace(min_ack_delay_us=None)


class TestProbes:
    def test_a_probe_is_acknowledged_at_once(self) -> None:
        """Two probes are fewer packets than a peer may leave unacknowledged that was asked for few."""
        pair = Pair(there=SimulatedPath(**PATH), back=SimulatedPath(**PATH))  # type: ignore[arg-type]
        core = pair.client.core
        assert core is not None
        stream_id = core.open_stream()
        assert stream_id is not None
        core.write(stream_id, bytes(1_000_000), end=True)
        pair.run(lambda: stream_id in pair.server.ended)
        pair.run_for(1.0)
        first = pair.there.count
        pair.there.drop = lambda index, data: index == first
        core.ping()
        before = core.statistics()["probe_timeouts"]
        pair.run(lambda: core.statistics()["probe_timeouts"] > before)
        begun = pair.now
        pair.run(lambda: not core.statistics()["bytes_in_flight"])
        assert pair.now - begun == pytest.approx(2 * PATH["delay"], abs=0.005)


class TestObeying:
    """The rules of section 6, on the set of packet numbers itself."""

    def received(self, threshold: int, reordering: int) -> ReceivedNumbers:
        numbers = ReceivedNumbers()
        numbers.threshold, numbers.reordering = threshold, reordering
        return numbers

    def arrives(self, numbers: ReceivedNumbers, number: int) -> bool:
        """Take a packet in; whether an acknowledgement is due at once, which then is sent."""
        in_order = numbers.add(number, number, 0.0)
        if not in_order and numbers.is_late(number):
            numbers.ack_now = True
        numbers.elicit(1, in_order, 0.0, 0.025)
        due = numbers.ack_now
        if due:
            numbers.ack_sent()
        return due

    @pytest.mark.parametrize("threshold", [0, 1, 5])
    def test_one_more_than_the_threshold_is_acknowledged(self, threshold: int) -> None:
        numbers = self.received(threshold, 1)
        due = [self.arrives(numbers, number) for number in range(3 * (threshold + 1))]
        assert due == ([False] * threshold + [True]) * 3

    def test_fewer_wait_for_the_delay(self) -> None:
        numbers = self.received(100, 1)
        self.arrives(numbers, 0)
        assert numbers.ack_at == 0.025

    @pytest.mark.parametrize(
        ("reordering", "arrivals", "due"),
        [
            (1, [0, 2, 1, 3], [2, 1]),
            (0, [0, 5, 3, 9, 1, 7], []),
            (3, [0, 1, 3, 4, 5], [5]),
            (3, [0, 1, 3, 4, 5, 8, 9, 10], [5, 9, 10]),
            (3, [0, 1, 3, 4, 5, 2], [5, 2]),  # 2 was told to be lost: that it came after all is told too
            (3, [0, 2, 1, 4, 3, 6, 5, 7, 8], []),
            (5, [0, 1, 3, 5, 6, 7, 9], [7, 9]),
        ],
    )
    def test_disorder_is_told_when_it_means_loss(self, reordering: int, arrivals: list[int], due: list[int]) -> None:
        numbers = self.received(100, reordering)
        told = [number for number in arrivals if self.arrives(numbers, number)]
        assert told == due

    def test_many_holes_are_told_before_they_are_forgotten(self) -> None:
        numbers = self.received(1000, 0)
        told = [number for number in range(0, 200, 2) if self.arrives(numbers, number)]
        assert told
        assert told[0] <= 40


class TestParameter:
    def test_a_least_delay_above_the_greatest_is_refused(self) -> None:
        bad = encode_parameters(TransportParameters(max_ack_delay_ms=2, min_ack_delay_us=2001))
        with pytest.raises(PeerError, match="min_ack_delay"):
            decode_parameters(bad, from_client=True)
        good = TransportParameters(max_ack_delay_ms=2, min_ack_delay_us=2000)
        assert decode_parameters(encode_parameters(good), from_client=True) == good

    def test_zero_is_a_value(self) -> None:
        zero = TransportParameters(min_ack_delay_us=0)
        assert decode_parameters(encode_parameters(zero), from_client=True) == zero
        assert ack_frames.ImmediateAck().encode() == b"\x1f"
        assert ack_frames.AckFrequency(0, 1, 1000, 3).encode()[:2] == b"\x40\xaf"
