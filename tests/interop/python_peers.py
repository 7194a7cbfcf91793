"""aioquic and qh3, which share one interface, as either end of an echo; and Fairway as the other."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from certificates import Certificate
from fairway.aio import QuicConnection, Stream

PEERS = ("aioquic", "qh3")


def client_configuration(peer: str, **arguments: Any) -> Any:
    """How their client calls; it takes any certificate."""
    module = importlib.import_module(f"{peer}.quic.configuration")
    return module.QuicConfiguration(
        alpn_protocols=["echo"], is_client=True, verify_mode=ssl.CERT_NONE, server_name="localhost", **arguments
    )


def server_configuration(peer: str, certificate: Certificate, **arguments: Any) -> Any:
    """How their server answers."""
    module = importlib.import_module(f"{peer}.quic.configuration")
    configuration = module.QuicConfiguration(alpn_protocols=["echo"], is_client=False, **arguments)
    configuration.load_cert_chain(str(certificate.chain), str(certificate.key))
    return configuration


def their_client(peer: str, port: int, configuration: Any, **options: Any) -> AbstractAsyncContextManager[Any]:
    """A connection of theirs, as long as it is entered."""
    client = importlib.import_module(f"{peer}.asyncio.client").connect
    connection: AbstractAsyncContextManager[Any] = client("127.0.0.1", port, configuration=configuration, **options)
    return connection


@asynccontextmanager
async def their_server(peer: str, configuration: Any, **options: Any) -> AsyncIterator[int]:
    """A server of theirs that sends back what comes on every stream; gives its port."""
    running = set()

    async def answer(reader: Any, writer: Any) -> None:
        writer.write(await reader.read())
        writer.write_eof()

    def handle(reader: Any, writer: Any) -> None:
        running.add(asyncio.ensure_future(answer(reader, writer)))

    module = importlib.import_module(f"{peer}.asyncio.server")
    server = await module.serve("127.0.0.1", 0, configuration=configuration, stream_handler=handle, **options)
    try:
        yield server._transport.get_extra_info("sockname")[1]
    finally:
        server.close()


async def ask_by_theirs(protocol: Any, data: bytes) -> bytes:
    """What comes back on a stream of their client."""
    reader, writer = await protocol.create_stream()
    writer.write(data)
    writer.write_eof()
    return bytes(await reader.read())


async def ask(connection: QuicConnection, data: bytes) -> bytes:
    """What comes back on a stream of our client."""
    stream = await connection.open_stream()
    await stream.send(data, end=True)
    return await stream.receive_all()


async def echo(connection: QuicConnection) -> None:
    """Send back what arrives on every stream."""

    async def one(stream: Stream) -> None:
        await stream.send(await stream.receive_all(), end=True)

    async with asyncio.TaskGroup() as tasks:
        async for stream in connection.incoming_streams():
            tasks.create_task(one(stream))
