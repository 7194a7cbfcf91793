"""The application: one request in, one response out."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from fairway.http.server.files import listing
from fairway.http.server.files.accept import IDENTITY, preference, wants_json
from fairway.http.server.files.asgi import Headers, Receive, Scope, Send
from fairway.http.server.files.body import Part, send_compressed, send_file, send_memory
from fairway.http.server.files.conditional import precondition, range_applies
from fairway.http.server.files.errors import Refused, refusal_of
from fairway.http.server.files.limits import MAX_FIELD_BYTES
from fairway.http.server.files.open_file import OpenFile
from fairway.http.server.files.path import below_mount, location_of, names_of
from fairway.http.server.files.ranges import Multipart, content_range, parse_ranges
from fairway.http.server.files.representation import Representation, Representations
from fairway.http.server.files.tree import Symlinks, Tree

_ALLOW = (b"allow", b"GET, HEAD, OPTIONS")
_CONDITIONS = frozenset(
    {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"range"}
)
_READ = _CONDITIONS | {b"accept-encoding", b"accept"}
_IN_304 = frozenset({b"etag", b"last-modified", b"vary", b"cache-control"})  # RFC 9110 section 15.4.5


@dataclass(slots=True)
class _Answer:
    """A response, decided on but not begun."""

    status: int
    headers: Headers
    parts: list[Part] = field(default_factory=list)  # of the representation; or, without one, the body itself
    representation: Representation | None = None


class Files:
    """An ASGI 3 application that serves the files below a directory: GET, HEAD, OPTIONS (RFC 9110). For one event loop.

    `index` answers for a directory (None: no file does), else, with `listing`, what lies in it. `compress`: br and gzip
    where the client takes them, from neighbours (`name.br`, `name.gz`) or made here. `hidden`: names with a leading dot
    are served too. `symlinks`: "inside" follows those that stay below the directory, "never", "anywhere".
    `cache_control` is sent as it is. `clock` tells the time in ns since 1970.
    `OSError` or `ValueError` if the directory or an option is no good.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        index: str | None = "index.html",
        listing: bool = False,
        compress: bool = True,
        hidden: bool = False,
        symlinks: Symlinks = "inside",
        cache_control: str | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        if index is not None and (index in ("", ".", "..") or "/" in index or "\0" in index):
            raise ValueError(f"index={index!r}: name a file, without a directory, or None")
        if cache_control is not None and not (cache_control.isascii() and cache_control.isprintable()):
            raise ValueError(f"cache_control={cache_control!r}: the value of a field, such as 'max-age=3600'")
        self._tree = Tree(directory, symlinks=symlinks)
        self._index = index
        self._listing = listing
        self._compress = compress
        self._hidden = hidden
        self._clock = clock
        self._representations = Representations(self._tree, compress=compress, cache_control=cache_control, clock=clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] != "http":
            await _not_http(scope, receive, send)
            return
        method = scope["method"]
        try:
            if method in ("GET", "HEAD"):
                answer = await self._answer(scope, method, _fields(scope["headers"]))
            elif method == "OPTIONS":
                answer = _Answer(204, [_ALLOW])
            else:
                raise Refused(405, (_ALLOW,))
        except Refused as refused:
            answer = _refusal(refused)
        except OSError as error:
            known = refusal_of(error)
            if known is None:
                raise
            answer = _refusal(known)
        try:
            await self._send(scope, receive, send, method, answer)
        finally:
            if answer.representation is not None:
                answer.representation.close()

    async def _send(self, scope: Scope, receive: Receive, send: Send, method: str, answer: _Answer) -> None:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        representation = answer.representation
        if method == "HEAD" or (representation is not None and not answer.parts):
            await send({"type": "http.response.body"})
        elif representation is None:
            await send_memory(send, b"", answer.parts or [b""])
        elif representation.body is not None:
            await send_memory(send, representation.body, answer.parts)
        elif representation.file is not None and representation.size is not None:
            await send_file(scope, receive, send, representation.file, answer.parts)
        elif representation.file is not None and representation.coding is not None:
            threads = self._representations.threads
            await send_compressed(receive, send, representation.file, representation.coding, threads)

    async def _answer(self, scope: Scope, method: str, fields: Mapping[bytes, bytes]) -> _Answer:
        root_path = scope.get("root_path", "")
        path = below_mount(scope["path"], root_path) if root_path else scope["path"]
        wanted = preference(fields.get(b"accept-encoding")) if self._compress else (IDENTITY,)
        ranged = method == "GET" and b"range" in fields
        representation = self._representations.kept(path, wanted, ranged)
        if representation is None:
            names, slash = names_of(path, hidden=self._hidden)
            found = self._tree.open(names)
            if stat.S_ISDIR(found.status.st_mode):
                try:
                    if not slash:
                        location = location_of(root_path, names, scope.get("query_string", b""))
                        # Not a permanent one, which is kept for good: what is a directory today may be a file tomorrow.
                        return _text(307, [(b"location", location)])
                    index = self._open_index(names)
                    if index is None:
                        return await self._list(names, found, fields.get(b"accept"))
                    names = (*names, self._index or "")
                finally:
                    found.close()
                found = index
            elif slash:
                found.close()
                raise Refused(404)
            representation = await self._representations.of(path, names, found, wanted, ranged)
        try:
            return _conditional(method, fields, representation, self._clock)
        except BaseException:
            representation.close()
            raise

    def _open_index(self, names: tuple[str, ...]) -> OpenFile | None:
        """The index file of a directory; None if it has none, so that it is listed instead; `Refused` if nor that."""
        if self._index is not None:
            try:
                found = self._tree.open((*names, self._index))
            except FileNotFoundError:
                pass
            else:
                if stat.S_ISREG(found.status.st_mode):
                    return found
                found.close()
        if not self._listing:
            raise Refused(404)
        return None

    async def _list(self, names: tuple[str, ...], directory: OpenFile, accept: bytes | None) -> _Answer:
        def work() -> tuple[Headers, bytes]:
            entries, complete = listing.scan(self._tree, names, directory.descriptor, hidden=self._hidden)
            if wants_json(accept):
                return listing.as_json(entries, complete)
            return listing.as_html("/" + "".join(name + "/" for name in names), entries, complete)

        headers, body = await asyncio.shield(directory.submit(None, work))
        headers += [
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-cache"),
            (b"vary", b"accept"),
            (b"x-content-type-options", b"nosniff"),
        ]
        return _Answer(200, headers, [body])


