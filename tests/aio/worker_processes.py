"""`serve(...).with_workers(N)` in a test: what its workers answer, and clients that ask them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from fairway.aio import QuicConfiguration, QuicConnection, Stream, connect, serve
from fairway.aio.workers.serving import Workers
from fairway.tls import self_signed_identity

IDENTITY = self_signed_identity(["localhost"])
ALPN = "workers"
LIVELY = QuicConfiguration(idle_timeout_s=60.0, keep_alive_s=0.5)


class Answers:
    """A client asks for `pid`, or for so many bytes, at a pace of so many bytes each tenth of a second."""

    def __init__(self, early: Path | None = None) -> None:
        self._early = early

    async def __call__(self, connection: QuicConnection) -> None:
        async with asyncio.TaskGroup() as tasks:
            async for stream in connection.incoming_streams():
                if stream.early and self._early is not None:
                    with self._early.open("a") as noted:
                        noted.write(f"{os.getpid()}\n")
                tasks.create_task(self._answer(stream))

    async def _answer(self, stream: Stream) -> None:
        word, _, rest = (await stream.receive_all()).decode().partition(" ")
        if word == "pid":
            await stream.send(str(os.getpid()).encode(), end=True)
            return
        size, pace = map(int, rest.split())
        for start in range(0, size, pace):
            await stream.send(bytes(min(pace, size - start)))
            await asyncio.sleep(0.1)
        stream.finish()


def run(scenario: Callable[[], Awaitable[None]], timeout_s: float = 60) -> None:
    asyncio.run(asyncio.wait_for(scenario(), timeout_s))


@contextlib.asynccontextmanager
async def workers(count: int = 2, handler: Any = None, port: int = 0, **options: Any) -> AsyncIterator[Workers]:
    options = {"alpn": ALPN, "identities": [IDENTITY], "grace_s": 1.0, "configuration": LIVELY} | options
    async with serve(handler or Answers(), "127.0.0.1", port, **options).with_workers(count) as running:
        yield running


def client(port: int, **options: Any) -> connect:
    return connect("127.0.0.1", port, alpn=ALPN, verify=False, configuration=LIVELY, **options)


async def ask(connection: QuicConnection, question: str = "pid") -> bytes:
    stream = await connection.open_stream()
    await stream.send(question.encode(), end=True)
    return await stream.receive_all()


async def pid(connection: QuicConnection) -> int:
    return int(await ask(connection))


async def one_of_each(stack: contextlib.AsyncExitStack, port: int, count: int) -> dict[int, QuicConnection]:
    """A connection to each worker."""
    found: dict[int, QuicConnection] = {}
    while len(found) < count:
        connection = await stack.enter_async_context(client(port))
        if found.setdefault(await pid(connection), connection) is not connection:
            connection.close()
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def children(process: int) -> set[int]:
    return set(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


def descriptors(process: int) -> int:
    """How many it has open."""
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


async def gone(processes: set[int]) -> None:
    while any(map(alive, processes)):  # noqa: ASYNC110 - they are no children of ours
        await asyncio.sleep(0.02)
