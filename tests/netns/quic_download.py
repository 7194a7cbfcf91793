"""A download over QUIC whose way is changed meanwhile, as two programs.

quic_download.py serve ADDRESS CHAIN KEY     prints "ready"; when the client says that it is over, what it saw of it
quic_download.py workers ADDRESS CHAIN KEY   the same by four processes
quic_download.py get ADDRESS CHAIN SIZE      prints "begun" after a tenth, at the end the SHAKE of what came, as JSON

Their secrets go to $SSLKEYLOGFILE: each handshake makes new ones, so it tells how many there were.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path

from fairway.aio import QuicConfiguration, QuicConnection, Stream, connect, serve
from fairway.tls import Identity

PORT = 4433
OURS = QuicConfiguration(handshake_timeout_s=30, keep_alive_s=0.5)
BLOCK = hashlib.shake_128(b"fairway").digest(1 << 20)


async def answer(stream: Stream) -> None:
    left = int(await stream.receive_all())
    while left > 0:
        await stream.send(BLOCK[:left])
        left -= len(BLOCK)
    stream.finish()


async def serving(address: str, chain: str, key: str, workers: int = 0) -> None:
    async def handle(connection: QuicConnection) -> None:
        first = connection.peer_address
        async with asyncio.TaskGroup() as tasks:
            async for stream in connection.incoming_streams():
                if stream.unidirectional:
                    await stream.receive_all()
                    print(json.dumps(connection.peer_address != first), flush=True)
                else:
                    tasks.create_task(answer(stream))

    identity = Identity.from_files(Path(chain), Path(key))
    listener = serve(handle, address, PORT, alpn="d", identities=[identity], configuration=OURS)
    async with listener.with_workers(workers) if workers else listener:
        print("ready", flush=True)
        await asyncio.Event().wait()


async def get(address: str, chain: str, size: int) -> None:
    digest, got, begun = hashlib.shake_128(), 0, False
    async with connect(
        address, PORT, alpn="d", server_name="localhost", ca=chain, configuration=OURS, timeout=30
    ) as connection:
        stream = await connection.open_stream()
        await stream.send(str(size).encode(), end=True)
        while data := await stream.receive():
            digest.update(data)
            got += len(data)
            if not begun and got > size // 10:
                begun = True
                print("begun", flush=True)
        report = {
            "bytes": got,
            "same": digest.digest(16) == expected(size),
            "from": connection.local_address[0],
            "packet_size": connection.core.path.packet_size,
        }
        over = await connection.open_stream(unidirectional=True)
        await over.send(b"over", end=True)
    print(json.dumps(report), flush=True)


def expected(size: int) -> bytes:
    digest = hashlib.shake_128()
    for _ in range(size // len(BLOCK)):
        digest.update(BLOCK)
    digest.update(BLOCK[: size % len(BLOCK)])
    return digest.digest(16)


def main(role: str, address: str, chain: str, last: str) -> None:
    if role == "get":
        asyncio.run(get(address, chain, int(last)))
    else:
        asyncio.run(serving(address, chain, last, 4 if role == "workers" else 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
