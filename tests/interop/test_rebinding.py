"""Peers whose address changes under them, and moves on purpose: aioquic and qh3, both roles."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest
from lossy_relay import LossyRelay
from python_peers import (
    PEERS,
    ask,
    ask_by_theirs,
    client_configuration,
    server_configuration,
    their_client,
    their_server,
)

from certificates import Certificate
from fairway.aio import QuicConfiguration, QuicConnection, Stream, connect, serve
from peer_faults import QH3_LOSES_A_STREAM, despite

CONFIGURATION = QuicConfiguration(handshake_timeout_s=30, keep_alive_s=0.3)
MOVES = {"aioquic": 5, "qh3": 3}
"""How often our client moves: a connection of qh3 2.1 knows four paths (MAX_PATHS in its src/quic/path.rs), forgets
none of them, and drops what comes on a fifth. To follow, it would have to forget the one that it used least lately."""

PAYLOADS = [hashlib.shake_128(bytes((n,))).digest(300_000) for n in range(6)]


def our_client(port: int, certificate: Certificate) -> connect:
    return connect(
        "127.0.0.1",
        port,
        alpn="echo",
        server_name="localhost",
        ca=[certificate.leaf],
        configuration=CONFIGURATION,
        timeout=30,
    )


@pytest.mark.parametrize("peer", PEERS)
@despite(QH3_LOSES_A_STREAM)
def test_our_server_follows_their_clients(peer: str, certificate: Certificate) -> None:
    addresses: set[object] = set()

    async def echo(connection: QuicConnection) -> None:
        async def one(stream: Stream) -> None:
            data = await stream.receive_all()
            addresses.add(connection.peer_address)
            await stream.send(data, end=True)

        async with asyncio.TaskGroup() as tasks:
            async for stream in connection.incoming_streams():
                tasks.create_task(one(stream))

    async def scenario() -> None:
        async with (
            serve(
                echo,
                "127.0.0.1",
                0,
                alpn="echo",
                identities=[certificate.identity],
                configuration=CONFIGURATION,
                grace_s=0,
            ) as server,
            LossyRelay(("127.0.0.1", server.port), 0.0) as relay,
            their_client(peer, relay.port, client_configuration(peer)) as protocol,
        ):
            for data in PAYLOADS:
                assert await ask_by_theirs(protocol, data) == data
                await relay.rebind()
        assert len(addresses) == len(PAYLOADS)

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("peer", PEERS)
@despite(QH3_LOSES_A_STREAM)
def test_our_workers_follow_their_clients(peer: str, certificate: Certificate) -> None:
    """Each of several clients is answered by one worker, wherever it is seen."""

    async def answer_as_process(connection: QuicConnection) -> None:
        async for stream in connection.incoming_streams():
            data = await stream.receive_all()
            await stream.send(os.getpid().to_bytes(4, "big") + data, end=True)

    async def one(port: int) -> int:
        processes = set()
        async with (
            LossyRelay(("127.0.0.1", port), 0.0) as relay,
            their_client(peer, relay.port, client_configuration(peer)) as protocol,
        ):
            for data in PAYLOADS:
                answer = await ask_by_theirs(protocol, data)
                assert answer[4:] == data
                processes.add(answer[:4])
                await relay.rebind()
        (process,) = processes
        return int.from_bytes(process, "big")

    async def scenario() -> None:
        listener = serve(
            answer_as_process,
            "127.0.0.1",
            0,
            alpn="echo",
            identities=[certificate.identity],
            configuration=CONFIGURATION,
            grace_s=0,
        )
        async with listener.with_workers(2) as workers:
            processes = [await one(workers.port) for _ in range(8)]
        assert 1 <= len(set(processes)) <= 2

    asyncio.run(asyncio.wait_for(scenario(), 110))


@pytest.mark.parametrize("peer", PEERS)
@despite(QH3_LOSES_A_STREAM)
def test_their_servers_follow_our_client(peer: str, certificate: Certificate) -> None:
    async def scenario() -> None:
        async with (
            their_server(peer, server_configuration(peer, certificate)) as port,
            LossyRelay(("127.0.0.1", port), 0.0) as relay,
            our_client(relay.port, certificate) as connection,
        ):
            for data in PAYLOADS[: MOVES[peer]]:
                assert await ask(connection, data) == data
                await relay.rebind()
            assert await ask(connection, PAYLOADS[-1]) == PAYLOADS[-1]

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("peer", PEERS)
@despite(QH3_LOSES_A_STREAM)
def test_our_client_moves_on_purpose_at_their_servers(peer: str, certificate: Certificate) -> None:
    async def scenario() -> None:
        async with (
            their_server(peer, server_configuration(peer, certificate)) as port,
            our_client(port, certificate) as connection,
        ):
            for number, data in enumerate(PAYLOADS[: MOVES[peer]]):
                assert await ask(connection, data) == data
                await connection.migrate((f"127.0.0.{number + 2}", 0))
                assert connection.local_address[0] == f"127.0.0.{number + 2}"
            assert await ask(connection, PAYLOADS[-1]) == PAYLOADS[-1]

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("peer", PEERS)
@despite(QH3_LOSES_A_STREAM)
def test_their_servers_follow_our_client_in_the_midst_of_an_upload(peer: str, certificate: Certificate) -> None:
    """When the client is seen at another port its window is full, and qh3 acknowledges to the old one until asked."""
    data = b"".join(PAYLOADS)

    async def scenario() -> None:
        async with (
            their_server(peer, server_configuration(peer, certificate)) as port,
            LossyRelay(("127.0.0.1", port), 0.0) as relay,
            our_client(relay.port, certificate) as connection,
        ):
            for _ in range(3):
                stream = await connection.open_stream()
                await stream.send(data[: len(data) // 2])
                await relay.rebind()
                await stream.send(data[len(data) // 2 :], end=True)
                assert await stream.receive_all() == data

    asyncio.run(asyncio.wait_for(scenario(), 60))
