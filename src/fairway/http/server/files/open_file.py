"""One open file: read where its pages are in memory, read in a thread where they are not, closed when both are done."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from fairway.http.server.files.limits import CHUNK_BYTES

T = TypeVar("T")

Identity = tuple[int, int, int, int, int]


class FileShrank(OSError):  # noqa: N818 - it says what happened
    """A file became shorter than the length announced for it: its response must end in an error of the stream."""


def identity_of(status: os.stat_result) -> Identity:
    """What stays the same while a file's bytes do: device, inode, size, times of modification and change (ns)."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class OpenFile:
    """A descriptor and what fstat said of it; `close` waits for the threads that still read from it."""

    __slots__ = ("_closed", "_jobs", "descriptor", "status")

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        self.descriptor = descriptor
        self.status = status
        self._jobs = 0
        self._closed = False

    def close(self) -> None:
        """Close the descriptor, now or when the last thread is done with it. Idempotent."""
        if not self._closed:
            self._closed = True
            if not self._jobs:
                os.close(self.descriptor)

    async def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`, up to CHUNK_BYTES; `FileShrank` if the file ends before.

        256 KiB from the page cache take 11 us, a change to a thread and back 70 us: so the loop itself reads what the
        kernel says it has in memory (it is asked for the last byte, without waiting: 1 us), and a thread reads what
        must come from a disk. A file system that cannot tell (tmpfs, NFS) is read in a thread.
        """
        try:
            in_memory = os.preadv(self.descriptor, [bytearray(1)], offset + count - 1, os.RWF_NOWAIT) == 1
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise
            in_memory = False
        if in_memory:
            return read_exactly(self.descriptor, offset, count)
        return await asyncio.shield(self.submit(None, read_exactly, self.descriptor, offset, count))

    def submit(self, executor: Executor | None, call: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """`call(*args)` in a thread; the descriptor stays open until it returns, even if nobody waits any more."""
        if self._closed:
            raise ValueError("the file is closed")
        future = asyncio.get_running_loop().run_in_executor(executor, call, *args)
        self._jobs += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _future: object) -> None:
        self._jobs -= 1
        if self._closed and not self._jobs:
            os.close(self.descriptor)


def read_exactly(descriptor: int, offset: int, count: int) -> bytes:
    """`count` bytes from `offset` of a file; `FileShrank` if it ends before."""
    data = os.pread(descriptor, count, offset)
    if len(data) == count:
        return data
    pieces = [data]
    while data and (count := count - len(data)):
        offset += len(data)
        data = os.pread(descriptor, min(count, CHUNK_BYTES), offset)
        pieces.append(data)
    if count:
        raise FileShrank(errno.ESTALE, "the file became shorter while it was sent")
    return b"".join(pieces)
