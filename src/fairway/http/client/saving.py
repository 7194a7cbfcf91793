"""Where a response's body goes: a file that appears only when it is whole, a stream, or nowhere."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Awaitable, Iterator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol

from fairway.http.client.writer import Writer
from fairway.http3 import Fields

GATHERED = 1 << 20
"""Bytes that are written to a file at a time."""

_CONTENT_RANGE = re.compile(rb"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:([0-9]{1,18})|\*)").fullmatch
_UNSATISFIED = re.compile(rb"bytes \*/([0-9]{1,18})").fullmatch
_STRONG_AFTER = timedelta(seconds=1)


class SavingError(Exception):
    """The body cannot be kept; says where and why."""


class Saving(Protocol):
    """What takes a body."""

    async def write(self, data: bytes) -> None:
        """Take bytes; `SavingError` if they cannot be kept."""

    async def finish(self) -> None:
        """The body is whole."""

    def give_up(self) -> str:
        """The body will not become whole; what remains of it, for people, or ""."""


class Nowhere:
    """Bodies that are only counted."""

    async def write(self, data: bytes) -> None:
        """Drop bytes."""

    async def finish(self) -> None:
        """Nothing is kept."""

    def give_up(self) -> str:
        """Nothing remains."""
        return ""


class Stream:
    """Standard output, or whatever a descriptor leads to; what comes is written at once."""

    def __init__(self, descriptor: int) -> None:
        self._writer = Writer(descriptor)

    async def write(self, data: bytes) -> None:
        """Write all of `data`. `BrokenPipeError` if nobody reads."""
        await self._told(self._writer.write(data))

    async def finish(self) -> None:
        """Wait until everything is written."""
        await self._told(self._writer.settled())
        self._writer.close()

    async def _told(self, work: Awaitable[None]) -> None:
        try:
            await work
        except BrokenPipeError:
            raise
        except OSError as error:
            raise SavingError(f"cannot write to standard output: {error.strerror}") from error

    def give_up(self) -> str:
        """What was written stays written."""
        count = self._writer.written
        return f"{count} bytes were written to standard output" if count else ""


class PartFile:
    """A file under its name with `.part`, renamed when it is whole.

    Beside it `.part.from` has the validator (RFC 9110 section 8.8) of what the server sends, so that the download can
    be continued, and only if the server still has the same.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self._origin = path.with_name(path.name + ".part.from")
        self._descriptor = -1
        self._writer: Writer | None = None
        self._gathered: list[bytes] = []
        self._waiting = 0
        self._expected: int | None = None
        self.offset = 0
        """Bytes that were there before."""
        self._validator = b""
        if resume:
            self._look()

    def _look(self) -> None:
        try:
            validator = self._origin.read_bytes()
            size = self.part.stat().st_size
        except FileNotFoundError:
            return
        if validator and size and re.fullmatch(rb"[!-~ \x80-\xff]{1,1000}", validator):
            self._validator, self.offset = validator, size

    def request_fields(self) -> Fields:
        """What asks for the rest, if there is a part to continue (RFC 9110 sections 13.1.5 and 14.2)."""
        if not self.offset:
            return []
        return [(b"range", b"bytes=%d-" % self.offset), (b"if-range", self._validator)]

    def begin(self, status: int, fields: Fields) -> bool:
        """Open the file for a response; False if the part is whole already and there is no body to take."""
        known = dict(reversed(fields))
        if status == 416 and self.offset:
            whole = _UNSATISFIED(known.get(b"content-range", b""))
            if whole is None or int(whole[1]) != self.offset:
                raise SavingError(f"{self.part} does not fit what the server has: remove it and fetch again")
            self._open()
            return False
        if status == 206 and self.offset:
            sent = _CONTENT_RANGE(known.get(b"content-range", b""))
            if sent is None or int(sent[1]) != self.offset:
                raise SavingError(
                    f"the server sends another range than bytes from {self.offset} on: remove {self.part}"
                )
            self._expected = int(sent[3]) if sent[3] else None
        else:
            self.offset = 0
        self._open()
        self._note(_validator(known))
        return True

    def _open(self) -> None:
        try:
            descriptor = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._descriptor = descriptor
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, self.offset)
            os.lseek(descriptor, self.offset, os.SEEK_SET)
            self._writer = Writer(descriptor)
        except BlockingIOError:
            self._close()
            raise SavingError(f"{self.part} is being written by another download") from None
        except OSError as error:
            self._close()
            raise SavingError(f"cannot write {self.part}: {error.strerror}") from error

    def _note(self, validator: bytes) -> None:
        if validator:
            self._origin.write_bytes(validator)
        else:
            self._origin.unlink(missing_ok=True)

    def before(self) -> Iterator[bytes]:
        """The bytes that were there before, in pieces."""
        with self.part.open("rb") as part:
            left = self.offset
            while left and (piece := part.read(min(left, GATHERED))):
                left -= len(piece)
                yield piece

    async def write(self, data: bytes) -> None:
        """Take bytes; they are written in large pieces."""
        self._gathered.append(data)
        self._waiting += len(data)
        if self._waiting >= GATHERED:
            await self._flush()

    async def _flush(self, *, settled: bool = False) -> None:
        assert self._writer is not None
        gathered, self._gathered = self._gathered, []
        self._waiting = 0
        try:
            if gathered:
                await self._writer.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))
            if settled:
                await self._writer.settled()
        except OSError as error:
            raise SavingError(f"cannot write {self.part}: {error.strerror}") from error

    async def finish(self) -> None:
        """Give the file its name. `SavingError` if its size is not what the server said."""
        await self._flush(settled=True)
        size = self.offset + (0 if self._writer is None else self._writer.written)
        if self._expected is not None and size != self._expected:
            raise SavingError(f"{self.part} has {size} bytes where the server has {self._expected}")
        try:
            self.part.replace(self.path)
        except OSError as error:
            raise SavingError(f"cannot name {self.path}: {error.strerror}") from error
        self._close()
        self.offset = 0
        self._origin.unlink(missing_ok=True)

    def give_up(self) -> str:
        """Keep what can be continued; what remains."""
        if self._descriptor < 0:
            return f"{self.offset} bytes are still in {self.part}" if self.offset else ""
        assert self._writer is not None
        self._writer.drain()
        with contextlib.suppress(OSError):  # what went wrong before is told already
            for piece in self._gathered if self._writer.error is None else ():
                write_all(self._descriptor, piece)
        self._gathered = []
        size = os.fstat(self._descriptor).st_size
        self._close()
        if not size:
            self.part.unlink(missing_ok=True)
            self._origin.unlink(missing_ok=True)
            return ""
        return f"{size} bytes are in {self.part}" + (" (continue with -C)" if self._origin.exists() else "")

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however little the kernel takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _validator(fields: dict[bytes, bytes]) -> bytes:
    """A strong validator for If-Range: an entity tag, or a date that is safely older than the answer."""
    etag = fields.get(b"etag", b"")
    if etag:
        return b"" if etag.startswith(b"W/") else etag
    try:
        modified = parsedate_to_datetime(fields[b"last-modified"].decode("ascii"))
        sent = parsedate_to_datetime(fields[b"date"].decode("ascii"))
        return fields[b"last-modified"] if sent - modified >= _STRONG_AFTER else b""
    except (KeyError, ValueError, TypeError):
        return b""
