"""Who is let in (`endpoint.admission`): what counts against whom, and when newcomers have to prove their address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quic_pair import CLIENT_ADDRESS, Pair

from fairway.quic import ErrorCode
from fairway.quic import events as ev
from fairway.quic.endpoint.admission import Admission, AdmissionLimits, Decision, place_of
from fairway.quic.limits import (
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ADDRESS,
    MAX_PENDING_HANDSHAKES,
    MAX_PENDING_PER_ADDRESS,
    RETRY_FROM_PENDING,
    RETRY_FROM_PENDING_OF_ADDRESS,
    VERSION_NEGOTIATION_PER_SECOND,
)

HERE, THERE = ("192.0.2.7", 1), ("198.51.100.9", 1)


def several(admission: Admission, count: int, address: tuple[str, int] = HERE, *, proved: bool = False) -> list[object]:
    guests = [object() for _ in range(count)]
    for guest in guests:
        admission.begin(guest, address, proved)
    return guests


def from_many(admission: Admission, count: int, *, proved: bool) -> set[Decision]:
    """So many that come from an address each, and what one more was told each time before."""
    told = set()
    for number in range(count):
        told.add(admission.judge(THERE, proved))
        several(admission, 1, (f"10.0.{number // 200}.{number % 200}", 1), proved=proved)
    return told


class TestRetry:
    def test_it_switches_itself_on_and_off_again(self) -> None:
        admission = Admission(AdmissionLimits(retry_from=4))
        guests = several(admission, 3)
        seen = [admission.judge(THERE, False)]
        guests += several(admission, 1)
        for _ in range(4):
            seen.append(admission.judge(THERE, False))
            admission.forget(guests.pop())
        assert seen == [Decision.ADMIT, Decision.PROVE, Decision.PROVE, Decision.PROVE, Decision.ADMIT]

    def test_only_one_address_has_to_prove_itself_if_only_that_one_floods(self) -> None:
        admission = Admission(AdmissionLimits(retry_from_of_address=4))
        several(admission, 4)
        assert admission.judge(HERE, False) is Decision.PROVE
        assert admission.judge(HERE, True) is Decision.ADMIT
        assert admission.judge(THERE, False) is Decision.ADMIT

    def test_handshakes_without_proof_use_nothing_up_that_those_with_proof_need(self) -> None:
        admission = Admission(AdmissionLimits(retry_from=10, pending=5, pending_per_address=5))
        several(admission, 10)
        assert admission.judge(HERE, True) is Decision.ADMIT

    def test_a_client_whose_handshake_is_complete_no_longer_counts_as_without_proof(self) -> None:
        admission = Admission(AdmissionLimits(retry_from=4))
        for guest in several(admission, 4):
            assert admission.is_pending(guest)
            admission.complete(guest)
            assert not admission.is_pending(guest)
        assert admission.judge(THERE, False) is Decision.ADMIT
        assert admission.pending == 0


class TestLimits:
    def test_all_connections_together(self) -> None:
        admission = Admission(AdmissionLimits(connections=3))
        guests = several(admission, 2) + several(admission, 1, THERE, proved=True)
        assert admission.judge(HERE, True) is admission.judge(HERE, False) is Decision.CONNECTIONS
        admission.forget(guests[0])
        assert admission.judge(HERE, True) is Decision.ADMIT

    def test_of_one_address_those_that_proved_it(self) -> None:
        admission = Admission(AdmissionLimits(connections_per_address=3, retry_from_of_address=50))
        several(admission, 10)  # anybody can pretend to be there
        guests = several(admission, 3)
        assert admission.judge(HERE, False) is Decision.ADMIT
        for guest in guests:
            admission.complete(guest)
        assert admission.judge(HERE, False) is admission.judge(HERE, True) is Decision.ADDRESS
        assert admission.judge(THERE, False) is Decision.ADMIT
        admission.forget(guests[0])
        assert admission.judge(HERE, False) is Decision.ADMIT

    def test_those_that_came_at_once_and_proved_it_together_are_too_many_in_the_end(self) -> None:
        admission = Admission(AdmissionLimits(connections_per_address=3))
        assert [admission.complete(guest) for guest in several(admission, 5)] == [True] * 3 + [False] * 2

    def test_handshakes_that_one_proved_address_leaves_open(self) -> None:
        admission = Admission(AdmissionLimits(pending=6, pending_per_address=3))
        several(admission, 3, proved=True)
        assert admission.judge(HERE, True) is Decision.ADDRESS
        assert admission.judge(THERE, True) is Decision.ADMIT
        several(admission, 3, THERE, proved=True)
        assert admission.judge(("203.0.113.1", 1), True) is Decision.HANDSHAKES

    @given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from(["begin", "complete", "forget"]))))
    def test_whatever_happens_nothing_is_left_once_all_are_forgotten(self, story: list[tuple[int, bool, str]]) -> None:
        admission = Admission(AdmissionLimits(connections=1, connections_per_address=1, retry_from=1))
        guests: list[object] = []
        for place, proved, what in story:
            if what == "begin":
                guests += several(admission, 1, (f"192.0.2.{place}", 1), proved=proved)
            elif what == "complete" and guests and admission.is_pending(guests[0]):
                admission.complete(guests[0])
            elif what == "forget" and guests:
                admission.forget(guests.pop())
        for guest in guests:
            admission.forget(guest)
        assert admission.pending == 0
        for place in range(4):
            assert admission.judge((f"192.0.2.{place}", 1), False) is Decision.ADMIT


class TestDefaults:
    """Who gives no limits is guarded all the same."""

    def test_unproved_handshakes_of_one_address(self) -> None:
        admission = Admission()
        several(admission, RETRY_FROM_PENDING_OF_ADDRESS - 1)
        assert admission.judge(HERE, False) is Decision.ADMIT
        several(admission, 1)
        assert admission.judge(HERE, False) is Decision.PROVE
        assert admission.judge(THERE, False) is Decision.ADMIT

    def test_unproved_handshakes_in_all(self) -> None:
        admission = Admission()
        assert from_many(admission, RETRY_FROM_PENDING, proved=False) == {Decision.ADMIT}
        assert admission.judge(THERE, False) is Decision.PROVE

    def test_handshakes_that_one_proved_address_leaves_open(self) -> None:
        admission = Admission()
        several(admission, MAX_PENDING_PER_ADDRESS - 1, proved=True)
        assert admission.judge(HERE, True) is Decision.ADMIT
        several(admission, 1, proved=True)
        assert admission.judge(HERE, True) is Decision.ADDRESS
        assert admission.judge(THERE, True) is Decision.ADMIT

    def test_handshakes_that_proved_addresses_leave_open(self) -> None:
        admission = Admission()
        assert from_many(admission, MAX_PENDING_HANDSHAKES, proved=True) == {Decision.ADMIT}
        assert admission.judge(HERE, True) is Decision.HANDSHAKES

    def test_connections_of_one_address(self) -> None:
        admission = Admission()
        for guest in several(admission, MAX_CONNECTIONS_PER_ADDRESS - 1, proved=True):
            admission.complete(guest)
        assert admission.judge(HERE, False) is Decision.ADMIT
        for guest in several(admission, 1, proved=True):
            admission.complete(guest)
        assert admission.judge(HERE, False) is Decision.ADDRESS
        assert admission.judge(THERE, False) is Decision.ADMIT

    def test_connections_in_all(self) -> None:
        admission = Admission()
        for number in range(MAX_CONNECTIONS):
            guest = object()
            admission.begin(guest, (f"h{number}", 1), True)
            admission.complete(guest)
            if number == MAX_CONNECTIONS - 2:
                assert admission.judge(THERE, True) is Decision.ADMIT
        assert admission.judge(THERE, True) is Decision.CONNECTIONS

    def test_answers_to_strangers(self) -> None:
        admission = Admission()
        assert sum(admission.may_answer(1.0) for _ in range(1000)) == VERSION_NEGOTIATION_PER_SECOND


class TestPlaces:
    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("192.0.2.7", "192.0.2.7", True),
            ("192.0.2.7", "192.0.2.8", False),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
            ("fe80::1%eth0", "fe80::2%eth0", True),
            ("::ffff:192.0.2.7", "::ffff:192.0.2.8", False),
            ("::ffff:192.0.2.7", "192.0.2.7", True),
            ("/run/somewhere", "/run/elsewhere", False),
        ],
    )
    def test_an_ipv6_host_has_all_of_its_64_bits(self, one: str, other: str, same: bool) -> None:
        assert (place_of((one, 1)) == place_of((other, 2, 0, 0))) is same


class TestEndpoint:
    def test_who_comes_from_an_address_that_has_too_many_is_told(self) -> None:
        pair = Pair(limits=AdmissionLimits(connections_per_address=1))
        second = Pair(endpoint=pair.endpoint, now=pair.now, seed=5, connect=False)
        second.run(lambda: bool(second.client.of(ev.ConnectionTerminated)), limit_s=5.0)
        assert second.client.core is not None
        assert second.client.core.closing is not None
        assert second.client.core.closing.code == ErrorCode.CONNECTION_REFUSED
        assert pair.endpoint.statistics.refused == {"address": 1}
        assert len(pair.endpoint) == 1
        third = Pair(endpoint=pair.endpoint, now=pair.now, seed=6, connect=False)
        third.links[None].address = (CLIENT_ADDRESS[0] + "1", 5)
        third.run(lambda: bool(third.client.of(ev.HandshakeCompleted)))
        assert len(pair.endpoint) == 2

    def test_who_came_before_the_others_were_complete_is_told_when_it_is(self) -> None:
        first = Pair(limits=AdmissionLimits(connections_per_address=1), connect=False)
        second = Pair(endpoint=first.endpoint, now=first.now, seed=5, connect=False)
        first.settle()
        second.settle()
        for pair in (first, second):
            pair.step()
        first.run(lambda: first.connected)
        second.run(lambda: bool(second.client.of(ev.ConnectionTerminated)), limit_s=5.0)
        assert second.client.of(ev.HandshakeCompleted)
        assert second.client.core is not None
        assert second.client.core.closing is not None
        assert second.client.core.closing.code == ErrorCode.CONNECTION_REFUSED
        assert first.client.core is not None
        assert first.client.core.closing is None
