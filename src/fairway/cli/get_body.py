"""The body that `--data` names: the text itself, @FILE, or - for standard input."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import click

from fairway.http.client.exchange import Body
from fairway.http3 import Fields

_PIECE = 1 << 20


def of(data: str | None) -> tuple[Body, Fields, bool]:
    """The body, what its fields are where nothing else is said, and whether it can be sent a second time."""
    if data is None:
        return b"", [], True
    if data == "-":
        return _standard_input(), [(b"content-type", b"application/octet-stream")], False
    if not data.startswith("@"):
        text = data.encode("utf-8", "surrogateescape")
        kind = b"application/x-www-form-urlencoded"
        return text, [(b"content-type", kind), (b"content-length", b"%d" % len(text))], True
    path = Path(data[1:])
    fields: Fields = [(b"content-type", b"application/octet-stream")]
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
    except OSError as error:
        raise click.UsageError(f"--data {data}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise click.UsageError(f"--data {data}: no regular file; for a pipe: --data - < {path}")
    fields.append((b"content-length", b"%d" % status.st_size))

    async def pieces() -> AsyncIterator[bytes]:
        with path.open("rb") as file:  # noqa: ASYNC230 - a regular file: it is read from the page cache or disk at once
            while piece := file.read(_PIECE):
                yield piece

    return pieces, fields, True


async def _standard_input() -> AsyncIterator[bytes]:
    """What comes, as it comes. A pipe is read by the loop: a thread that waits for it could not be interrupted."""
    source = sys.stdin.buffer
    if stat.S_ISREG(os.fstat(source.fileno()).st_mode):
        while piece := source.read(_PIECE):
            yield piece
        return
    reader = asyncio.StreamReader(limit=_PIECE)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
    try:
        while piece := await reader.read(_PIECE):
            yield piece
    finally:
        transport.close()
