"""One open file: read where its pages are in memory, read in a thread where they are not, closed when both are done."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from fairway.http.server.files.limits import CHUNK_BYTES

MEMORY_FILE_SYSTEMS = frozenset({b"tmpfs", b"ramfs"})

_CANNOT_TELL = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

T = TypeVar("T")

Identity = tuple[int, int, int, int, int]


class FileShrank(OSError):  # noqa: N818 - it says what happened
    """A file became shorter than the length announced for it: its response must end in an error of the stream."""


def identity_of(status: os.stat_result) -> Identity:
    """What stays the same while a file's bytes do: device, inode, size, times of modification and change (ns)."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class OpenFile:
    """A descriptor and what fstat said of it; `close` waits for the threads that still read from it."""

    __slots__ = ("_closed", "_jobs", "_loop_may_read", "descriptor", "status")

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        self.descriptor = descriptor
        self.status = status
        self._jobs = 0
        self._closed = False
        self._loop_may_read: bool | None = None
        """Whatever is asked for: True on a file system that is memory, False on one that cannot tell; None: ask."""

    def close(self) -> None:
        """Close the descriptor, now or when the last thread is done with it. Idempotent."""
        if not self._closed:
            self._closed = True
            if not self._jobs:
                os.close(self.descriptor)

    async def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`, up to CHUNK_BYTES; `FileShrank` if the file ends before.

        256 KiB from the page cache take 11 us, a change to a thread and back 70 us: so the loop itself reads what is in
        memory, and a thread reads what must come from a disk.
        """
        if self._is_in_memory(offset + count - 1):
            return read_exactly(self.descriptor, offset, count)
        return await asyncio.shield(self.submit(None, read_exactly, self.descriptor, offset, count))

    def _is_in_memory(self, offset: int) -> bool:
        """Whether the byte there, and so most likely those before it, can be read without waiting for a disk."""
        if self._loop_may_read is None:
            try:
                return os.preadv(self.descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) == 1  # 1 us
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    return False
                if error.errno not in _CANNOT_TELL:
                    raise
            self._loop_may_read = file_system(self.status.st_dev) in MEMORY_FILE_SYSTEMS  # tmpfs cannot tell, nor NFS
        return self._loop_may_read

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


def file_system(device: int) -> bytes:
    """The type of the file system that is mounted from a device (`st_dev`); b"" if none is (proc(5), mountinfo)."""
    number = b"%d:%d" % (os.major(device), os.minor(device))
    try:
        with open("/proc/self/mountinfo", "rb") as mounts:
            for line in mounts:
                fields = line.split()
                if fields[2] == number:
                    return fields[fields.index(b"-") + 1]
    except OSError:
        pass
    return b""


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
