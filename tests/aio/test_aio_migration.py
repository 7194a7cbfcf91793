"""Moving over real sockets: a NAT that forgets, a client that moves, a server that would rather be elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization
from udp_relay import Relay

from fairway.aio import (
    ClosedBy,
    ConnectionClosed,
    MigrationError,
    QuicConfiguration,
    QuicConnection,
    Server,
    UsageError,
    connect,
    serve,
)
from fairway.tls import Identity, self_signed

CERTIFICATE, KEY = self_signed(["localhost", "127.0.0.1", "::1"])
IDENTITY = Identity((CERTIFICATE.public_bytes(serialization.Encoding.DER),), KEY)
CONFIGURATION = QuicConfiguration(keep_alive_s=0.2)
SIZE = 4_000_000


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


async def give(connection: QuicConnection) -> None:
    """What the client asks for: so many bytes."""
    async for stream in connection.incoming_streams():
        size = int(await stream.receive_all())
        await stream.send(bytes(size), end=True)


@contextlib.asynccontextmanager
async def server(port: int = 0, **options: object) -> AsyncIterator[Server[QuicConnection]]:
    options.setdefault("configuration", CONFIGURATION)
    async with serve(give, "127.0.0.1", port, alpn="t", identities=[IDENTITY], grace_s=0.0, **options) as running:
        yield running


async def download(connection: QuicConnection, size: int, each: Callable[[int], Awaitable[None]] | None = None) -> int:
    stream = await connection.open_stream()
    await stream.send(str(size).encode(), end=True)
    got = 0
    while data := await stream.receive():
        got += len(data)
        if each is not None:
            await each(got)
    return got


def client(port: int, **options: object) -> connect:
    options.setdefault("configuration", CONFIGURATION)
    return connect("127.0.0.1", port, alpn="t", ca=[CERTIFICATE], **options)  # type: ignore[arg-type]


class TestNat:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.7"])
    def test_a_download_survives_a_nat_that_forgets_again_and_again(self, host: str) -> None:
        async def scenario() -> None:
            async with server() as running:
                relay = Relay(("127.0.0.1", running.port))
                rebound = 0

                async def forget(got: int) -> None:
                    nonlocal rebound
                    if got > (rebound + 1) * SIZE // 6:
                        rebound += 1
                        relay.rebind(host)

                try:
                    async with client(relay.port) as connection:
                        assert await download(connection, SIZE, forget) == SIZE
                        assert len(running.connections) == 1
                        assert running.connections[0].peer_address[0] == host
                finally:
                    relay.close()
                assert rebound >= 4

        run(scenario)


class TestMigrate:
    def test_a_client_moves_to_another_address_in_the_midst_of_a_download(self) -> None:
        async def scenario() -> None:
            async with server() as running, client(running.port) as connection:
                moves: list[str] = []

                async def move(got: int) -> None:
                    if got > (len(moves) + 1) * SIZE // 4 and len(moves) < 3:
                        host = f"127.0.0.{2 + len(moves)}"
                        moves.append(host)
                        await connection.migrate((host, 0))
                        assert connection.local_address[0] == host

                assert await download(connection, SIZE, move) == SIZE
                assert len(moves) == 3
                assert await download(connection, 1000) == 1000
                assert running.connections[0].peer_address[0] == "127.0.0.4"

        run(scenario)

    def test_without_an_address_the_client_moves_to_another_port(self) -> None:
        async def scenario() -> None:
            async with server() as running, client(running.port) as connection:
                before = connection.local_address
                await connection.migrate()
                assert connection.local_address[0] == before[0]
                assert connection.local_address[1] != before[1]
                assert await download(connection, 100_000) == 100_000

        run(scenario)

    def test_where_the_path_does_not_answer_it_stays_and_says_so(self) -> None:
        async def scenario() -> None:
            async with server() as running:
                relay = Relay(("127.0.0.1", running.port))
                try:
                    async with client(relay.port) as connection:
                        assert await download(connection, 1000) == 1000
                        before = connection.local_address
                        blocked = asyncio.ensure_future(connection.migrate())
                        relay.open = False
                        with pytest.raises(MigrationError):
                            await blocked
                        relay.open = True
                        assert connection.local_address == before
                        assert await download(connection, 100_000) == 100_000
                finally:
                    relay.close()

        run(scenario)

    def test_an_address_that_this_host_does_not_have_is_an_error_and_moves_nothing(self) -> None:
        async def scenario() -> None:
            async with server() as running, client(running.port) as connection:
                before = connection.local_address
                with pytest.raises(OSError, match="assign"):
                    await connection.migrate(("192.0.2.77", 0))
                assert connection.local_address == before
                assert await download(connection, 1000) == 1000

        run(scenario)

    def test_a_servers_connection_does_not_move(self) -> None:
        async def scenario() -> None:
            async with server() as running, client(running.port) as connection:
                await download(connection, 10)
                with pytest.raises(UsageError, match="only clients"):
                    await running.connections[0].migrate()

        run(scenario)

    def test_a_server_that_forbids_it_is_obeyed(self) -> None:
        async def scenario() -> None:
            forbids = replace(CONFIGURATION, disable_active_migration=True)
            async with server(configuration=forbids) as running, client(running.port) as connection:
                with pytest.raises(UsageError, match="disable_active_migration"):
                    await connection.migrate()
                assert await download(connection, 1000) == 1000

        run(scenario)


class TestPreferredAddress:
    def test_clients_go_there_after_the_handshake(self) -> None:
        async def scenario() -> None:
            async with (
                server(preferred_address=("127.0.0.9", 0)) as running,
                client(running.port) as connection,
            ):
                async with asyncio.timeout(5):
                    while connection.peer_address[0] != "127.0.0.9":
                        await download(connection, 1000)
                assert await download(connection, SIZE) == SIZE
                assert running.connections[0].core.path.local is not None

        run(scenario)


class TestStatelessReset:
    def test_a_client_learns_at_once_that_the_server_was_restarted(self) -> None:
        async def scenario() -> None:
            async with server(reset_key=b"a static secret") as first:
                connection = await client(first.port)
                relay_port = first.port
                for transport in first.connections:
                    transport.abort("crashed")  # nothing is sent
            async with server(relay_port, reset_key=b"a static secret"):
                stream = await connection.open_stream()
                await stream.send(b"1000", end=True)
                with pytest.raises(ConnectionClosed) as raised:
                    await stream.receive_all()
                assert raised.value.closing.by is ClosedBy.RESET
                connection.close()

        run(scenario)


class TestMarks:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    @pytest.mark.parametrize("everywhere", [False, True], ids=["one family", "both families"])
    def test_ecn_marks_are_sent_counted_and_found_good(self, host: str, everywhere: bool) -> None:
        async def scenario() -> None:
            async with (
                serve(give, None if everywhere else host, 0, alpn="t", identities=[IDENTITY], grace_s=0.0) as running,
                connect(host, running.port, alpn="t", ca=[CERTIFICATE]) as connection,
            ):
                assert await download(connection, SIZE) == SIZE
                for end in (running.connections[0], connection):
                    for _ in range(50):  # until what says so was acknowledged
                        if end.statistics()["ecn_capable"]:
                            break
                        await download(connection, 10_000)
                    assert end.statistics()["ecn_capable"] == 1

        run(scenario)
