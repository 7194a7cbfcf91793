"""aioquic and qh3 as peers where addresses have to be proved: Retry, and tokens for the next visit."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from lossy_relay import LossyRelay

from fairway.aio import QuicConnection, connect, serve
from fairway.quic import MemorySessionStore
from fairway.tls import Identity, self_signed

PEERS = ("aioquic", "qh3")


async def echo(connection: QuicConnection) -> None:
    async for stream in connection.incoming_streams():
        await stream.send(await stream.receive_all(), end=True)


@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize("peer", PEERS)
def test_their_clients_follow_our_retry(peer: str, loss: float) -> None:
    async def scenario() -> None:
        leaf, key = self_signed(["localhost"])
        identity = Identity((leaf.public_bytes(serialization.Encoding.DER),), key)
        client = importlib.import_module(f"{peer}.asyncio.client")
        module = importlib.import_module(f"{peer}.quic.configuration")
        tokens: list[bytes] = []
        # qh3 hands no tokens out: each of its visits follows a Retry.
        keeping: dict[str, Any] = {"token_handler": tokens.append} if peer == "aioquic" else {}
        async with (
            serve(echo, "127.0.0.1", 0, alpn="echo", identities=[identity], retry=True, grace_s=0) as server,
            LossyRelay(("127.0.0.1", server.port), loss) as relay,
        ):
            for visit in range(2):
                configuration = module.QuicConfiguration(
                    alpn_protocols=["echo"], is_client=True, verify_mode=ssl.CERT_NONE
                )
                if tokens:
                    configuration.token = tokens[0]
                async with client.connect("127.0.0.1", relay.port, configuration=configuration, **keeping) as protocol:
                    reader, writer = await protocol.create_stream()
                    writer.write(b"proved")
                    writer.write_eof()
                    assert await reader.read() == b"proved"
                    (ours,) = server.connections[-1:]
                    assert ours.core.path.validated
                    # A client that has followed a Retry says so in what it was told of the connection IDs.
                    retried = protocol._quic._retry_source_connection_id is not None
                    assert retried is (visit == 0 or not keeping)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_our_client_follows_the_retry_of_aioquic(tmp_path: Path) -> None:
    async def scenario() -> None:
        leaf, key = self_signed(["localhost"])
        chain, private = tmp_path / "chain.pem", tmp_path / "key.pem"
        chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        server = importlib.import_module("aioquic.asyncio.server")
        module = importlib.import_module("aioquic.quic.configuration")
        configuration = module.QuicConfiguration(alpn_protocols=["echo"], is_client=False)
        configuration.load_cert_chain(str(chain), str(private))
        running: list[Any] = []

        async def answer(reader: Any, writer: Any) -> None:
            writer.write(await reader.read())
            writer.write_eof()

        started = await server.serve(
            "127.0.0.1",
            0,
            configuration=configuration,
            retry=True,
            stream_handler=lambda reader, writer: running.append(asyncio.ensure_future(answer(reader, writer))),
        )
        port = started._transport.get_extra_info("sockname")[1]
        store = MemorySessionStore()
        async with connect(
            "127.0.0.1", port, alpn="echo", server_name="localhost", ca=[leaf], session_store=store
        ) as connection:
            assert connection.core.peer_parameters.retry_source_connection_id is not None
            stream = await connection.open_stream()
            await stream.send(b"followed", end=True)
            assert await stream.receive_all() == b"followed"
        started.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
