"""Sessions that outlive the process: what the file keeps, who can read it, and what a broken one does."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fairway.aio import FileSessionStore, QuicConnection, connect, serve
from fairway.tls import ServerConfig, Tickets, self_signed_identity

IDENTITY = self_signed_identity(["localhost"])
SERVER = ("localhost", 443, ("echo",))


async def echo(connection: QuicConnection) -> None:
    async for stream in connection.incoming_streams():
        await stream.send(await stream.receive_all(), end=True)


def tls() -> ServerConfig:
    return ServerConfig((IDENTITY,), ("echo",), tickets=Tickets(early_data=True))


async def visit(port: int, path: Path, **options: Any) -> QuicConnection:
    """One exchange by a client that knows nothing but the file."""
    store = FileSessionStore(path)
    async with connect(
        "localhost", port, alpn="echo", verify=False, session_store=store, early_data=True, **options
    ) as connection:
        stream = await connection.open_stream()
        await stream.send(b"hello", end=True)
        assert await stream.receive_all() == b"hello"
        await connection.wait_connected()
    assert store.failure is None
    return connection


def test_the_next_process_resumes_and_sends_early(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "sessions.json"

    async def scenario() -> list[tuple[bool, bool | None]]:
        told = []
        async with serve(echo, "127.0.0.1", 0, alpn="echo", identities=(), tls=tls(), grace_s=0) as server:
            for _ in range(3):
                connection = await visit(server.port, path)
                assert connection.handshake is not None
                told.append((connection.handshake.resumed, connection.early))
        return told

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == [(False, None), (True, True), (True, True)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_early_data_goes_to_the_address_where_the_server_was(tmp_path: Path) -> None:
    """A name with two addresses, at the first of which nobody listens."""

    async def resolve(host: str, port: int) -> list[Any]:
        kinds = socket.SOCK_DGRAM, socket.IPPROTO_UDP
        return [(socket.AF_INET, *kinds, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1")]

    async def scenario() -> list[bool | None]:
        async with serve(echo, "127.0.0.1", 0, alpn="echo", identities=(), tls=tls(), grace_s=0) as server:
            return [(await visit(server.port, tmp_path / "s", resolve=resolve)).early for _ in range(3)]

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == [None, True, True]


def test_a_server_that_has_gone_is_looked_for_everywhere_next_time(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def scenario() -> None:
        async with serve(echo, "127.0.0.1", 0, alpn="echo", identities=(), tls=tls(), grace_s=0) as server:
            port = server.port
            await visit(port, path)
        connection = await connect(
            "localhost", port, alpn="echo", verify=False, session_store=FileSessionStore(path), early_data=True
        )
        await connection.wait_closed()

    asyncio.run(asyncio.wait_for(scenario(), 20))
    (server,) = json.loads(path.read_text())["servers"]
    assert server["address"] is None


def test_tokens_are_taken_once_and_writers_do_not_lose_each_others(tmp_path: Path) -> None:
    path = tmp_path / "s"

    def save(number: int) -> None:
        FileSessionStore(path).save_token((f"server{number}", 443, ("echo",)), b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(40)))
    store = FileSessionStore(path)
    taken = [store.take_token((f"server{number}", 443, ("echo",))) for number in range(40)]
    assert taken == [b"%d" % number for number in range(40)]
    assert store.take_token(("server0", 443, ("echo",))) is None
    assert sorted(os.listdir(tmp_path)) == ["s", "s.lock"]


def test_a_file_that_is_no_store_counts_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for content in (b"\xff\x00", b"[]", b'{"format":1}', b'{"format":1,"servers":[{"name":1}]}', b'{"format":2}'):
        path.write_bytes(content)
        store = FileSessionStore(path)
        assert store.take_session(SERVER) is None
        store.save_token(SERVER, b"token")
        assert FileSessionStore(path).take_token(SERVER) == b"token"


def test_where_nothing_can_be_written_nothing_is_kept_and_the_reason_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = FileSessionStore(tmp_path / "file" / "sessions.json")
    store.save_token(SERVER, b"token")
    assert store.take_token(SERVER) is None
    assert isinstance(store.failure, OSError)
