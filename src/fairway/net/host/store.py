"""What must outlive the program: pods and their addresses, pools, routes written by hand. SQLite, durable at commit."""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from fairway.net.ipam import candidates
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.pod import Pod, StaticRoute

_VERSION = 1
_BUSY_S = 60.0
_SCHEMA = """
CREATE TABLE pods (name TEXT PRIMARY KEY, mtu INTEGER NOT NULL, state TEXT NOT NULL) STRICT;
CREATE TABLE addresses (address TEXT PRIMARY KEY, pod TEXT NOT NULL REFERENCES pods, position INTEGER NOT NULL) STRICT;
CREATE INDEX addresses_of_pod ON addresses (pod, position);
CREATE TABLE pools (network TEXT PRIMARY KEY, last INTEGER NOT NULL, position INTEGER NOT NULL) STRICT;
CREATE TABLE ground (times_removed INTEGER NOT NULL) STRICT;
INSERT INTO ground VALUES (0);
CREATE TABLE routes (destination TEXT PRIMARY KEY, gateway TEXT NOT NULL) STRICT;
"""


class PodState(enum.Enum):
    """How far a pod has come. What is not PRESENT was cut off, unless somebody holds the lock."""

    ADDING = "adding"
    PRESENT = "present"
    REMOVING = "removing"


@dataclass(frozen=True, slots=True)
class Entry:
    """A pod and its state."""

    pod: Pod
    state: PodState


class CorruptStateError(FairwayError):
    """The state file cannot be read; it was moved aside to `kept`, and a new one begun."""

    def __init__(self, path: Path, kept: Path, reason: str) -> None:
        super().__init__(f"the state file {path} cannot be read ({reason}); it is kept as {kept}")
        self.kept = kept


