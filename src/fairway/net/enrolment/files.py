"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from fairway.net.model.errors import FairwayError

SECRET = 0o600
PUBLIC = 0o644


def write(path: Path, data: bytes, mode: int) -> None:
    """Put `data` in place of what `path` holds; it has that mode from its first byte on."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise FairwayError(
            f"cannot write {path}: {error.strerror}", mend="run it as root; look for free space"
        ) from None


def make_directory(path: Path) -> None:
    """A directory that only its owner may enter."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise FairwayError(f"cannot make {path}: {error.strerror}", mend="run it as root") from None


def sync_directory(path: Path) -> None:
    """Make what was renamed or made in it durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
