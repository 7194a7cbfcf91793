"""Streams that are read where their data arrives, without a task's turn."""

from __future__ import annotations

import asyncio

from cryptography.hazmat.primitives import serialization

from fairway.aio import QuicConnection, Stream, connect, serve
from fairway.tls import Identity, self_signed

CERTIFICATE, KEY = self_signed(["127.0.0.1"])
IDENTITY = Identity((CERTIFICATE.public_bytes(serialization.Encoding.DER),), KEY)


async def _conversation(reads: bool, *sent: bytes) -> tuple[list[bytes], bytes]:
    """What the callback of a server's stream was given, and what its task; the callback reads if it `reads`."""
    by_callback: list[bytes] = []
    by_task: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def handler(connection: QuicConnection) -> None:
        stream = await connection.accept_stream()

        def readable() -> bool:
            if reads:
                by_callback.append(stream.receive_now())
            return bool(by_callback and by_callback[-1])

        stream.on_readable = readable
        await stream.send(b"ready")
        by_task.set_result(await stream.receive_all())

    async with (
        serve(handler, "127.0.0.1", 0, alpn="t", identities=[IDENTITY]) as server,
        connect("127.0.0.1", server.address[1], alpn="t", ca=[CERTIFICATE]) as connection,
    ):
        stream: Stream = await connection.open_stream()
        await stream.send(b"first")
        assert await stream.receive() == b"ready"
        for data in sent:
            await stream.send(data)
        stream.finish()
        return by_callback, await by_task


def test_what_the_callback_reads_no_task_is_given_and_the_end_is_left_to_the_task() -> None:
    async def scenario() -> None:
        by_callback, by_task = await _conversation(True, b"second", b"third")
        assert (by_task, b"".join(by_callback)) == (b"first", b"secondthird")

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_what_the_callback_leaves_a_task_is_given() -> None:
    async def scenario() -> None:
        assert await _conversation(False, b"second") == ([], b"firstsecond")

    asyncio.run(asyncio.wait_for(scenario(), 30))
