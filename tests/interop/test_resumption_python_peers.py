"""aioquic and qh3 as peers that resume sessions, both roles; and curl as a client."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from fairway.aio import QuicConnection, connect, serve
from fairway.quic import MemorySessionStore
from fairway.tls import CipherSuite, ClientConfig, Identity, ServerConfig, Tickets, self_signed

PEERS = ("aioquic", "qh3")


async def echo(connection: QuicConnection) -> None:
    async for stream in connection.incoming_streams():
        await stream.send(await stream.receive_all(), end=True)


@pytest.mark.parametrize("peer", PEERS)
def test_their_clients_resume_with_our_server(peer: str) -> None:
    async def scenario() -> None:
        leaf, key = self_signed(["localhost"])
        identity = Identity((leaf.public_bytes(serialization.Encoding.DER),), key)
        client = importlib.import_module(f"{peer}.asyncio.client")
        module = importlib.import_module(f"{peer}.quic.configuration")
        tickets: list[Any] = []
        async with serve(echo, "127.0.0.1", 0, alpn="echo", identities=[identity], grace_s=0) as server:
            for visit in range(3):
                configuration = module.QuicConfiguration(
                    alpn_protocols=["echo"],
                    is_client=True,
                    verify_mode=ssl.CERT_NONE,
                    server_name="localhost",
                    session_ticket=tickets[-1] if tickets else None,
                )
                async with client.connect(
                    "127.0.0.1", server.port, configuration=configuration, session_ticket_handler=tickets.append
                ) as protocol:
                    reader, writer = await protocol.create_stream()
                    writer.write(b"once more")
                    writer.write_eof()
                    assert await reader.read() == b"once more"
                    ours = server.connections[-1].handshake
                    assert ours is not None
                    assert ours.resumed is (visit > 0)
                    assert len(tickets) == visit + 1

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize("suite", [CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384])
@pytest.mark.parametrize("peer", PEERS)
def test_our_client_resumes_with_their_servers(peer: str, suite: CipherSuite, tmp_path: Path) -> None:
    async def scenario() -> None:
        leaf, key = self_signed(["localhost"])
        chain, private = tmp_path / "chain.pem", tmp_path / "key.pem"
        chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        server = importlib.import_module(f"{peer}.asyncio.server")
        module = importlib.import_module(f"{peer}.quic.configuration")
        configuration = module.QuicConfiguration(alpn_protocols=["echo"], is_client=False)
        configuration.load_cert_chain(str(chain), str(private))
        running: list[Any] = []
        kept: dict[bytes, Any] = {}

        async def answer(reader: Any, writer: Any) -> None:
            writer.write(await reader.read())
            writer.write_eof()

        started = await server.serve(
            "127.0.0.1",
            0,
            configuration=configuration,
            session_ticket_fetcher=lambda label: kept.pop(label, None),
            session_ticket_handler=lambda ticket: kept.__setitem__(ticket.ticket, ticket),
            stream_handler=lambda reader, writer: running.append(asyncio.ensure_future(answer(reader, writer))),
        )
        port = started._transport.get_extra_info("sockname")[1]
        store = MemorySessionStore()
        tls = ClientConfig("localhost", ("echo",), ca=[leaf], cipher_suites=(suite,))
        for visit in range(3):
            async with connect("127.0.0.1", port, alpn="echo", tls=tls, session_store=store) as connection:
                assert connection.handshake is not None
                assert connection.handshake.resumed is (visit > 0)
                stream = await connection.open_stream()
                await stream.send(b"once more", end=True)
                assert await stream.receive_all() == b"once more"
        started.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("peer", PEERS)
def test_early_data_of_their_clients_reaches_our_server(peer: str, accepts: bool) -> None:
    async def scenario() -> None:
        leaf, key = self_signed(["localhost"])
        identity = Identity((leaf.public_bytes(serialization.Encoding.DER),), key)
        client = importlib.import_module(f"{peer}.asyncio.client")
        module = importlib.import_module(f"{peer}.quic.configuration")
        tickets: list[Any] = []
        early: list[bool] = []

        async def noting(connection: QuicConnection) -> None:
            async for stream in connection.incoming_streams():
                early.append(stream.early)
                await stream.send(await stream.receive_all(), end=True)

        ours = Tickets(early_data=True)
        tls = ServerConfig((identity,), ("echo",), tickets=ours)
        async with serve(noting, "127.0.0.1", 0, alpn="echo", identities=(), tls=tls, grace_s=0) as server:
            for visit in range(2):
                configuration = module.QuicConfiguration(
                    alpn_protocols=["echo"],
                    is_client=True,
                    verify_mode=ssl.CERT_NONE,
                    server_name="localhost",
                    session_ticket=tickets[-1] if tickets else None,
                )
                async with client.connect(
                    "127.0.0.1",
                    server.port,
                    configuration=configuration,
                    session_ticket_handler=tickets.append,
                    wait_connected=not visit,
                ) as protocol:
                    reader, writer = await protocol.create_stream()
                    writer.write(b"at once")
                    writer.write_eof()
                    assert await reader.read() == b"at once"
                ours.early_data = accepts
        assert early == [False, accepts]

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize("peer", PEERS)
def test_our_early_data_reaches_their_servers(peer: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        leaf, key = self_signed(["localhost"])
        chain, private = tmp_path / "chain.pem", tmp_path / "key.pem"
        chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        server = importlib.import_module(f"{peer}.asyncio.server")
        module = importlib.import_module(f"{peer}.quic.configuration")
        configuration = module.QuicConfiguration(alpn_protocols=["echo"], is_client=False)
        configuration.load_cert_chain(str(chain), str(private))
        running: list[Any] = []
        kept: dict[bytes, Any] = {}

        async def answer(reader: Any, writer: Any) -> None:
            writer.write(await reader.read())
            writer.write_eof()

        started = await server.serve(
            "127.0.0.1",
            0,
            configuration=configuration,
            session_ticket_fetcher=lambda label: kept.pop(label, None),
            session_ticket_handler=lambda ticket: kept.__setitem__(ticket.ticket, ticket),
            stream_handler=lambda reader, writer: running.append(asyncio.ensure_future(answer(reader, writer))),
        )
        port = started._transport.get_extra_info("sockname")[1]
        store = MemorySessionStore()
        tls = ClientConfig("localhost", ("echo",), ca=[leaf])
        accepted = []
        for visit in range(3):
            if visit == 2:
                kept.clear()  # the server has forgotten: early data is rejected
            async with connect(
                "127.0.0.1", port, alpn="echo", tls=tls, session_store=store, early_data=True
            ) as connection:
                assert connection.core.early is (visit > 0)
                stream = await connection.open_stream()
                await stream.send(b"at once", end=True)
                assert await stream.receive_all() == b"at once"
                await connection.wait_connected()
                accepted.append(connection.early)
        assert accepted == [None, True, False]
        started.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))
