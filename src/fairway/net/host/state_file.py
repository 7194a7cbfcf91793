"""The state file: opened, locked, written in transactions that are durable, moved aside when it is damaged."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairway.net.host import schema
from fairway.net.model.errors import FairwayError

_BUSY_S = 60.0


class CorruptStateError(FairwayError):
    """The state file cannot be read; it was moved aside to `kept`, and a new one begun."""

    def __init__(self, path: Path, kept: Path, reason: str) -> None:
        super().__init__(f"the state file {path} cannot be read ({reason}); it is kept as {kept}")
        self.kept = kept


class StateFile:
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

    def _connect(self) -> None:
        database = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > schema.VERSION:
                raise FairwayError(
                    f"the state file {self.path} is of version {version}; this program knows version {schema.VERSION}",
                    mend="use the program that wrote it, or move the file away",
                )
            if version < schema.VERSION:
                schema.bring_up_to_date(database, version)
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

    def version(self) -> int:
        """A number that changes whenever another connection has changed the file."""
        ((number,),) = self.rows("PRAGMA data_version")
        return int(number)

    def rows(self, query: str, *values: str | int | float) -> list[tuple[Any, ...]]:
        """What a query finds."""
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
