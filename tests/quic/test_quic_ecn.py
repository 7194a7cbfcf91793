"""Explicit congestion notification: counted, validated, heeded, and given up where it cannot be true."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from quic_pair import Pair, SimulatedPath
from test_quic_migration import core, download, got

from fairway.quic import QuicConfiguration
from fairway.quic.recovery.ecn import CE, ECT_0, ECT_1, NOT_ECT, Ecn
from fairway.quic.recovery.sent import Run


def marks(there: Callable[[int], int], configuration: QuicConfiguration | None = None) -> list[int]:
    """The marks that a server puts on a download, where the network does `there` with them."""
    seen: list[int] = []

    def pass_on(mark: int) -> int:
        seen.append(mark)
        return there(mark)

    back = SimulatedPath(delay=0.01, rate=2e6)
    back.mark = pass_on
    pair = Pair(configuration, there=SimulatedPath(delay=0.01), back=back)
    stream_id = download(pair, 500_000)
    pair.run(lambda: stream_id in pair.client.ended)
    return seen


class TestValidation:
    def test_a_path_that_keeps_marks_gets_them_on_every_packet(self) -> None:
        assert len(marks(lambda mark: mark)) > 300

    @pytest.mark.parametrize("there", [lambda mark: NOT_ECT, lambda mark: ECT_1], ids=["cleared", "changed"])
    def test_a_path_that_spoils_marks_gets_no_more(self, there: Callable[[int], int]) -> None:
        assert len(marks(there)) < 60

    def test_what_a_client_asks_before_its_handshake_is_confirmed_is_marked(self) -> None:
        """Whoever then only receives sends nothing more that would be acknowledged, and its marks counted."""
        assert self.asked_at_once(SimulatedPath(delay=0.01)) == 1

    def test_packets_that_are_kept_for_their_keys_keep_their_marks(self) -> None:
        """The Finished is lost, and what was asked behind it waits for it."""
        lost: list[bytes] = []

        def drop(index: int, datagram: bytes) -> bool:
            if index > 1 and datagram[0] & 0x80 and not lost:
                lost.append(datagram)
                return True
            return False

        assert self.asked_at_once(SimulatedPath(delay=0.01, drop=drop)) == 1
        assert lost

    def asked_at_once(self, there: SimulatedPath) -> float:
        """Whether the client's packets are marked in the end, if it asks as soon as it can."""
        pair = Pair(there=there, back=SimulatedPath(delay=0.01), connect=False)
        asked: list[int] = []

        def ask() -> None:
            if not asked and pair.client.core is not None and pair.client.core.handshake_complete:
                stream_id = pair.client.core.open_stream()
                assert stream_id is not None
                pair.client.core.write(stream_id, bytes(5_000), end=True)
                asked.append(stream_id)

        pair.on_turn = ask
        pair.run(lambda: asked != [] and asked[0] in pair.server.ended)
        pair.run_for(1.0)
        return core(pair.client).statistics()["ecn_capable"]

    def test_who_does_not_want_it_marks_nothing(self) -> None:
        assert not marks(lambda mark: mark, QuicConfiguration(ecn=False))

    def test_a_path_that_drops_marked_packets_is_still_used(self) -> None:
        back = SimulatedPath(delay=0.01)
        pair = Pair(there=SimulatedPath(delay=0.01), back=back)
        dropping = False

        def look(mark: int) -> int:
            nonlocal dropping
            dropping = True
            return mark

        def drop(index: int, data: bytes) -> bool:
            nonlocal dropping
            marked, dropping = dropping, False
            return marked

        back.mark, back.drop = look, drop
        stream_id = download(pair, 100_000)
        pair.run(lambda: stream_id in pair.client.ended, limit_s=20)


class TestCongestion:
    def test_marks_of_congestion_shrink_the_window_without_a_loss(self) -> None:
        back = SimulatedPath(delay=0.01, rate=5e6)
        pair = Pair(there=SimulatedPath(delay=0.01), back=back)
        stream_id = download(pair, 10_000_000)
        pair.run(lambda: got(pair, stream_id) > 1_000_000)
        before = core(pair.server).path.controller.window
        back.mark = lambda mark: CE
        pair.run_for(0.4)
        back.mark = lambda mark: mark
        assert core(pair.server).path.controller.window < 0.8 * before
        assert back.lost == 0
        pair.run(lambda: stream_id in pair.client.ended)

    def test_a_new_path_is_tried_anew(self) -> None:
        pair = Pair(there=SimulatedPath(delay=0.01), back=SimulatedPath(delay=0.01, rate=2e6))
        seen: list[int] = []
        stream_id = download(pair, 2_000_000)
        pair.run(lambda: got(pair, stream_id) > 500_000)
        pair.rebind(("198.51.100.1", 5))
        core(pair.client).ping()
        pair.run(lambda: core(pair.server).path.address == ("198.51.100.1", 5))
        pair.back.mark = lambda mark: seen.append(mark) or mark
        pair.run(lambda: stream_id in pair.client.ended)
        assert len(seen) > 300


class TestLies:  # attack 29
    def acked(self, first: int, count: int) -> list[Run]:
        return [Run(first, count, 1200, 1.0)]

    @pytest.mark.parametrize(
        "counts",
        [None, (0, 0, 0), (4, 0, 0), (3, 0, 1), (5, 1, 0), (11, 0, 0), (6, 0, 5), (1 << 61, 0, 0)],
        ids=["none", "nothing", "too few", "too few, some CE", "ECT(1)", "more than sent", "more with CE", "absurd"],
    )
    def test_29_counts_that_cannot_be_end_it(self, counts: tuple[int, int, int] | None) -> None:
        ecn = Ecn()
        assert ecn.mark(0, 10) == ECT_0
        assert not ecn.on_ack(self.acked(0, 5), counts, newer=True)
        assert ecn.failed
        assert ecn.mark(10, 10) == NOT_ECT

    def test_29_counts_that_shrink_end_it(self) -> None:
        ecn = Ecn()
        ecn.mark(0, 10)
        ecn.on_ack(self.acked(0, 5), (7, 0, 0), newer=True)
        assert ecn.capable
        ecn.on_ack(self.acked(5, 1), (5, 0, 3), newer=True)
        assert ecn.failed

    def test_29_an_older_acknowledgement_proves_nothing(self) -> None:
        ecn = Ecn()
        ecn.mark(0, 10)
        assert not ecn.on_ack(self.acked(0, 5), (0, 0, 5), newer=False)
        assert not ecn.failed

    def test_29_who_claims_congestion_gets_less_and_nothing_else(self) -> None:
        ecn = Ecn()
        ecn.mark(0, 10)
        assert ecn.on_ack(self.acked(0, 10), (0, 0, 10), newer=True)
        assert not ecn.failed
