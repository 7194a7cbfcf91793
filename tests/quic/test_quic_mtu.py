"""Path MTU discovery: what passes is found, what no longer passes is noticed (RFC 8899)."""

from __future__ import annotations

import pytest
from quic_pair import Pair, SimulatedPath
from test_quic_migration import core, download, got

from fairway.quic import QuicConfiguration
from fairway.quic.recovery.mtu import BASE_SIZE, RAISE_INTERVAL_S, MtuDiscovery

JUMBO = QuicConfiguration(max_udp_payload=9000, handshake_timeout_s=60.0)


class TestSearch:
    @pytest.mark.parametrize("limit", [1200, 1210, 1280, 1400, 1452, 4000, 8999, 9000])
    def test_the_size_is_found_to_twenty_bytes(self, limit: int) -> None:
        search, number = MtuDiscovery(BASE_SIZE, 9000), 0
        while search.due(float(number)):
            size = search.next_size
            assert BASE_SIZE < size <= 9000
            search.sent(number)
            if size <= limit:
                assert search.acknowledged(number, float(number))
            else:
                search.lost(number, float(number))
            number += 1
            assert number < 60
        assert limit - 20 <= search.size <= limit

    def test_one_lost_probe_is_bad_luck(self) -> None:
        search = MtuDiscovery(BASE_SIZE, 1452)
        search.sent(7)
        search.lost(7, 1.0)
        assert search.due(1.0)
        assert search.next_size == 1452

    def test_the_search_is_taken_up_again_after_ten_minutes(self) -> None:
        search = MtuDiscovery(BASE_SIZE, 1452)
        for number in range(60):
            if not search.due(0.0):
                break
            search.sent(number)
            search.lost(number, 0.0)
        assert not search.due(RAISE_INTERVAL_S - 1)
        assert search.due(RAISE_INTERVAL_S)
        assert search.next_size == 1452

    def test_nothing_brings_it_below_the_base(self) -> None:
        search = MtuDiscovery(BASE_SIZE, 1452)
        assert not any(search.large_lost(1.0) for _ in range(20))
        assert search.size == BASE_SIZE


class TestOnAPath:
    @pytest.mark.parametrize("mtu", [1200, 1300, 1452, 5000, 9000])
    def test_packets_grow_to_what_the_path_carries(self, mtu: int) -> None:
        pair = Pair(JUMBO, there=SimulatedPath(delay=0.01, mtu=mtu, rate=2e6, queue=60_000))
        stream_id = download(pair, 3_000_000)
        pair.run(lambda: stream_id in pair.client.ended, limit_s=20)
        assert max(mtu - 20, 1200) <= core(pair.server).path.packet_size <= mtu

    def test_a_small_transfer_looks_for_nothing(self) -> None:
        sizes: list[int] = []
        pair = Pair(JUMBO, there=SimulatedPath(drop=lambda index, data: bool(sizes.append(len(data)))))
        stream_id = download(pair, 10_000)
        pair.run(lambda: stream_id in pair.client.ended)
        assert max(sizes) == 1200

    def test_lost_probes_are_no_congestion(self) -> None:
        paths = {}
        for mtu in (1200, 65535):
            configuration = QuicConfiguration(max_udp_payload=1200 if mtu > 1200 else 9000)
            pair = Pair(configuration, there=SimulatedPath(delay=0.02, mtu=mtu))
            stream_id = download(pair, 2_000_000)
            pair.run(lambda sid=stream_id, pair=pair: sid in pair.client.ended)  # type: ignore[misc]
            paths[mtu] = core(pair.server).path.controller.window
        assert paths[1200] == pytest.approx(paths[65535], rel=0.2)

    def test_a_path_that_carries_less_from_now_on_is_noticed(self) -> None:
        pair = Pair(JUMBO, there=SimulatedPath(delay=0.01, mtu=9000))
        stream_id = download(pair, 20_000_000)
        pair.run(lambda: got(pair, stream_id) > 5_000_000)
        assert core(pair.server).path.packet_size == 9000
        pair.there.mtu = pair.back.mtu = 1400
        pair.run(lambda: stream_id in pair.client.ended, limit_s=60)
        assert 1200 <= core(pair.server).path.packet_size <= 1400

    def test_a_size_that_the_path_never_carried_is_given_up(self) -> None:
        pair = Pair(QuicConfiguration(udp_payload=8900, handshake_timeout_s=60), there=SimulatedPath(mtu=1300))
        stream_id = download(pair, 200_000)
        pair.run(lambda: stream_id in pair.client.ended, limit_s=30)
        assert core(pair.server).path.packet_size <= 1300

    def test_random_loss_is_no_black_hole(self) -> None:
        path = SimulatedPath(delay=0.01, mtu=9000, loss=0.1)
        pair = Pair(JUMBO, there=path, back=SimulatedPath(delay=0.01, mtu=9000, loss=0.1))
        stream_id = download(pair, 5_000_000)
        pair.run(lambda: stream_id in pair.client.ended, limit_s=600)
        assert core(pair.server).path.packet_size > 8000

    def test_another_network_begins_at_the_base_again(self) -> None:
        pair = Pair(JUMBO, there=SimulatedPath(delay=0.01, mtu=9000))
        stream_id = download(pair, 6_000_000)
        pair.run(lambda: got(pair, stream_id) > 3_000_000)
        assert core(pair.server).path.packet_size == 9000
        pair.rebind(("198.51.100.3", 9))
        pair.there.mtu = pair.back.mtu = 1300
        core(pair.client).ping()
        pair.run(lambda: stream_id in pair.client.ended, limit_s=60)
        assert 1200 <= core(pair.server).path.packet_size <= 1300

    def test_the_peers_own_limit_holds(self) -> None:
        pair = Pair(JUMBO, server_configuration=QuicConfiguration(max_udp_payload=1452))
        stream_id = core(pair.client).open_stream()
        assert stream_id is not None
        core(pair.client).write(stream_id, bytes(1_000_000), end=True)
        pair.run(lambda: stream_id in pair.server.ended)
        assert core(pair.client).path.packet_size == 9000  # a receiver takes what arrives, whatever it sends itself
