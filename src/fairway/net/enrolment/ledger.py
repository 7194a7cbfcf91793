"""The file in which a network's authority writes down what it has granted: SQLite, safe against other processes."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from fairway.net.enrolment import files
from fairway.net.model.errors import FairwayError, UsageError

_NAME = "authority.db"
_VERSION = 1
_SCHEMA = """
CREATE TABLE network (description TEXT NOT NULL, list INTEGER NOT NULL) STRICT;
CREATE TABLE pools (network TEXT PRIMARY KEY, length INTEGER NOT NULL) STRICT;
CREATE TABLE nodes (name TEXT PRIMARY KEY, mobile INTEGER NOT NULL) STRICT;
CREATE TABLE blocks (block TEXT PRIMARY KEY, node TEXT NOT NULL REFERENCES nodes) STRICT;
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY, node TEXT NOT NULL, key TEXT NOT NULL, expires INTEGER NOT NULL, revoked INTEGER NOT NULL
) STRICT;
CREATE TABLE tokens (
    number TEXT PRIMARY KEY, hash TEXT NOT NULL, expires INTEGER NOT NULL, node TEXT NOT NULL, blocks TEXT NOT NULL,
    mobile INTEGER NOT NULL, used_by TEXT NOT NULL
) STRICT;
"""


class Ledger:
    """The one in `directory`; it is made with the first use."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._database: sqlite3.Connection | None = None

    def clear(self) -> None:
        """Begin anew."""
        self.close()
        for stale in self._directory.glob(f"{_NAME}*"):
            stale.unlink()

    def close(self) -> None:
        """End the connection to the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done in the block, or nothing; durable when it ends. One within another is a part of that."""
        if self._database is None and not self._directory.is_dir():
            raise UsageError("the network's authority is not on this host", mend="do it on the host that began it")
        try:
            database = self.database
            if database.in_transaction:
                yield database
                return
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise FairwayError(f"cannot use the authority's file in {self._directory}: {error}") from None

    @property
    def database(self) -> sqlite3.Connection:
        """The connection to it, for who is within a transaction."""
        if self._database is None:
            path = self._directory / _NAME
            database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            path.chmod(files.SECRET)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA foreign_keys = ON")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version != _VERSION:
                database.close()
                raise FairwayError(f"{path} is of version {version}; this program knows version {_VERSION}")
            self._database = database
        return self._database
