"""Resumption and 0-RTT through sockets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from fairway.aio import QuicConnection, connect, http3, serve
from fairway.http3 import DEFAULT_SETTINGS, Settings
from fairway.quic import MemorySessionStore
from fairway.tls import ServerConfig, Tickets, self_signed_identity

IDENTITY = self_signed_identity(["localhost"])


class Echo:
    """Sends back what arrives, and notes what was early."""

    def __init__(self) -> None:
        self.early: list[bool] = []
        self.complete: list[bool] = []

    async def __call__(self, connection: QuicConnection) -> None:
        async for stream in connection.incoming_streams():
            self.early.append(stream.early)
            self.complete.append(connection.handshake is not None)
            await stream.send(await stream.receive_all(), end=True)


def tls(early_data: bool = True) -> ServerConfig:
    return ServerConfig((IDENTITY,), ("echo",), tickets=Tickets(early_data=early_data))


async def ask(connection: QuicConnection, data: bytes) -> bytes:
    stream = await connection.open_stream()
    await stream.send(data, end=True)
    return await stream.receive_all()


def visiting(port: int, store: MemorySessionStore, **options: Any) -> connect:
    return connect("127.0.0.1", port, alpn="echo", verify=False, session_store=store, **options)


def test_data_goes_before_the_handshake_is_complete() -> None:
    async def scenario() -> None:
        echo, store = Echo(), MemorySessionStore()
        async with serve(echo, "127.0.0.1", 0, alpn="echo", identities=(), tls=tls(), grace_s=0) as server:
            async with visiting(server.port, store, early_data=True) as connection:
                assert connection.handshake is not None
                assert await ask(connection, b"first") == b"first"
            async with visiting(server.port, store, early_data=True) as connection:
                assert connection.handshake is None
                assert await ask(connection, b"second") == b"second"
                await connection.wait_connected()
                assert connection.early is True
                assert connection.handshake is not None
                assert connection.handshake.resumed
                assert await ask(connection, b"third") == b"third"
        assert echo.early == [False, True, False]
        assert echo.complete == [True, False, True]

    asyncio.run(asyncio.wait_for(scenario(), 20))


@pytest.mark.parametrize("retry", [False, True])
def test_rejected_data_is_sent_again_by_itself(retry: bool) -> None:
    async def scenario() -> None:
        echo, store = Echo(), MemorySessionStore()
        options: dict[str, Any] = {"alpn": "echo", "identities": (), "grace_s": 0, "retry": retry}
        async with serve(echo, "127.0.0.1", 0, tls=tls(), **options) as server:
            port = server.port
            async with visiting(port, store) as connection:
                assert await ask(connection, b"first") == b"first"
        async with (
            serve(echo, "127.0.0.1", port, tls=tls(), **options) as server,
            visiting(server.port, store, early_data=True) as connection,
        ):
            assert connection.handshake is None
            assert await ask(connection, bytes(100_000)) == bytes(100_000)
            assert connection.early is False
            assert connection.handshake is not None  # type: ignore[unreachable]
        assert echo.early == [False, False]

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_who_does_not_ask_for_it_sends_nothing_early() -> None:
    async def scenario() -> None:
        echo, store = Echo(), MemorySessionStore()
        async with serve(echo, "127.0.0.1", 0, alpn="echo", identities=(), tls=tls(), grace_s=0) as server:
            for _ in range(2):
                async with visiting(server.port, store) as connection:
                    assert connection.handshake is not None
                    assert await ask(connection, b"data") == b"data"
            assert connection.handshake.resumed
        assert echo.early == [False, False]

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_http_requests_that_came_early_are_marked_and_unsafe_ones_answered_by_425() -> None:
    async def scenario() -> None:
        seen: list[tuple[bytes | None, bool]] = []

        async def handler(request: http3.Request) -> None:
            seen.append((request.field(b":method"), request.early))
            request.respond([(b":status", b"200")], b"done", end=True)

        store = MemorySessionStore()
        h3 = ServerConfig((IDENTITY,), ("h3",), tickets=Tickets(early_data=True))
        async with http3.serve(handler, "127.0.0.1", 0, identities=(), tls=h3, grace_s=0) as server:
            statuses = []
            for method in ("GET", "GET", "POST"):
                async with http3.connect(
                    "127.0.0.1", server.port, verify=False, session_store=store, early_data=True
                ) as connection:
                    response = await connection.request(method, "localhost")
                    await response.receive_all()
                    await connection.wait_connected()
                    statuses.append(response.status)
                    again = await connection.request(method, "localhost")  # a ticket has arrived by then
                    statuses.append(again.status)
        assert statuses == [200, 200, 200, 200, 425, 200]
        assert seen == [(b"GET", False), (b"GET", False), (b"GET", True), (b"GET", False), (b"POST", False)]

    asyncio.run(asyncio.wait_for(scenario(), 20))


@pytest.mark.parametrize(
    ("settings", "early"),
    [
        (DEFAULT_SETTINGS, True),
        (replace(DEFAULT_SETTINGS, max_field_section_size=1000), False),
        (replace(DEFAULT_SETTINGS, qpack_max_table_capacity=8192), False),
    ],
    ids=["the same", "smaller fields", "another table"],
)
def test_requests_come_early_only_where_the_settings_are_those_that_the_client_knows(
    settings: Settings, early: bool
) -> None:
    """RFC 9114 section 7.2.4.2."""

    async def handler(request: http3.Request) -> None:
        request.respond([(b":status", b"200")], end=True)

    async def scenario() -> None:
        store, port = MemorySessionStore(), 0
        h3 = ServerConfig((IDENTITY,), ("h3",), tickets=Tickets(early_data=True))
        for told in (DEFAULT_SETTINGS, settings):
            async with http3.serve(
                handler, "127.0.0.1", port, identities=(), tls=h3, grace_s=0, settings=told
            ) as server:
                port = server.port
                async with http3.connect(
                    "127.0.0.1", port, verify=False, session_store=store, early_data=True
                ) as connection:
                    for _ in range(2):  # a ticket has arrived by the second
                        assert (await connection.request("GET", "localhost")).status == 200
                    await connection.wait_connected()
        assert connection.handshake is not None
        assert connection.handshake.resumed
        assert connection.early is early

    asyncio.run(asyncio.wait_for(scenario(), 20))
