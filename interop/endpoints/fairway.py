"""Fairway as a client and as a server: `python -m interop.endpoints.fairway client|server`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Any

from fairway.aio import QuicConfiguration, QuicConnection, Stream, connect, http3, serve
from fairway.aio.keylog import keylog_to
from fairway.quic import MemorySessionStore
from fairway.tls import CipherSuite, ClientConfig, Identity, ServerConfig, Tickets
from interop.endpoints.environment import PORT, Environment, environment

PIECE = 1 << 18
VERSION_1, VERSION_2 = 0x00000001, 0x6B3343CF
UPDATE_AFTER = 100_000
"""Bytes after which a client changes its keys in `keyupdate`."""


def configuration(asked: Environment, *, is_client: bool) -> QuicConfiguration:
    """As it comes, but for what the case is about."""
    options: dict[str, Any] = {"handshake_timeout_s": 60.0, "idle_timeout_s": 60.0}
    if asked.case == "transfer":  # windows that must be raised for the files to pass
        options |= {"stream_window": 1 << 16, "connection_window": 3 << 15}
    if asked.case.startswith("rebind") and is_client:  # who only receives does not notice that a NAT has forgotten it
        options |= {"keep_alive_s": 1.0}
    if asked.case == "v2":
        options |= {"versions": (VERSION_2, VERSION_1)}
        if is_client:
            options |= {"first_version": VERSION_1}
    return QuicConfiguration(**options)


# The server


async def _answer(asked: Environment, stream: Stream) -> None:
    """HTTP/0.9: `GET /path` and the end; the file and the end."""
    words = (await stream.receive_all(4096)).split()
    file = asked.file(words[1].decode()) if len(words) > 1 and words[0] == b"GET" else None
    if file is None:
        stream.reset(1)
        return
    await stream.send(file.read_bytes(), end=True)


async def _hq(asked: Environment, connection: QuicConnection) -> None:
    async with asyncio.TaskGroup() as tasks:
        async for stream in connection.incoming_streams():
            tasks.create_task(_answer(asked, stream))


async def _h3(asked: Environment, request: http3.Request) -> None:
    file = asked.file((request.field(b":path") or b"").decode())
    if file is None:
        request.respond([(b":status", b"404")], end=True)
        return
    content = file.read_bytes()
    request.respond([(b":status", b"200"), (b"content-length", b"%d" % len(content))])
    await request.send(content, end=True)


async def server(asked: Environment) -> None:
    """Serve until killed."""
    identity = Identity.from_files(asked.certs / "chain.pem", asked.certs / "key.pem")
    tls = ServerConfig((identity,), (asked.alpn,), tickets=Tickets(early_data=asked.case == "zerortt"))
    options: dict[str, Any] = {
        "identities": (),
        "tls": tls,
        "configuration": configuration(asked, is_client=False),
        "retry": asked.case == "retry",
    }
    if asked.case == "connectionmigration":
        options["preferred_address"] = (os.environ["PREFERRED"], PORT + 1)

    async def answer(connection: QuicConnection) -> None:
        await _hq(asked, connection)

    async def respond(request: http3.Request) -> None:
        await _h3(asked, request)

    if asked.protocol == "hq":
        await serve(answer, None, PORT, alpn=asked.alpn, **options)
    else:
        await http3.serve(respond, None, PORT, **options)
    await asyncio.Event().wait()


# The client


async def _get(asked: Environment, connection: Any, path: str) -> None:
    if asked.protocol == "hq":
        body: Any = await connection.open_stream()
        await body.send(f"GET {path}\r\n".encode(), end=True)
    else:
        body = await connection.request("GET", asked.host, path)
        if body.status != 200:
            raise OSError(f"{path}: status {body.status}")
    received = 0
    with asked.target(path).open("wb") as file:
        while data := await body.receive(PIECE):
            file.write(data)
            if asked.case == "keyupdate" and received < UPDATE_AFTER <= received + len(data):
                connection.core.update_keys(asyncio.get_running_loop().time())
            received += len(data)


async def client(asked: Environment) -> None:
    """Fetch everything; raises what goes wrong."""
    suites: dict[str, Any] = (
        {"cipher_suites": (CipherSuite.CHACHA20_POLY1305_SHA256,)} if asked.case == "chacha20" else {}
    )
    tls = ClientConfig(asked.host, (asked.alpn,), ca=str(asked.certs / "ca.pem"), keylog=keylog_to(None), **suites)
    options: dict[str, Any] = {
        "tls": tls,
        "alpn": asked.alpn,
        "timeout": 60.0,
        "configuration": configuration(asked, is_client=True),
        "session_store": MemorySessionStore(),
        "early_data": asked.case == "zerortt",
    }
    for paths in asked.connections:
        dial = connect if asked.protocol == "hq" else http3.connect
        async with dial(asked.host, PORT, **options) as connection:
            await asyncio.gather(*(_get(asked, connection, path) for path in paths))


def main(role: str) -> None:
    """Do the environment's case."""
    asked = environment()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(client(asked) if role == "client" else server(asked))


if __name__ == "__main__":
    main(sys.argv[1])
