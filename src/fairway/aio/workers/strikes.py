"""A register of what may be used once, in memory that processes share (RFC 8446 section 8.2)."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct

_SLOTS = 64
"""Of a bucket."""
_TAG = 12
_TIMES = struct.Struct(f"={_SLOTS}I")
_TIME = struct.Struct("=I")
_TAGS_LENGTH = _SLOTS * _TAG
_BUCKET = _TAGS_LENGTH + _TIMES.size


class SharedStrikes:
    """A register of up to `slots` uses; make it before the processes that share it are forked.

    An entry is 12 bytes of a keyed hash, by which it also finds its place, and the second of its use; it is free again
    once its window is over. Where there is no free place the use is refused, and so it is where another process is at
    the same place at this moment: nobody waits, and a process that is killed leaves no lock behind. Both cost a client
    no more than the round trip that it wanted to save. Threads of one process are not kept apart.
    """

    def __init__(self, slots: int, secret: bytes) -> None:
        """`secret`: up to 64 bytes, so that nobody can aim at one place."""
        self._buckets = max(slots // _SLOTS, 1)
        self._secret = secret
        self._file = os.memfd_create("fairway-strikes")
        os.ftruncate(self._file, self._buckets * _BUCKET)
        self._memory = mmap.mmap(self._file, self._buckets * _BUCKET)

    def strike(self, identifier: bytes, now_s: float, window_s: float) -> bool:
        """True if `identifier` was not struck in the last `window_s` seconds and is now; False if in doubt."""
        digest = hashlib.blake2b(identifier, key=self._secret, digest_size=4 + _TAG).digest()
        start = int.from_bytes(digest[:4], "big") % self._buckets * _BUCKET
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, _BUCKET, start)
        except OSError:
            return False
        try:
            return self._strike(start, digest[4:], int(now_s), window_s)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, _BUCKET, start)

    def _strike(self, start: int, tag: bytes, now_s: int, window_s: float) -> bool:
        tags = self._memory[start : start + _TAGS_LENGTH]
        times = _TIMES.unpack_from(self._memory, start + _TAGS_LENGTH)
        forgotten = now_s - window_s - 1  # whole seconds: rather a little too long
        at = tags.find(tag)
        while at >= 0:
            if not at % _TAG and times[at // _TAG] >= forgotten:
                return False
            at = tags.find(tag, at + 1)
        for slot, used in enumerate(times):
            if used < forgotten:
                self._memory[start + slot * _TAG : start + (slot + 1) * _TAG] = tag
                _TIME.pack_into(self._memory, start + _TAGS_LENGTH + slot * _TIME.size, now_s)
                return True
        return False

    def close(self) -> None:
        """Leave the memory to the others."""
        self._memory.close()
        os.close(self._file)
