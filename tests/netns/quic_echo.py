"""One end of an echo over QUIC, as a program: `serve` or `ask`, by fairway, aioquic or qh3.

quic_echo.py serve WHO ADDRESS CHAIN KEY      prints "ready", answers every stream with what came on it
quic_echo.py ask WHO ADDRESS CHAIN            sends streams of many sizes at once, compares what comes back
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import ssl
import sys
from pathlib import Path
from typing import Any

from fairway.aio import QuicConfiguration, QuicConnection, Stream, connect, serve
from fairway.tls import Identity

PORT = 4433
SIZES = (0, 1, 1000, 65_536, 500_000)
OURS = QuicConfiguration(udp_payload=1350, handshake_timeout_s=30)


def payload(size: int) -> bytes:
    return hashlib.shake_128(str(size).encode()).digest(size)


def theirs(who: str, **arguments: Any) -> Any:
    module = importlib.import_module(f"{who}.quic.configuration")
    return module.QuicConfiguration(alpn_protocols=["echo"], **arguments)


async def serve_ours(address: str, chain: str, key: str) -> None:
    async def answer(stream: Stream) -> None:
        await stream.send(await stream.receive_all(), end=True)

    async def handle(connection: QuicConnection) -> None:
        async with asyncio.TaskGroup() as tasks:
            async for stream in connection.incoming_streams():
                tasks.create_task(answer(stream))

    identity = Identity.from_files(Path(chain), Path(key))
    async with serve(handle, address, PORT, alpn="echo", identities=[identity], configuration=OURS):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def serve_theirs(who: str, address: str, chain: str, key: str) -> None:
    configuration = theirs(who, is_client=False)
    configuration.load_cert_chain(chain, key)
    running = set()

    async def answer(reader: Any, writer: Any) -> None:
        writer.write(await reader.read())
        writer.write_eof()

    def handle(reader: Any, writer: Any) -> None:
        running.add(asyncio.ensure_future(answer(reader, writer)))

    module = importlib.import_module(f"{who}.asyncio.server")
    await module.serve(address, PORT, configuration=configuration, stream_handler=handle)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def ask_ours(address: str, chain: str) -> list[bytes]:
    async def one(connection: QuicConnection, data: bytes) -> bytes:
        stream = await connection.open_stream()
        await stream.send(data, end=True)
        return await stream.receive_all()

    options: dict[str, Any] = {"alpn": "echo", "server_name": "localhost", "ca": chain, "timeout": 30}
    async with connect(address, PORT, configuration=OURS, **options) as connection:
        return list(await asyncio.gather(*(one(connection, payload(size)) for size in SIZES)))


async def ask_theirs(who: str, address: str, chain: str) -> list[bytes]:
    async def one(protocol: Any, data: bytes) -> bytes:
        reader, writer = await protocol.create_stream()
        writer.write(data)
        writer.write_eof()
        return bytes(await reader.read())

    configuration = theirs(who, is_client=True, server_name="localhost")
    if who == "qh3":  # takes no certificate for its own authority
        configuration.verify_mode = ssl.CERT_NONE
    configuration.load_verify_locations(chain)
    module = importlib.import_module(f"{who}.asyncio.client")
    async with module.connect(address, PORT, configuration=configuration) as protocol:
        return list(await asyncio.gather(*(one(protocol, payload(size)) for size in SIZES)))


def main(role: str, who: str, address: str, chain: str, key: str = "") -> None:
    if role == "serve":
        asyncio.run(serve_ours(address, chain, key) if who == "fairway" else serve_theirs(who, address, chain, key))
        return
    asking = ask_ours(address, chain) if who == "fairway" else ask_theirs(who, address, chain)
    answers = asyncio.run(asyncio.wait_for(asking, 60))
    assert answers == [payload(size) for size in SIZES], [len(answer) for answer in answers]
    print("all came back", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
