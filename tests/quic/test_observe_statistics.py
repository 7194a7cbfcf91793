"""Statistics of connections and of endpoints: what each figure says is what happened."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observed import core
from quic_pair import Pair, SimulatedPath, identity

from fairway.quic import ClosedBy, Closing, Endpoint, ErrorCode, QuicConfiguration
from fairway.quic.endpoint.admission import AdmissionLimits
from fairway.quic.endpoint.statistics import RTT_BOUNDS_S, SUMMED, EndpointStatistics, reason
from fairway.quic.statistics import KEYS
from fairway.tls import ClientConfig, ServerConfig

CONFIGURATION = QuicConfiguration(max_datagram_frame_size=65535)


def busy_pair(**options: float) -> Pair:
    pair = Pair(CONFIGURATION, there=SimulatedPath(**options), back=SimulatedPath(), seed=4)
    client = core(pair.client.core)
    for size in (40_000, 90_000):
        stream_id = client.open_stream()
        assert stream_id is not None
        client.write(stream_id, bytes(size), end=True)
    client.send_datagram(b"datagram")
    pair.run(lambda: len(pair.server.ended) == 2)
    answer = core(pair.server.core).open_stream(unidirectional=True)
    assert answer is not None
    core(pair.server.core).write(answer, b"answer", end=True)
    pair.run_for(1.0)
    return pair


class TestConnection:
    def test_every_figure_is_explained(self) -> None:
        assert core(Pair().client.core).statistics().keys() == KEYS.keys()
        assert core(busy_pair().client.core).statistics().keys() == KEYS.keys()

    def test_the_documentation_explains_the_same(self) -> None:
        text = (Path(__file__).parents[2] / "docs" / "qlog.md").read_text()
        assert [
            f"| `{name}` | {meaning} |" for name, meaning in KEYS.items() if f"| `{name}` | {meaning} |" not in text
        ] == []

    def test_figures_of_a_clean_path_are_those_of_both_ends_and_the_path(self) -> None:
        pair = busy_pair()
        client, server = core(pair.client.core).statistics(), core(pair.server.core).statistics()
        assert client["packets_sent"] == server["packets_received"]
        assert server["packets_sent"] == client["packets_received"]
        assert client["bytes_sent"] == server["bytes_received"] == pair.there.bytes
        assert server["bytes_sent"] == client["bytes_received"] == pair.back.bytes
        assert client["streams_opened_locally"] == server["streams_opened_by_peer"] == 2
        assert client["streams_opened_by_peer"] == server["streams_opened_locally"] == 1
        assert client["datagrams_sent"] == server["datagrams_received"] == 1
        for name in ("packets_lost", "bytes_lost", "stream_bytes_retransmitted", "packets_dropped", "probe_timeouts"):
            assert client[name] == server[name] == 0, name
        assert client["minimum_rtt_s"] == pytest.approx(0.02)

    def test_on_a_bad_path_what_was_lost_was_sent_again(self) -> None:
        pair = busy_pair(loss=0.05)
        client, server = core(pair.client.core).statistics(), core(pair.server.core).statistics()
        assert client["packets_sent"] - server["packets_received"] == pair.there.lost
        assert 0 < client["packets_lost"] <= pair.there.lost
        assert client["bytes_lost"] > 1000 * (client["packets_lost"] - 5)
        assert client["stream_bytes_retransmitted"] > 0.5 * client["bytes_lost"]

    def test_probe_timeouts_are_not_forgotten_when_an_answer_comes(self) -> None:
        pair = Pair()
        pair.run_for(0.5)
        pair.there.drop = lambda index, _: True
        core(pair.client.core).ping()
        pair.run_for(1.0)
        pair.there.drop = None
        pair.run_for(5.0)
        assert core(pair.client.core).statistics()["probe_timeouts"] >= 2


def newcomer(endpoint_pair: Pair, seed: int) -> bytes:
    """The first datagram of another client."""
    other = Pair(seed=seed, connect=False)
    out = core(other.client.core).transmit(endpoint_pair.now)
    assert out is not None
    return out.data[: out.segment]


class TestEndpoint:
    def test_connections_that_are_over_stay_in_the_sums(self) -> None:
        pair = busy_pair(loss=0.02)
        server, endpoint = core(pair.server.core), pair.endpoint
        statistics = endpoint.statistics
        before = statistics.totals([server.statistics()])
        assert before["bytes_received"] == server.statistics()["bytes_received"]
        core(pair.client.core).close(pair.now)
        pair.run_for(2.0)
        figures = server.statistics()
        endpoint.forget(server)
        endpoint.forget(server)
        assert statistics.totals([]) == {name: figures[name] for name in SUMMED}
        assert (statistics.accepted, statistics.handshakes_completed) == (1, 1)
        assert statistics.closed == {"no_error": 1}
        assert not statistics.handshakes_failed
        assert sum(statistics.rtt_counts) == 1
        assert statistics.rtt_counts[RTT_BOUNDS_S.index(0.05)] == 1  # a path of 20 ms, and delayed acknowledgements
        assert statistics.rtt_sum_s == figures["smoothed_rtt_s"]

    def test_a_handshake_that_fails_is_counted_by_its_alert(self) -> None:
        pair = Pair(client_tls=ClientConfig("localhost", ("other",), verify=False), connect=False)
        pair.run(lambda: core(pair.client.core).closing is not None)
        pair.endpoint.forget(core(pair.server.core))
        statistics = pair.endpoint.statistics
        assert statistics.handshakes_failed == {"crypto_error_0x178": 1}
        assert (statistics.handshakes_completed, sum(statistics.rtt_counts)) == (0, 0)

    @pytest.mark.parametrize(
        ("limits", "accepting", "why"),
        [(AdmissionLimits(connections=1), True, "connections"), (AdmissionLimits(), False, "closing")],
    )
    def test_who_is_refused_is_counted_by_why(self, limits: AdmissionLimits, accepting: bool, why: str) -> None:
        pair = Pair(connect=False)
        endpoint = Endpoint(
            ServerConfig((identity(),), ("test",)), random=pair.rng.randbytes, clock=lambda: None, limits=limits
        )  # type: ignore[arg-type, return-value]
        assert endpoint.receive(newcomer(pair, 1), 1200, ("192.0.2.7", 1), pair.now)
        endpoint.accepting = accepting
        for seed in (2, 3):
            assert not endpoint.receive(newcomer(pair, seed), 1200, ("192.0.2.7", 1), pair.now)
        assert endpoint.statistics.refused == {why: 2}
        assert endpoint.statistics.accepted == 1

    def test_a_first_packet_that_is_not_genuine_is_not_a_connection(self) -> None:
        pair = Pair(connect=False)
        first = bytearray(newcomer(pair, 1))
        first[-1] ^= 1
        assert not pair.endpoint.receive(bytes(first), len(first), ("192.0.2.7", 1), pair.now)
        assert (pair.endpoint.statistics.accepted, pair.endpoint.statistics.unheard) == (1, 1)
        assert not pair.endpoint.statistics.handshakes_failed

    def test_version_negotiation_is_counted(self) -> None:
        pair = Pair(connect=False)
        first = bytearray(newcomer(pair, 1))
        first[1:5] = b"\x1a\x2a\x3a\x4a"
        assert not pair.endpoint.receive(bytes(first), len(first), ("192.0.2.7", 1), pair.now)
        assert pair.endpoint.statistics.version_negotiations == 1

    @given(st.sampled_from(ClosedBy), st.integers(0, (1 << 62) - 1), st.booleans())
    def test_there_are_only_so_many_reasons_whatever_the_peer_sends(
        self, by: ClosedBy, code: int, application: bool
    ) -> None:
        words = {"no_error", "application_error", "unknown", *(by.name.lower() for by in ClosedBy)}
        words |= {code.name.lower() for code in ErrorCode} | {f"crypto_error_{code:#x}" for code in range(0x100, 0x200)}
        assert reason(Closing(by, code, "anything", 0, application)) in words

    @given(st.floats(0.0001, 100.0))
    def test_a_round_trip_time_is_in_the_bucket_whose_bound_it_does_not_pass(self, rtt_s: float) -> None:
        statistics = EndpointStatistics()
        figures = {**dict.fromkeys(KEYS, 0), "minimum_rtt_s": rtt_s, "smoothed_rtt_s": rtt_s}
        statistics.ended(figures, None, completed=True)
        bucket = statistics.rtt_counts.index(1)
        bounds = (0.0, *RTT_BOUNDS_S, float("inf"))
        assert bounds[bucket] < rtt_s <= bounds[bucket + 1]
