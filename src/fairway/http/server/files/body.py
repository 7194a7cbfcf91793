"""Sending a body: from memory, from a file in chunks or by descriptor, compressed on the way."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from types import TracebackType

from fairway.http.server.files.asgi import Receive, Scope, Send
from fairway.http.server.files.coding import Compressor, compressed_chunk
from fairway.http.server.files.limits import CHUNK_BYTES
from fairway.http.server.files.open_file import FileShrank, OpenFile
from fairway.http.server.files.ranges import Span

ZEROCOPY = "http.response.zerocopysend"

Part = bytes | Span


async def send_memory(send: Send, body: bytes, parts: Sequence[Part]) -> None:
    """The parts of a body that is in memory, as one message."""
    pieces = [part if isinstance(part, bytes) else body[part[0] : part[1]] for part in parts]
    await send({"type": "http.response.body", "body": pieces[0] if len(pieces) == 1 else b"".join(pieces)})


async def send_file(scope: Scope, receive: Receive, send: Send, file: OpenFile, parts: Sequence[Part]) -> None:
    """The parts of a file, by its descriptor if the server offers that; `FileShrank` if it is shorter by now."""
    if ZEROCOPY in (scope.get("extensions") or ()):
        await _send_descriptor(send, file, parts)
        return
    with _Client(receive) as client:
        for part in parts[:-1]:
            if not await _send_part(send, client, file, part, last=False):
                return
        await _send_part(send, client, file, parts[-1], last=True)


async def send_compressed(receive: Receive, send: Send, file: OpenFile, coding: str, threads: Executor) -> None:
    """A whole file through a compressor, each chunk in a thread; `FileShrank` if it ends early."""
    compressor = Compressor(coding)
    size = file.status.st_size
    with _Client(receive) as client:
        for offset in range(0, size, CHUNK_BYTES):
            if client.gone:
                return
            count = min(CHUNK_BYTES, size - offset)
            last = offset + count == size
            job = file.submit(threads, compressed_chunk, compressor, file.descriptor, offset, count, last)
            data = await asyncio.shield(job)
            if data or last:
                await send({"type": "http.response.body", "body": data, "more_body": not last})


async def _send_part(send: Send, client: _Client, file: OpenFile, part: Part, *, last: bool) -> bool:
    """Send one part, if it is the last one the end as well; False if the client has gone."""
    if isinstance(part, bytes):
        await send({"type": "http.response.body", "body": part, "more_body": not last})
        return True
    offset, stop = part
    while True:
        data = await file.read(offset, min(CHUNK_BYTES, stop - offset))
        offset += len(data)
        more = not last or offset < stop
        await send({"type": "http.response.body", "body": data, "more_body": more})
        if offset == stop:
            return True
        await asyncio.sleep(0)  # neither a read from memory nor a send need ever have waited: others get their turn
        if client.gone:
            return False


async def _send_descriptor(send: Send, file: OpenFile, parts: Sequence[Part]) -> None:
    # The extension wants a file object. This one does not own the descriptor, which is closed by whoever opened it.
    raw = io.FileIO(file.descriptor, closefd=False)
    for index, part in enumerate(parts):
        more = index + 1 < len(parts)
        if isinstance(part, bytes):
            await send({"type": "http.response.body", "body": part, "more_body": more})
            continue
        if os.fstat(file.descriptor).st_size < part[1]:
            raise FileShrank(errno.ESTALE, "the file became shorter while it was sent")
        await send({"type": ZEROCOPY, "file": raw, "offset": part[0], "count": part[1] - part[0], "more_body": more})


class _Client:
    """Notices that the client has gone: some servers take what is sent to it, and drop it without a word."""

    def __init__(self, receive: Receive) -> None:
        self._leaving = asyncio.ensure_future(_left(receive))

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._leaving.cancel()
        if self._leaving.done() and not self._leaving.cancelled():
            self._leaving.exception()  # a server that has no more to say may say so by an error: nobody need hear it

    @property
    def gone(self) -> bool:
        return self._leaving.done()


async def _left(receive: Receive) -> None:
    """Returns when the client has gone; what it still sends is of no use."""
    while (await receive())["type"] != "http.disconnect":
        pass