def _conditional(
    method: str, fields: Mapping[bytes, bytes], representation: Representation, clock: Callable[[], int]
) -> _Answer:
    """What the conditions and the range of the request make of a representation (RFC 9110 sections 13 and 14)."""
    size = representation.size
    headers = representation.headers
    if not _CONDITIONS.isdisjoint(fields):
        status = precondition(fields, representation.validators, now=clock() / 1e9)
        if status == 304:
            return _Answer(304, [item for item in headers if item[0] in _IN_304], [], representation)
        if status == 412:
            raise Refused(412)
        value = fields.get(b"range") if method == "GET" else None
        if (
            value is not None
            and size is not None
            and representation.coding is None
            and range_applies(fields, representation.validators)
        ):
            ranged = _ranged(value, size, representation)
            if ranged is not None:
                return ranged
    if size is None:
        return _Answer(200, list(headers), [b""], representation)
    return _Answer(200, [*headers, (b"content-length", b"%d" % size)], [(0, size)], representation)


def _ranged(value: bytes, size: int, representation: Representation) -> _Answer | None:
    """206 or 416; None where the Range field is to be ignored."""
    spans = parse_ranges(value, size)
    if spans is None:
        return None
    if not spans:
        raise Refused(416, ((b"content-range", content_range(None, size)), (b"accept-ranges", b"bytes")))
    headers = representation.headers
    if len(spans) == 1:
        start, stop = spans[0]
        length = (b"content-length", b"%d" % (stop - start))
        fields = [*headers, length, (b"content-range", content_range(spans[0], size))]
        return _Answer(206, fields, [spans[0]], representation)
    boundary = secrets.token_hex(16).encode()
    frame = Multipart.of(spans, size, representation.media_type, boundary)
    fields = [item for item in headers if item[0] != b"content-type"]
    fields.append((b"content-type", b"multipart/byteranges; boundary=" + boundary))
    fields.append((b"content-length", b"%d" % frame.length))
    parts: list[Part] = [part for pair in zip(frame.heads, spans, strict=True) for part in pair]
    return _Answer(206, fields, [*parts, frame.end], representation)


def _fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The fields that matter here, repeated ones joined (RFC 9110 section 5.3) up to a bound."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _READ:
            if name not in fields:
                fields[name] = value
            elif len(fields[name]) <= MAX_FIELD_BYTES:
                fields[name] += b", " + value
    return fields


def _refusal(refused: Refused) -> _Answer:
    return _text(refused.status, list(refused.headers))


def _text(status: int, headers: Headers) -> _Answer:
    body = f"{status} {HTTPStatus(status).phrase}\n".encode()
    headers += [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
    ]
    return _Answer(status, headers, [body])


async def _not_http(scope: Scope, receive: Receive, send: Send) -> None:
    """A lifespan is agreed to, a WebSocket refused."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
    elif scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    else:
        raise ValueError(f"no application for the ASGI scope {scope['type']!r}: Files serves http")
