from __future__ import annotations

import contextlib
import sqlite3
from ipaddress import ip_address, ip_network

import pytest

from fairway.net.host import schema
from fairway.net.host.store import PodState, Store
from fairway.net.model.attachment import Attachment, GivenNamespace, Kubernetes
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.names import host_interface
from fairway.net.model.pod import Pod, StaticRoute
from fairway.net.model.pool import Pool, PoolUse

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
    store.addresses.add_pool(Pool(ip_network("10.0.0.0/16")))
    store.change_routes([StaticRoute(ip_network("10.1.0.0/16"), ip_address("192.0.2.1"))])
    other, corrupt = reopened(store)
    assert corrupt is None
    (entry,) = other.entries()
    assert (entry.pod, entry.state) == (POD, PodState.PRESENT)
    assert other.entry("demo01") == entry
    assert other.addresses.pools() == [Pool(ip_network("10.0.0.0/16"))]
    assert other.routes() == [StaticRoute(ip_network("10.1.0.0/16"), ip_address("192.0.2.1"))]
    other.close()


def test_an_address_that_is_taken_is_refused_with_its_holders_name_and_nothing_is_kept(store):
    store.insert(POD)
    with pytest.raises(UsageError, match="taken by the pod demo01"):
        store.insert(Pod("demo02", (ip_address("10.0.1.9"), ip_address("10.0.1.2")), 1500))
    assert store.entry("demo02") is None
    assert store.addresses.holder(ip_address("10.0.1.9")) == ""


def test_only_a_pod_that_is_being_removed_is_forgotten_by_the_one_who_removes_it(store):
    store.insert(POD)
    store.forget_removed(["demo01"])
    assert store.entry("demo01") is not None
    store.set_state("demo01", PodState.REMOVING)
    store.forget_removed(["demo01"])
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


def test_versions_of_what_the_node_announces_are_kept(tmp_path):
    one, six = ip_network("10.0.0.9/32"), ip_network("fd00::9/128")
    store = Store(tmp_path)
    store.open()
    store.change_own_versions({one: 3, six: 1}, ())
    store.change_own_versions({one: 4}, (six,))
    store.close()
    store = Store(tmp_path)
    store.open()
    assert store.own_versions() == {one: 4}
    store.close()


def test_a_file_of_a_later_version_is_refused_and_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "state.db") as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(FairwayError, match="version 99"):
        Store(tmp_path).open()
    assert sqlite3.connect(tmp_path / "state.db").execute("PRAGMA user_version").fetchone() == (99,)


FIRST_VERSION = """
CREATE TABLE pods (name TEXT PRIMARY KEY, mtu INTEGER NOT NULL, state TEXT NOT NULL) STRICT;
CREATE TABLE addresses (address TEXT PRIMARY KEY, pod TEXT NOT NULL REFERENCES pods, position INTEGER NOT NULL) STRICT;
CREATE INDEX addresses_of_pod ON addresses (pod, position);
CREATE TABLE pools (network TEXT PRIMARY KEY, last INTEGER NOT NULL, position INTEGER NOT NULL) STRICT;
CREATE TABLE ground (times_removed INTEGER NOT NULL) STRICT;
CREATE TABLE routes (destination TEXT PRIMARY KEY, gateway TEXT NOT NULL) STRICT;
INSERT INTO ground VALUES (3);
INSERT INTO pods VALUES ('demo01', 1500, 'present'), ('a-name-that-is-long', 1400, 'removing');
INSERT INTO addresses VALUES ('10.0.1.2', 'demo01', 0), ('fd00::2', 'demo01', 1);
INSERT INTO pools VALUES ('10.0.0.0/16', 258, 1), ('fd00::/64', 2, 2);
INSERT INTO routes VALUES ('10.1.0.0/16', '192.0.2.1');
PRAGMA user_version = 1;
"""


