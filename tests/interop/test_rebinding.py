"""Peers whose address changes under them, and moves on purpose: aioquic and qh3, both roles."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from lossy_relay import LossyRelay

from fairway.aio import QuicConfiguration, QuicConnection, Stream, connect, serve
from fairway.tls import Identity, self_signed

PEERS = ("aioquic", "qh3")
CONFIGURATION = QuicConfiguration(handshake_timeout_s=30, keep_alive_s=0.3)
MOVES = {"aioquic": 5, "qh3": 3}
"""How often our client moves: a connection of qh3 2.1 knows four paths (MAX_PATHS in its src/quic/path.rs), forgets
none of them, and drops what comes on a fifth. To follow, it would have to forget the one that it used least lately."""

PAYLOADS = [hashlib.shake_128(bytes((n,))).digest(300_000) for n in range(6)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Any, Identity]:
    certificate, key = self_signed(["localhost"])
    directory = tmp_path_factory.mktemp("certificate")
    chain, private = Path(directory / "chain.pem"), Path(directory / "key.pem")
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    identity = Identity((certificate.public_bytes(serialization.Encoding.DER),), key)
    return str(chain), str(private), certificate, identity


def peer_configuration(peer: str, **arguments: Any) -> Any:
    module = importlib.import_module(f"{peer}.quic.configuration")
    return module.QuicConfiguration(alpn_protocols=["echo"], **arguments)


async def start_theirs(peer: str, chain: str, key: str) -> tuple[Any, int]:
    """A server of theirs that sends back what comes, and its port."""
    configuration = peer_configuration(peer, is_client=False)
    configuration.load_cert_chain(chain, key)
    running = set()

    async def answer(reader: Any, writer: Any) -> None:
        writer.write(await reader.read())
        writer.write_eof()

    def handle(reader: Any, writer: Any) -> None:
        running.add(asyncio.ensure_future(answer(reader, writer)))

    module = importlib.import_module(f"{peer}.asyncio.server")
    started = await module.serve("127.0.0.1", 0, configuration=configuration, stream_handler=handle)
    return started, started._transport.get_extra_info("sockname")[1]


async def ask(connection: QuicConnection, data: bytes) -> bytes:
    stream = await connection.open_stream()
    await stream.send(data, end=True)
    return await stream.receive_all()


@pytest.mark.parametrize("peer", PEERS)
def test_our_server_follows_their_clients(peer: str, files: Any) -> None:
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
        client = importlib.import_module(f"{peer}.asyncio.client")
        async with (
            serve(
                echo, "127.0.0.1", 0, alpn="echo", identities=[files[3]], configuration=CONFIGURATION, grace_s=0
            ) as server,
            LossyRelay(("127.0.0.1", server.port), 0.0) as relay,
        ):
            configuration = peer_configuration(peer, is_client=True, verify_mode=ssl.CERT_NONE)
            async with client.connect("127.0.0.1", relay.port, configuration=configuration) as protocol:
                for data in PAYLOADS:
                    reader, writer = await protocol.create_stream()
                    writer.write(data)
                    writer.write_eof()
                    assert await reader.read() == data
                    await relay.rebind()
        assert len(addresses) == len(PAYLOADS)

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("peer", PEERS)
def test_our_workers_follow_their_clients(peer: str, files: Any) -> None:
    """Each of several clients is answered by one worker, wherever it is seen."""

    async def answer_as_process(connection: QuicConnection) -> None:
        async for stream in connection.incoming_streams():
            data = await stream.receive_all()
            await stream.send(os.getpid().to_bytes(4, "big") + data, end=True)

    async def one(port: int) -> int:
        client = importlib.import_module(f"{peer}.asyncio.client")
        configuration = peer_configuration(peer, is_client=True, verify_mode=ssl.CERT_NONE)
        processes = set()
        async with (
            LossyRelay(("127.0.0.1", port), 0.0) as relay,
            client.connect("127.0.0.1", relay.port, configuration=configuration) as protocol,
        ):
            for data in PAYLOADS:
                reader, writer = await protocol.create_stream()
                writer.write(data)
                writer.write_eof()
                answer = await reader.read()
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
            identities=[files[3]],
            configuration=CONFIGURATION,
            grace_s=0,
        )
        async with listener.with_workers(2) as workers:
            processes = [await one(workers.port) for _ in range(8)]
        assert 1 <= len(set(processes)) <= 2

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("peer", PEERS)
def test_their_servers_follow_our_client(peer: str, files: Any) -> None:
    async def scenario() -> None:
        chain, key, certificate, _ = files
        started, port = await start_theirs(peer, chain, key)
        async with (
            LossyRelay(("127.0.0.1", port), 0.0) as relay,
            connect(
                "127.0.0.1",
                relay.port,
                alpn="echo",
                server_name="localhost",
                ca=[certificate],
                configuration=CONFIGURATION,
                timeout=30,
            ) as connection,
        ):
            for data in PAYLOADS[: MOVES[peer]]:
                assert await ask(connection, data) == data
                await relay.rebind()
            assert await ask(connection, PAYLOADS[-1]) == PAYLOADS[-1]
        started.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("peer", PEERS)
def test_our_client_moves_on_purpose_at_their_servers(peer: str, files: Any) -> None:
    async def scenario() -> None:
        chain, key, certificate, _ = files
        started, port = await start_theirs(peer, chain, key)
        async with connect(
            "127.0.0.1",
            port,
            alpn="echo",
            server_name="localhost",
            ca=[certificate],
            configuration=CONFIGURATION,
            timeout=30,
        ) as connection:
            for number, data in enumerate(PAYLOADS[: MOVES[peer]]):
                assert await ask(connection, data) == data
                await connection.migrate((f"127.0.0.{number + 2}", 0))
                assert connection.local_address[0] == f"127.0.0.{number + 2}"
            assert await ask(connection, PAYLOADS[-1]) == PAYLOADS[-1]
        started.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("peer", PEERS)
def test_their_servers_follow_our_client_in_the_midst_of_an_upload(peer: str, files: Any) -> None:
    """When the client is seen at another port its window is full, and qh3 acknowledges to the old one until asked."""
    data = b"".join(PAYLOADS)

    async def scenario() -> None:
        chain, key, certificate, _ = files
        started, port = await start_theirs(peer, chain, key)
        async with (
            LossyRelay(("127.0.0.1", port), 0.0) as relay,
            connect(
                "127.0.0.1",
                relay.port,
                alpn="echo",
                server_name="localhost",
                ca=[certificate],
                configuration=CONFIGURATION,
                timeout=30,
            ) as connection,
        ):
            for _ in range(3):
                stream = await connection.open_stream()
                await stream.send(data[: len(data) // 2])
                await relay.rebind()
                await stream.send(data[len(data) // 2 :], end=True)
                assert await stream.receive_all() == data
        started.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
