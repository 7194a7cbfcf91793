from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.net.ipam import ahead, capacity, check_pool, pool_of
from fairway.net.model.errors import UsageError
from fairway.net.model.pool import Pool

POOLS = st.integers(0, 6).map(lambda bits: ip_network(f"10.0.0.0/{32 - bits}"))


@given(POOLS, st.integers(-1, 70))
def test_every_address_a_pod_may_have_is_offered_once_and_those_before_a_mark_never(pool, after):
    offered = [address for _, address in ahead(pool)]
    assert len(offered) == len(set(offered)) == capacity(pool)
    assert all(pool_of([pool], address) == pool for address in offered)
    assert [a for _, a in ahead(pool, after)] == [a for a in offered if int(a) - int(pool[0]) > after]


def test_network_and_broadcast_addresses_and_the_routers_anycast_are_not_given():
    assert str(next(ahead(ip_network("10.0.0.0/24")))[1]) == "10.0.0.1"
    assert str(next(ahead(ip_network("fd00::/64")))[1]) == "fd00::1"
    for text, pools in (("10.0.0.0", "10.0.0.0/24"), ("10.0.0.255", "10.0.0.0/24"), ("fd00::", "fd00::/64")):
        with pytest.raises(UsageError, match="first or last"):
            pool_of([ip_network(pools)], ip_address(text))


def test_a_huge_pool_costs_no_more_than_what_is_taken_from_it():
    assert len(list(islice(ahead(ip_network("fd00::/8"), 2**60), 3))) == 3


def test_an_address_outside_every_pool_is_an_error_that_names_the_pools():
    with pytest.raises(UsageError, match=r"10\.9\.9\.9 is outside every pool.*10\.0\.0\.0/24"):
        pool_of([ip_network("10.0.0.0/24")], ip_address("10.9.9.9"))


@pytest.mark.parametrize("text", ["169.254.0.0/24", "fe80::/64", "127.0.0.0/8", "224.0.0.0/24"])
def test_a_pool_that_pods_cannot_live_in_is_refused(text):
    with pytest.raises(UsageError):
        check_pool(Pool(ip_network(text)), [])


def test_pools_may_not_overlap():
    with pytest.raises(UsageError, match="overlaps"):
        check_pool(Pool(ip_network("10.0.0.0/16")), [ip_network("10.0.1.0/24")])
    check_pool(Pool(ip_network("10.0.0.0/16")), [ip_network("10.1.0.0/16"), ip_network("fd00::/64")])


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (Pool(ip_network("10.0.0.0/24"), "-x"), "name"),
        (Pool(ip_network("10.0.0.0/24"), whole=ip_network("10.1.0.0/16")), "not a part"),
        (Pool(ip_network("10.0.0.0/24"), whole=ip_network("fd00::/16")), "not a part"),
        (Pool(ip_network("10.0.0.0/24"), networks=frozenset({"a b"})), "blanks"),
        (Pool(ip_network("10.0.0.0/24"), cooldown_s=-1), "rest"),
    ],
)
def test_a_pool_that_is_described_wrongly_is_refused(pool, words):
    with pytest.raises(UsageError, match=words):
        check_pool(pool, [])


def test_a_pool_may_be_a_block_of_a_network():
    pool = Pool(ip_network("10.0.3.0/24"), "main", ip_network("10.0.0.0/16"))
    assert check_pool(pool, []) == pool