def test_a_file_of_the_first_version_is_brought_up_to_date_with_all_that_is_in_it(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as database:
        database.executescript(FIRST_VERSION)
    store = Store(tmp_path)
    assert store.open() is None
    assert [(each.pod, each.state) for each in store.entries()] == [
        (Pod("a-name-that-is-long", (), 1400), PodState.REMOVING),
        (POD, PodState.PRESENT),
    ]
    assert store.addresses.holder(ip_address("fd00::2")) == "demo01"
    assert store.link_holder(host_interface("a-name-that-is-long")) == "a-name-that-is-long"
    pools = [Pool(ip_network("10.0.0.0/16")), Pool(ip_network("fd00::/64"))]
    assert store.addresses.statistics() == [PoolUse(pools[0], 65534, 1), PoolUse(pools[1], 2**64 - 1, 1)]
    assert store.addresses.choose(pools[:1]) == ip_address("10.0.0.1")
    assert store.routes() == [StaticRoute(ip_network("10.1.0.0/16"), ip_address("192.0.2.1"))]
    assert store.ground_generation() == 3
    store.close()


def test_bringing_up_to_date_that_is_cut_off_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as database:
        database.executescript(FIRST_VERSION)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "_STEPS", (*schema._STEPS[:1], schema._STEPS[1] + "; nonsense"))
        with pytest.raises(FairwayError):
            Store(tmp_path).open()
    store = Store(tmp_path)
    assert store.open() is None
    assert len(store.entries()) == 2
    store.close()


ATTACHED = Pod(
    "c1/eth0",
    (ip_address("10.0.1.2"),),
    1500,
    mac="0a:00:00:00:00:01",
    outside="fwy-other",
    default_route=False,
    attachment=Attachment("c1", "net", GivenNamespace("/run/netns/x", 4, 5, "b"), Kubernetes("ns", "p", {"a": "b"})),
)


def test_an_attachment_is_there_with_all_that_is_known_of_it_after_the_file_is_opened_anew(store):
    store.insert(ATTACHED, config="{}")
    store.finish(ATTACHED.name, "result")
    other, _ = reopened(store)
    assert other.entry(ATTACHED.name).pod == ATTACHED
    assert other.texts(ATTACHED.name) == ("{}", "result")
    assert [each.pod.name for each in other.entries_of_container("c")] == [ATTACHED.name]
    assert other.entries_of_container("c1/eth1") == other.entries_of_container("") == []
    other.delete(ATTACHED.name)
    assert other.entries() == []
    other.insert(ATTACHED)
    other.close()


def test_two_pods_with_one_interface_on_the_host_are_refused(store):
    store.insert(ATTACHED)
    with pytest.raises(UsageError, match="fwy-other is the pod c1/eth0's"):
        store.insert(Pod("other", (), 1500))
    assert store.entry("other") is None


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


@pytest.mark.parametrize(
    ("found", "flipped"),
    [(b"10.0.1.2", b"10.0.1.3"), (b"present", b"pre3ent"), (b"10.9.0.0/16", b"10.9.p.0/16"), (b'"a":"b"', b'"a":"c"')],
)
def test_a_bit_that_was_flipped_in_what_is_written_is_as_good_as_a_damaged_file(store, found, flipped):
    store.insert(ATTACHED)
    store.finish(ATTACHED.name, "")
    store.addresses.add_pool(Pool(ip_network("10.9.0.0/16")))
    store.close()
    data = store.path.read_bytes()
    assert found in data
    store.path.write_bytes(data.replace(found, flipped))
    other, corrupt = reopened(store)
    assert corrupt is not None
    assert corrupt.kept.exists()
    assert other.entries() == []
    other.close()


def test_a_file_that_was_brought_up_to_date_is_sealed(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as database:
        database.executescript(FIRST_VERSION)
    store = Store(tmp_path)
    store.open()
    assert all(seal for (seal,) in store.rows("SELECT seal FROM pods"))
    store.close()
