"""Addresses given, resting, kept and given again."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from fairway.net.host.store import Store
from fairway.net.model.errors import ExhaustedError, UsageError
from fairway.net.model.pod import Pod
from fairway.net.model.pool import Pool, PoolUse


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    store = Store(tmp_path, clock)
    store.open()
    yield store
    store.close()


def give(store, name, *pools, sticky=""):
    with store.transaction(durable=False):
        address = store.addresses.choose(pools, sticky)
        store.insert(Pod(name, (address,), 1500), sticky=sticky)
    return str(address)


def pool_in(store, block, **fields):
    pool = Pool(ip_network(block), **fields)
    store.addresses.add_pool(pool)
    return pool


def test_a_freed_address_rests_while_others_were_never_given(store):
    pool = pool_in(store, "10.0.0.0/29")
    given = []
    for number in range(8):
        given.append(give(store, f"p{number}", pool))
        store.delete(f"p{number}")
    assert given == [f"10.0.0.{n}" for n in (1, 2, 3, 4, 5, 6, 1, 2)]


def test_an_address_that_rests_is_given_only_when_no_other_pool_has_one_that_does_not(store, clock):
    first, second = pool_in(store, "10.0.0.0/30"), pool_in(store, "10.0.1.0/30")
    for name in ("a", "b"):
        give(store, name, first, second)
    store.delete("a")
    clock.now += 59
    assert give(store, "c", first, second) == "10.0.1.1"
    clock.now += 1
    assert give(store, "d", first, second) == "10.0.0.1", "it has rested a minute"
    assert give(store, "e", first, second) == "10.0.1.2"
    store.delete("b")
    assert give(store, "f", first, second) == "10.0.0.2", "a pod that can be had is worth more than the rest"


def test_how_long_an_address_rests_is_the_pools_to_say_and_outlives_the_program(store, clock, tmp_path):
    first, second = pool_in(store, "10.0.0.0/32", cooldown_s=300), pool_in(store, "10.0.1.0/31")
    give(store, "a", first, second)
    store.delete("a")
    clock.now += 299
    other = Store(tmp_path, clock)
    other.open()
    assert give(other, "b", first, second) == "10.0.1.0"
    clock.now += 1
    assert give(other, "c", first, second) == "10.0.0.0"
    other.close()


def test_a_clock_that_is_set_back_or_forth_keeps_no_address_from_being_given(store, clock):
    pool = pool_in(store, "10.0.0.0/32")
    for jump in (-86_400, 2 * 86_400, -1):
        give(store, "a", pool)
        store.delete("a")
        clock.now += jump


def test_an_exhausted_pool_is_an_error_with_its_name_and_the_counts_say_so(store):
    pool = pool_in(store, "10.0.0.0/30", name="small")
    give(store, "a", pool)
    assert store.addresses.statistics() == [PoolUse(pool, 2, 1)]
    give(store, "b", pool)
    with pytest.raises(ExhaustedError, match="every address of the pool small is taken") as caught:
        give(store, "c", pool)
    assert caught.value.pools == ("small",)
    assert store.addresses.statistics() == [PoolUse(pool, 2, 2)]
    store.delete("a")
    assert give(store, "c", pool) == "10.0.0.1"
    assert store.addresses.statistics() == [PoolUse(pool, 2, 2)]


def test_an_address_of_ones_own_choice_is_never_given_to_another(store):
    pool = pool_in(store, "10.0.0.0/29")
    store.insert(Pod("own", (ip_address("10.0.0.2"),), 1500))
    assert [give(store, f"p{n}", pool) for n in range(5)] == [f"10.0.0.{n}" for n in (1, 3, 4, 5, 6)]
    with pytest.raises(UsageError, match="taken by the pod p0"):
        store.insert(Pod("other", (ip_address("10.0.0.1"),), 1500))
    store.delete("own")
    store.insert(Pod("other", (ip_address("10.0.0.2"),), 1500))
    with pytest.raises(ExhaustedError):
        give(store, "late", pool)


def test_whoever_gives_the_same_words_gets_the_same_address_again(store, clock):
    pool = pool_in(store, "10.0.0.0/29")
    assert give(store, "a", pool, sticky="ns/db-0") == "10.0.0.1"
    store.delete("a")
    for number in range(5):
        give(store, f"p{number}", pool)
    assert give(store, "b", pool, sticky="ns/db-0") == "10.0.0.1"
    store.delete("b")
    clock.now += 3600
    assert give(store, "c", pool, sticky="ns/db-0") == "10.0.0.1"


def test_what_is_kept_goes_to_others_when_nothing_else_is_left(store):
    pool = pool_in(store, "10.0.0.0/30")
    give(store, "a", pool, sticky="key")
    give(store, "b", pool)
    store.delete("a")
    store.delete("b")
    assert give(store, "c", pool) == "10.0.0.2", "it has not rested, but nobody else is to have it"
    assert give(store, "d", pool) == "10.0.0.1"
    with pytest.raises(ExhaustedError):
        give(store, "e", pool, sticky="key")


def test_what_is_kept_is_as_free_as_any_after_a_day(store, clock):
    pool, other = pool_in(store, "10.0.0.0/30"), pool_in(store, "10.1.0.0/30")
    give(store, "a", pool, sticky="key")
    give(store, "b", pool)
    store.delete("a")
    clock.now += 86_401
    give(store, "c", other)
    store.delete("c")
    assert give(store, "d", pool, other) == "10.0.0.1"


def test_two_with_the_same_words_at_once_get_two_addresses_and_the_last_is_kept(store):
    pool = pool_in(store, "10.0.0.0/29")
    assert give(store, "old", pool, sticky="key") == "10.0.0.1"
    assert give(store, "new", pool, sticky="key") == "10.0.0.2"
    store.delete("old")
    store.delete("new")
    assert give(store, "newer", pool, sticky="key") == "10.0.0.2"


def test_a_kept_address_of_a_pool_that_is_not_for_the_pod_any_more_is_not_given(store):
    first, second = pool_in(store, "10.0.0.0/29"), pool_in(store, "10.1.0.0/29")
    give(store, "a", first, sticky="key")
    store.delete("a")
    assert give(store, "b", second, sticky="key") == "10.1.0.1"


def test_a_pool_that_is_added_knows_the_addresses_that_pods_have_of_it_already(store):
    store.insert(Pod("a", (ip_address("10.0.0.1"), ip_address("fd00::1")), 1500))
    pool = pool_in(store, "10.0.0.0/30")
    assert store.addresses.statistics() == [PoolUse(pool, 2, 1)]
    assert give(store, "b", pool) == "10.0.0.2"
    store.delete("a")
    assert store.addresses.statistics() == [PoolUse(pool, 2, 1)]


def test_an_ipv6_pools_queue_of_resting_addresses_does_not_grow_for_ever(store, clock, monkeypatch):
    monkeypatch.setattr("fairway.net.host.addresses._FRESH_FIRST", 10)
    pool = pool_in(store, "fd00::/64")
    for number in range(50):
        give(store, f"p{number}", pool)
        store.delete(f"p{number}")
        clock.now += 20
    ((resting,),) = store.rows("SELECT count(*) FROM resting")
    assert resting < 15


class TestCost:
    """Counted in steps of SQLite's own machine and in queries, which no noise moves."""

    TAKEN = 60_000

    @pytest.fixture
    def crowded(self, store):
        """A /16 of which 60,000 addresses are taken, one behind the other."""
        pool = pool_in(store, "10.0.0.0/16")
        with store.transaction(durable=False) as database:
            rows = [(f"p{n}", 1500, "present", f"l{n}") for n in range(self.TAKEN)]
            database.executemany("INSERT INTO pods (name, mtu, state, link) VALUES (?, ?, ?, ?)", rows)
            addresses = [(str(pool.block[n + 1]), f"p{n}", 0, str(pool.block), "") for n in range(self.TAKEN)]
            database.executemany("INSERT INTO addresses VALUES (?, ?, ?, ?, ?)", addresses)
            database.execute("UPDATE pools SET taken = ?, last = ?", (self.TAKEN, self.TAKEN))
        return pool

    @staticmethod
    def steps(store, work):
        count = 0

        def step():
            nonlocal count
            count += 1

        with store.transaction(durable=False) as database:
            database.set_progress_handler(step, 1)
            work()
            database.set_progress_handler(None, 1)
        return count

    def test_of_an_address_does_not_grow_with_those_that_are_taken(self, store, crowded):
        alone = pool_in(store, "10.1.0.0/16")
        few = self.steps(store, lambda: give(store, "one", alone))
        many = self.steps(store, lambda: give(store, "other", crowded))
        assert many <= few * 1.1

    def test_of_an_address_that_has_rested_does_not_grow_either(self, store, crowded, clock):
        with store.transaction(durable=False) as database:
            database.execute("UPDATE pools SET last = 65534")
        for number in range(100):
            store.delete(f"p{number * 7}")
        clock.now += 61
        assert self.steps(store, lambda: give(store, "other", crowded)) < 1000

    def test_of_a_removal_and_of_the_statistics_does_not_grow(self, store, crowded):
        assert self.steps(store, lambda: store.delete("p77")) < 1000
        assert self.steps(store, store.addresses.statistics) < 200

    def test_of_finding_that_a_pool_is_exhausted_does_not_grow(self, store, crowded):
        with store.transaction(durable=False) as database:
            database.execute("UPDATE pools SET last = 65534, taken = 65534")

        def refused():
            with pytest.raises(ExhaustedError):
                store.addresses.choose([crowded])

        assert self.steps(store, refused) < 1000
