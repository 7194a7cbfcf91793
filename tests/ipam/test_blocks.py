from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.net.ipam import free_block
from fairway.net.model.errors import ExhaustedError, UsageError

WHOLE = ip_network("10.0.0.0/16")


@given(st.lists(st.tuples(st.integers(24, 32), st.integers(0, 255)), max_size=40))
def test_a_block_overlaps_none_that_is_taken_and_is_the_first_such(places):
    taken = [ip_network((int(WHOLE[0]) + number * 256, length)) for length, number in places]
    block = free_block(WHOLE, 24, taken)
    assert block.subnet_of(WHOLE)
    assert not any(block.overlaps(other) for other in taken)
    earlier = (int(block[0]) - int(WHOLE[0])) // 256
    assert all(any(ip_network((int(WHOLE[0]) + n * 256, 24)).overlaps(t) for t in taken) for n in range(earlier))


def test_blocks_run_out_with_an_error_that_says_so():
    halves = list(WHOLE.subnets(new_prefix=17))
    assert free_block(WHOLE, 17, halves[:1]) == halves[1]
    with pytest.raises(ExhaustedError, match=r"every /17 of 10\.0\.0\.0/16"):
        free_block(WHOLE, 17, halves)


def test_a_huge_network_costs_no_more_than_what_is_taken():
    assert free_block(ip_network("fd00::/8"), 64, [ip_network("fd00::/9")]) == ip_network("fd80::/64")
    assert free_block(WHOLE, 24, [ip_network("fd00::/9")]) == ip_network("10.0.0.0/24")


def test_a_length_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="no blocks of /8"):
        free_block(WHOLE, 8, [])