class Store:
    """One host's state file. Changes are made under `lock`, so that whoever holds it sees nothing half-made."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "state.db"
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._lock_file = open(directory / "lock", "w")  # noqa: SIM115 - lives as long as the store
        except OSError as error:
            raise _unwritable(directory, error) from None
        self._thread_lock = threading.RLock()
        self._depth = 0
        self._database: sqlite3.Connection | None = None

    def open(self) -> CorruptStateError | None:
        """Open the file, made if it is not there. One that cannot be read is moved aside, and that is returned."""
        with self.lock():
            try:
                self._connect()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and "not a database" not in str(error):
                    raise _unwritable(self.path, error) from None
                corrupt = CorruptStateError(self.path, self._move_aside(), str(error))
                self._connect()
                return corrupt
        return None

    def close(self) -> None:
        """End the connection."""
        if self._database is not None:
            self._database.close()
            self._database = None
        self._lock_file.close()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other thread and process from changing this host; may be nested."""
        with self._thread_lock:
            if self._depth == 0:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or none, on disk when the outermost ends.

        One that is not `durable` outlives the program, but not a power cut: for notes on what a power cut ends anyway.
        """
        assert self._database is not None, "the store is not open"
        with self.lock():
            if self._database.in_transaction:
                yield self._database
                return
            try:
                self._database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield self._database
                    self._database.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
                        self._database.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise _unwritable(self.path, error) from None

    def entries(self) -> list[Entry]:
        """Every pod, by name."""
        addresses: dict[str, list[IPAddress]] = {}
        for pod, address in self._rows("SELECT pod, address FROM addresses ORDER BY pod, position"):
            addresses.setdefault(pod, []).append(ip_address(address))
        return [
            Entry(Pod(name, tuple(addresses.get(name, ())), mtu), PodState(state))
            for name, mtu, state in self._rows("SELECT name, mtu, state FROM pods ORDER BY name")
        ]

    def entry(self, name: str) -> Entry | None:
        """One pod, if it is known."""
        for mtu, state in self._rows("SELECT mtu, state FROM pods WHERE name = ?", name):
            rows = self._rows("SELECT address FROM addresses WHERE pod = ? ORDER BY position", name)
            return Entry(Pod(name, tuple(ip_address(row[0]) for row in rows), mtu), PodState(state))
        return None

    def insert(self, pod: Pod, state: PodState = PodState.ADDING) -> None:
        """Add `pod` with its addresses; An address that is taken is an error that says by whom."""
        with self.transaction() as database:
            database.execute("INSERT INTO pods VALUES (?, ?, ?)", (pod.name, pod.mtu, state.value))
            for position, address in enumerate(pod.addresses):
                holder = self.holder(address)
                if holder:
                    raise UsageError(f"{address} is taken by the pod {holder}", mend="choose another address, or none")
                database.execute("INSERT INTO addresses VALUES (?, ?, ?)", (str(address), pod.name, position))

    def set_state(self, name: str, state: PodState) -> None:
        """Note how far the pod has come."""
        with self.transaction() as database:
            database.execute("UPDATE pods SET state = ? WHERE name = ?", (state.value, name))

    def delete(self, name: str) -> None:
        """Forget the pod; its addresses are free."""
        with self.transaction() as database:
            database.execute("DELETE FROM addresses WHERE pod = ?", (name,))
            database.execute("DELETE FROM pods WHERE name = ?", (name,))

    def forget_removed(self, name: str) -> None:
        """Forget the pod if it is being removed."""
        with self.transaction(durable=False):
            entry = self.entry(name)
            if entry is not None and entry.state is PodState.REMOVING:
                self.delete(name)

    def holder(self, address: IPAddress) -> str:
        """The pod that has `address`; empty if it is free."""
        for (name,) in self._rows("SELECT pod FROM addresses WHERE address = ?", str(address)):
            return str(name)
        return ""

    def free_address(self, pool: IPNetwork) -> IPAddress | None:
        """An address of `pool` that nobody has: the one behind the last given, so that a freed one rests longest."""
        row = next(iter(self._rows("SELECT last FROM pools WHERE network = ?", str(pool))), (-1,))
        for offset, address in candidates(pool, int(row[0])):
            if not self.holder(address):
                with self.transaction() as database:
                    database.execute("UPDATE pools SET last = ? WHERE network = ?", (min(offset, 2**62), str(pool)))
                return address
        return None

    def pools(self) -> list[IPNetwork]:
        """The pools, in the order they were added."""
        return [ip_network(row[0]) for row in self._rows("SELECT network FROM pools ORDER BY position")]

    def add_pool(self, pool: IPNetwork) -> None:
        """Add a pool behind the others; one that is there already stays."""
        with self.transaction() as database:
            database.execute(
                "INSERT OR IGNORE INTO pools SELECT ?, -1, coalesce(max(position), 0) + 1 FROM pools", (str(pool),)
            )

    def delete_pool(self, pool: IPNetwork) -> None:
        """Forget a pool."""
        with self.transaction() as database:
            database.execute("DELETE FROM pools WHERE network = ?", (str(pool),))

    def routes(self) -> list[StaticRoute]:
        """The routes written by hand."""
        rows = self._rows("SELECT destination, gateway FROM routes ORDER BY destination")
        return [StaticRoute(ip_network(destination), ip_address(gateway)) for destination, gateway in rows]

    def change_routes(self, add: Iterable[StaticRoute] = (), delete: Iterable[IPNetwork] = ()) -> None:
        """Add or replace some routes and forget others, in one transaction."""
        with self.transaction() as database:
            database.executemany("DELETE FROM routes WHERE destination = ?", [(str(network),) for network in delete])
            rows = [(str(route.destination), str(route.gateway)) for route in add]
            database.executemany("INSERT OR REPLACE INTO routes VALUES (?, ?)", rows)

    def ground_generation(self) -> int:
        """A number that changes whenever somebody takes away what every pod stands on."""
        ((number,),) = self._rows("SELECT times_removed FROM ground")
        return int(number)

    def note_ground_removed(self) -> None:
        """Tell the others that what every pod stands on is gone."""
        with self.transaction() as database:
            database.execute("UPDATE ground SET times_removed = times_removed + 1")

    def _connect(self) -> None:
        database = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version != _VERSION:
                raise FairwayError(
                    f"the state file {self.path} is of version {version}; this program knows version {_VERSION}",
                    mend="use the program that wrote it, or move the file away",
                )
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        except BaseException:
            database.close()
            raise
        self._database = database

    def _move_aside(self) -> Path:
        number = 1
        while (kept := self.path.with_name(f"state.db.corrupt-{number}")).exists():
            number += 1
        self.path.rename(kept)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        return kept

    def _rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        assert self._database is not None, "the store is not open"
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _unwritable(self.path, error) from None


def _unwritable(path: Path, error: Exception) -> FairwayError:
    if isinstance(error, OSError):
        words = os.strerror(error.errno or 0)
        mend = "run it as root, or set FAIRWAY_STATE to a directory of your own"
    else:
        words = str(error)
        mend = "look for free space and at the file's permissions; nothing was changed"
    return FairwayError(f"cannot write the state in {path}: {words}", mend=mend)
