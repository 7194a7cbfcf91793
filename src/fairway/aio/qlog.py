"""Files of qlog: one for each connection in a directory."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
import weakref
from datetime import UTC, datetime
from pathlib import Path

from fairway.quic.observe import Observe, QlogObserver, nobody

BUFFER_BYTES = 1 << 18
FLUSH_EVERY_S = 1.0
_MAX_SAME_NAME = 100

_waiting: weakref.WeakSet[FileSink] = weakref.WeakSet()


class FileSink:
    """A file that is opened only to append: a thousand connections that are logged hold no descriptors."""

    def __init__(self, path: Path) -> None:
        """Make the file; `FileExistsError` if there is one already."""
        with path.open("xb"):
            self.path = path
        self._records: list[bytes] = []
        self._size = 0
        self._flushed_at = time.monotonic()
        _waiting.add(self)

    def write(self, records: bytes) -> None:
        """Append when there is enough of it, or a second has passed since the last time."""
        self._records.append(records)
        self._size += len(records)
        if self._size >= BUFFER_BYTES or time.monotonic() - self._flushed_at > FLUSH_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Append what waits."""
        self._flushed_at = time.monotonic()
        if self._records:
            records, self._records, self._size = b"".join(self._records), [], 0
            with self.path.open("ab") as file:
                file.write(records)


@atexit.register
def _flush_all() -> None:
    """What belongs to connections that nobody ended."""
    for sink in list(_waiting):
        with contextlib.suppress(OSError):
            sink.flush()


def qlog_to(directory: str | Path | None) -> Observe:
    """What makes a qlog observer for each new connection, if there are to be files.

    They go to `directory`, or to $QLOGDIR if that is None; with neither there are none. Raises `OSError` if there
    can be no files in the directory.
    """
    target = directory if directory is not None else os.environ.get("QLOGDIR")
    if not target:
        return nobody
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"qlog files cannot be made in {folder}: choose another directory, or change its mode")
    return lambda: (QlogObserver(lambda name: _new_sink(folder, name), clock=_now),)


def _now() -> datetime:
    return datetime.now(UTC)


def _new_sink(folder: Path, name: str) -> FileSink:
    for count in range(1, _MAX_SAME_NAME):  # a peer may choose the same ID again
        with contextlib.suppress(FileExistsError):
            return FileSink(folder / (f"{name}.sqlog" if count == 1 else f"{name}-{count}.sqlog"))
    raise FileExistsError(f"{folder} has too many files {name}-*.sqlog: move them away")
