"""Which representation of a file is sent: as it is, its compressed neighbour, or compressed here."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fairway.http.server.files.accept import IDENTITY
from fairway.http.server.files.asgi import Headers
from fairway.http.server.files.cache import Cache
from fairway.http.server.files.coding import APPLIED, compressed_file
from fairway.http.server.files.conditional import Validators
from fairway.http.server.files.dates import format_date
from fairway.http.server.files.errors import Refused
from fairway.http.server.files.limits import (
    COMPRESSING_THREADS,
    MAX_COMPRESSED_WHOLE_BYTES,
    MIN_COMPRESSED_BYTES,
    RACY_NS,
    SMALL_BYTES,
)
from fairway.http.server.files.media_types import compressible, media_type
from fairway.http.server.files.open_file import Identity, OpenFile, identity_of
from fairway.http.server.files.tree import Tree

_SUFFIXES = {"br": ".br", "gzip": ".gz"}

Names = tuple[str, ...]


@dataclass(slots=True)
class Representation:
    """What a 200 would carry: fields without Content-Length, and a body that is in memory or comes from a file."""

    validators: Validators
    media_type: bytes
    headers: Headers
    size: int | None  # bytes; None if it is compressed while it is sent
    body: bytes | None = None
    file: OpenFile | None = None
    coding: str | None = None  # to be applied here, so that no range of it can be sent

    def close(self) -> None:
        """Let go of the file."""
        if self.file is not None:
            self.file.close()


@dataclass(frozen=True, slots=True)
class _Kept:
    """A representation in memory, with the files that it stands for as long as they stay the same."""

    representation: Representation
    files: tuple[tuple[str, Identity], ...]

    def is_current(self) -> bool:
        # By path, links followed: what was allowed once, and is the same file with the same bytes, is still allowed.
        try:
            return all(identity_of(os.stat(path)) == identity for path, identity in self.files)
        except OSError:
            return False


class Representations:
    """Chooses and makes representations, and keeps small ones. For one event loop."""

    def __init__(self, tree: Tree, *, compress: bool, cache_control: str | None, clock: Callable[[], int]) -> None:
        self._tree = tree
        self._clock = clock
        self._compress = compress
        self._common: Headers = [(b"x-content-type-options", b"nosniff")]
        if compress:
            self._common.append((b"vary", b"accept-encoding"))
        if cache_control is not None:
            self._common.append((b"cache-control", cache_control.encode("ascii")))
        self._kept: Cache[tuple[str, Names, bool], _Kept] = Cache()
        self._compressed: Cache[tuple[Identity, str], bytes] = Cache()
        self._compressing: dict[tuple[Identity, str], asyncio.Future[tuple[bytes, Identity]]] = {}
        self.threads = ThreadPoolExecutor(COMPRESSING_THREADS, thread_name_prefix="fairway-compress")

    def kept(self, path: str, preference: Names, ranged: bool) -> Representation | None:
        """The representation in memory for a path as it was requested, if its files are still the same."""
        key = (path, preference, ranged)
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.is_current():
            return kept.representation
        self._kept.drop(key)
        return None

    async def of(self, path: str, names: Names, base: OpenFile, preference: Names, ranged: bool) -> Representation:
        """The best representation of the open file `base`, which it takes over; `Refused` (406) if none is acceptable.

        A file's compressed neighbour (`name.br`, `name.gz`), unless it is older, comes before compressing here. A range
        is of what has a length and a strong ETag: for one, nothing is compressed here while identity is acceptable.
        """
        now_ns = self._clock()
        files = [base]
        try:
            representation = await self._select(names, files, preference, ranged, now_ns)
        except BaseException:
            for file in files:
                file.close()
            raise
        for file in files:
            if representation.file is not file:
                file.close()
        body = representation.body
        if body is not None and not any(_changed_lately(file.status, now_ns) for file in files):
            place = "/".join((self._tree.root, *names))
            places = [place] if len(files) == 1 else [place, place + _SUFFIXES[_coding_of(representation)]]
            identities = [identity_of(file.status) for file in files]
            kept = _Kept(representation, tuple(zip(places, identities, strict=True)))
            self._kept.put((path, preference, ranged), kept, len(body))
        return representation

    async def _select(
        self, names: Names, files: list[OpenFile], preference: Names, ranged: bool, now_ns: int
    ) -> Representation:
        """The representation; a neighbour that is opened for it is put into `files`, after the file itself."""
        base = files[0]
        name = names[-1]
        identity = IDENTITY in preference
        better = preference[: preference.index(IDENTITY)] if identity else preference
        for coding in better:
            neighbour = self._neighbour(names, base, coding)
            if neighbour is not None:
                files.append(neighbour)
                return self._from_file(name, neighbour, coding, now_ns)
        size = base.status.st_size
        worth = size >= MIN_COMPRESSED_BYTES and compressible(media_type(name)) and not ranged
        if worth or not identity:
            for coding in better:
                if coding in APPLIED:
                    made = await self._compress_here(name, base, coding, now_ns, must=not identity)
                    if made is not None:
                        return made
        if not identity:
            raise Refused(406, ((b"vary", b"accept-encoding"),))
        return self._from_file(name, base, None, now_ns)

    def _neighbour(self, names: Names, base: OpenFile, coding: str) -> OpenFile | None:
        """The file beside `base` that is it with the coding; None if there is none, or an older one."""
        try:
            neighbour = self._tree.open((*names[:-1], names[-1] + _SUFFIXES[coding]))
        except OSError:
            return None
        if stat.S_ISREG(neighbour.status.st_mode) and neighbour.status.st_mtime_ns >= base.status.st_mtime_ns:
            return neighbour
        neighbour.close()
        return None

    def _from_file(self, name: str, file: OpenFile, coding: str | None, now_ns: int) -> Representation:
        """A representation that is the bytes of a file; read at once if they are few."""
        made = self._describe(name, file.status, coding, applied=False, now_ns=now_ns)
        size = file.status.st_size
        if size <= SMALL_BYTES:
            data = os.pread(file.descriptor, size + 1, 0)
            if len(data) == size and identity_of(os.fstat(file.descriptor)) == identity_of(file.status):
                made.body = data
                return made
        made.file = file
        return made

    async def _compress_here(
        self, name: str, base: OpenFile, coding: str, now_ns: int, *, must: bool
    ) -> Representation | None:
        """The file compressed, whole or while it is sent; None if that made it no smaller, unless it must be."""
        made = self._describe(name, base.status, coding, applied=True, now_ns=now_ns)
        size = base.status.st_size
        if size > MAX_COMPRESSED_WHOLE_BYTES:
            made.size = None
            made.file = base
            return made
        body = await self._compressed_body(base, coding, now_ns)
        if len(body) >= size and not must:
            return None
        made.body = body
        made.size = len(body)
        return made

    async def _compressed_body(self, base: OpenFile, coding: str, now_ns: int) -> bytes:
        """Kept, or made in a thread, once for all requests that wait for it."""
        identity = identity_of(base.status)
        key = (identity, coding)
        kept = self._compressed.get(key)
        if kept is not None:
            return kept
        future = self._compressing.get(key)
        if future is None or future.get_loop() is not asyncio.get_running_loop():  # left behind by a loop that ended
            future = base.submit(self.threads, compressed_file, base.descriptor, base.status.st_size, coding)
            self._compressing[key] = future
            future.add_done_callback(lambda _: self._compressing.pop(key, None))
        body, identity_after = await asyncio.shield(future)
        if identity_after == identity and not _changed_lately(base.status, now_ns):
            self._compressed.put(key, body, len(body))
        return body

    def _describe(
        self, name: str, status: os.stat_result, coding: str | None, *, applied: bool, now_ns: int
    ) -> Representation:
        """The fields of a file's representation. Its ETag is weak where bytes may differ under it: compressed here, as
        another version of a library compresses otherwise; and where the file changed so lately that its next change
        might bear the same time (RFC 9110 section 8.8.1)."""
        weak = applied or now_ns - status.st_mtime_ns < RACY_NS
        etag = f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}{"-" + coding if coding else ""}"'
        modified_s = status.st_mtime_ns // 1_000_000_000
        validators = Validators((f"W/{etag}" if weak else etag).encode(), format_date(modified_s), modified_s)
        kind = media_type(name).encode()
        headers = [
            (b"content-type", kind),
            (b"etag", validators.etag),
            (b"last-modified", validators.last_modified),
            *self._common,
        ]
        if coding is not None:
            headers.append((b"content-encoding", coding.encode()))
        if not applied:
            headers.append((b"accept-ranges", b"bytes"))
        return Representation(validators, kind, headers, status.st_size, coding=coding if applied else None)


def _changed_lately(status: os.stat_result, now_ns: int) -> bool:
    return now_ns - max(status.st_mtime_ns, status.st_ctime_ns) < RACY_NS


def _coding_of(representation: Representation) -> str:
    return dict(representation.headers)[b"content-encoding"].decode()
