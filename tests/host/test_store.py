from __future__ import annotations

import sqlite3
from ipaddress import ip_address, ip_network

import pytest

from fairway.net.host.store import PodState, Store
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.pod import Pod, StaticRoute

POD = Pod("demo01", (ip_address("10.0.1.2"), ip_address("fd00::2")), 1500)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    assert store.open() is None
    yield store
    store.close()


def reopened(store):
    other = Store(store.path.parent)
    corrupt = other.open()
    return other, corrupt


def test_what_was_inserted_is_there_after_the_file_is_opened_anew(store):
    store.insert(POD)
    store.set_state("demo01", PodState.PRESENT)
    store.add_pool(ip_network("10.0.0.0/16"))
    store.change_routes([StaticRoute(ip_network("10.1.0.0/16"), ip_address("192.0.2.1"))])
    other, corrupt = reopened(store)
    assert corrupt is None
    (entry,) = other.entries()
    assert (entry.pod, entry.state) == (POD, PodState.PRESENT)
    assert other.entry("demo01") == entry
    assert other.pools() == [ip_network("10.0.0.0/16")]
    assert other.routes() == [StaticRoute(ip_network("10.1.0.0/16"), ip_address("192.0.2.1"))]
    other.close()


def test_an_address_that_is_taken_is_refused_with_its_holders_name_and_nothing_is_kept(store):
    store.insert(POD)
    with pytest.raises(UsageError, match="taken by the pod demo01"):
        store.insert(Pod("demo02", (ip_address("10.0.1.9"), ip_address("10.0.1.2")), 1500))
    assert store.entry("demo02") is None
    assert store.holder(ip_address("10.0.1.9")) == ""


def test_a_freed_address_rests_while_others_are_free(store):
    pool = ip_network("10.0.0.0/29")
    store.add_pool(pool)
    given = []
    for number in range(8):
        address = store.free_address(pool)
        given.append(str(address))
        store.insert(Pod(f"p{number}", (address,), 1500))
        store.delete(f"p{number}")
    assert given == [f"10.0.0.{n}" for n in (1, 2, 3, 4, 5, 6, 1, 2)]


def test_an_exhausted_pool_gives_nothing(store):
    pool = ip_network("10.0.0.0/30")
    store.add_pool(pool)
    for number in range(2):
        store.insert(Pod(f"p{number}", (store.free_address(pool),), 1500))
    assert store.free_address(pool) is None


def test_only_a_pod_that_is_being_removed_is_forgotten_by_the_one_who_removes_it(store):
    store.insert(POD)
    store.forget_removed("demo01")
    assert store.entry("demo01") is not None
    store.set_state("demo01", PodState.REMOVING)
    store.forget_removed("demo01")
    assert store.entry("demo01") is None


@pytest.mark.parametrize("damage", ["garbage", "torn", "bit"])
def test_a_damaged_file_is_kept_aside_and_a_new_one_begun(store, damage):
    store.insert(POD)
    store.close()
    path = store.path
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        data[:] = b"not a database at all" * 100
    elif damage == "torn":
        del data[len(data) // 2 + 100 :]
    else:
        data[0:16] = b"SQLite format 4\0"
    path.write_bytes(data)
    store, corrupt = reopened(store)
    assert corrupt is not None
    assert corrupt.kept.read_bytes() == bytes(data)
    assert str(corrupt.kept) in str(corrupt)
    assert store.entries() == []
    store.insert(POD)
    store.close()


def test_a_file_of_a_later_version_is_refused_and_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "state.db") as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(FairwayError, match="version 99"):
        Store(tmp_path).open()
    assert sqlite3.connect(tmp_path / "state.db").execute("PRAGMA user_version").fetchone() == (99,)


def test_an_empty_file_is_a_new_one(tmp_path):
    (tmp_path / "state.db").touch()
    store = Store(tmp_path)
    assert store.open() is None
    assert store.entries() == []
    store.close()


def test_a_transaction_that_fails_leaves_nothing(store):
    with pytest.raises(RuntimeError), store.transaction():  # noqa: PT012
        store.insert(POD)
        raise RuntimeError
    assert store.entries() == []
