from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.net.ipam import candidates, check_pool, pool_of
from fairway.net.ipam.allocator import capacity
from fairway.net.model.errors import UsageError

POOLS = st.integers(0, 6).map(lambda bits: ip_network(f"10.0.0.0/{32 - bits}"))


@given(POOLS, st.integers(-1, 70))
def test_every_address_a_pod_may_have_is_offered_once_wherever_the_search_begins(pool, after):
    offered = [address for _, address in candidates(pool, after)]
    assert len(offered) == len(set(offered)) == capacity(pool)
    assert all(pool_of([pool], address) == pool for address in offered)


def test_the_search_goes_on_behind_the_last_given_and_wraps():
    pool = ip_network("10.0.0.0/29")
    assert [str(a) for _, a in candidates(pool, 4)] == ["10.0.0.5", "10.0.0.6", *(f"10.0.0.{n}" for n in (1, 2, 3, 4))]


def test_network_and_broadcast_addresses_and_the_routers_anycast_are_not_given():
    assert str(next(candidates(ip_network("10.0.0.0/24")))[1]) == "10.0.0.1"
    assert str(next(candidates(ip_network("fd00::/64")))[1]) == "fd00::1"
    for text, pools in (("10.0.0.0", "10.0.0.0/24"), ("10.0.0.255", "10.0.0.0/24"), ("fd00::", "fd00::/64")):
        with pytest.raises(UsageError, match="first or last"):
            pool_of([ip_network(pools)], ip_address(text))


def test_a_huge_pool_costs_no_more_than_what_is_taken_from_it():
    assert len(list(islice(candidates(ip_network("fd00::/8"), 2**60), 3))) == 3


def test_an_address_outside_every_pool_is_an_error_that_names_the_pools():
    with pytest.raises(UsageError, match=r"10\.9\.9\.9 is outside every pool.*10\.0\.0\.0/24"):
        pool_of([ip_network("10.0.0.0/24")], ip_address("10.9.9.9"))


@pytest.mark.parametrize("text", ["169.254.0.0/24", "fe80::/64", "127.0.0.0/8", "224.0.0.0/24"])
def test_a_pool_that_pods_cannot_live_in_is_refused(text):
    with pytest.raises(UsageError):
        check_pool(ip_network(text), [])


def test_pools_may_not_overlap():
    with pytest.raises(UsageError, match="overlaps"):
        check_pool(ip_network("10.0.0.0/16"), [ip_network("10.0.1.0/24")])
    check_pool(ip_network("10.0.0.0/16"), [ip_network("10.1.0.0/16"), ip_network("fd00::/64")])
