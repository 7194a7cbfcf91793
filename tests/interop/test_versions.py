"""Version 2 and version negotiation against aioquic and qh3, both roles; ngtcp2 0.12 where only unknown versions meet.

Debian's ngtcp2 speaks a draft of version 2, under another number and with another transport parameter (0xff73db): what
it can show is that a Version Negotiation packet of either side is followed to version 1.
"""

from __future__ import annotations

import asyncio
import importlib
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from lossy_relay import LossyRelay

from fairway.aio import QuicConfiguration, QuicConnection, connect, http3, serve
from fairway.quic.packets.headers import VERSION_1, VERSION_2
from fairway.tls import Identity, self_signed

PEERS = ("aioquic", "qh3")
ONE, TWO, BOTH_ONE, BOTH_TWO = (VERSION_1,), (VERSION_2,), (VERSION_1, VERSION_2), (VERSION_2, VERSION_1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Identity]:
    leaf, key = self_signed(["localhost"])
    directory = tmp_path_factory.mktemp("certificate")
    chain, private = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private, Identity((leaf.public_bytes(serialization.Encoding.DER),), key)


async def echo(connection: QuicConnection) -> None:
    async for stream in connection.incoming_streams():
        await stream.send(await stream.receive_all(), end=True)


def theirs(peer: str, versions: tuple[int, ...], first: int | None, **more: Any) -> Any:
    module = importlib.import_module(f"{peer}.quic.configuration")
    configuration = module.QuicConfiguration(alpn_protocols=["echo"], **more)
    configuration.supported_versions = list(versions)
    configuration.original_version = first
    return configuration


CASES = [  # what the client speaks, what it begins with, what the server speaks, what comes of it
    (TWO, None, BOTH_ONE, VERSION_2),
    (BOTH_TWO, VERSION_1, BOTH_TWO, VERSION_2),  # the case `v2` of the interop runner
    (BOTH_ONE, VERSION_2, BOTH_ONE, VERSION_1),
    (BOTH_TWO, None, ONE, VERSION_1),  # Version Negotiation
    (BOTH_ONE, None, TWO, VERSION_2),
]


@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize(("client", "first", "server", "result"), CASES)
@pytest.mark.parametrize("peer", PEERS)
def test_their_client_and_our_server(
    peer: str, client: tuple[int, ...], first: int | None, server: tuple[int, ...], result: int, loss: float,
    certificate: tuple[Path, Path, Identity],
) -> None:  # fmt: skip
    if peer == "qh3" and first not in (None, result):
        pytest.skip("qh3 takes our acknowledgement of half a ClientHello, in the original version, for the last word")

    async def scenario() -> None:
        module = importlib.import_module(f"{peer}.asyncio.client")
        ours = QuicConfiguration(versions=server, handshake_timeout_s=30)
        async with (
            serve(
                echo, "127.0.0.1", 0, alpn="echo", identities=[certificate[2]], configuration=ours, grace_s=0
            ) as listening,
            LossyRelay(("127.0.0.1", listening.port), loss) as relay,
        ):
            configuration = theirs(peer, client, first, is_client=True, verify_mode=ssl.CERT_NONE)
            async with module.connect("127.0.0.1", relay.port, configuration=configuration) as protocol:
                reader, writer = await protocol.create_stream()
                writer.write(b"version" * 5000)
                writer.write_eof()
                assert await reader.read() == b"version" * 5000
                assert protocol._quic._version == result
                (connection,) = listening.connections
                assert connection.handshake is not None
                assert connection.handshake.version == result

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize(("client", "first", "server", "result"), CASES)
@pytest.mark.parametrize("peer", PEERS)
def test_our_client_and_their_server(
    peer: str, client: tuple[int, ...], first: int | None, server: tuple[int, ...], result: int, loss: float,
    certificate: tuple[Path, Path, Identity],
) -> None:  # fmt: skip
    async def scenario() -> None:
        module = importlib.import_module(f"{peer}.asyncio.server")
        configuration = theirs(peer, server, None, is_client=False)
        configuration.load_cert_chain(certificate[0], certificate[1])

        def answer(reader: Any, writer: Any) -> None:
            async def one() -> None:
                writer.write(await reader.read())
                writer.write_eof()

            task = asyncio.ensure_future(one())
            tasks.append(task)

        tasks: list[Any] = []
        running = await module.serve("127.0.0.1", 0, configuration=configuration, stream_handler=answer)
        port = running._transport.get_extra_info("sockname")[1]
        ours = QuicConfiguration(versions=client, first_version=first, handshake_timeout_s=30)
        try:
            async with LossyRelay(("127.0.0.1", port), loss) as relay:
                dialer = connect(
                    "127.0.0.1", relay.port, alpn="echo", server_name="localhost", ca=certificate[0],
                    configuration=ours, timeout=30,
                )  # fmt: skip
                async with dialer as connection:
                    stream = await connection.open_stream()
                    await stream.send(b"version" * 5000, end=True)
                    assert await stream.receive_all() == b"version" * 5000
                    assert connection.handshake is not None
                    assert connection.handshake.version == result
        finally:
            running.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def hello(request: Any) -> None:
    request.respond([(b":status", b"200")], b"hello", end=True)


@pytest.mark.skipif(shutil.which("gtlsserver") is None, reason="needs ngtcp2-server")
def test_our_client_follows_ngtcp2s_version_negotiation(
    tmp_path: Path, certificate: tuple[Path, Path, Identity]
) -> None:
    (tmp_path / "page").write_bytes(b"page" * 1000)
    port = free_port()
    where = ["127.0.0.1", str(port), str(certificate[1]), str(certificate[0])]
    command = ["gtlsserver", "-q", "-d", str(tmp_path), *where]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    async def scenario() -> None:
        client = http3.connect(
            "127.0.0.1", port, server_name="localhost", ca=certificate[0],
            configuration=QuicConfiguration(versions=BOTH_TWO), timeout=10,
        )  # fmt: skip
        async with client as connection:
            response = await connection.request("GET", "localhost", "/page")
            assert await response.receive_all() == b"page" * 1000
            assert connection.handshake is not None
            assert connection.handshake.version == VERSION_1

    try:
        time.sleep(0.5)
        asyncio.run(asyncio.wait_for(scenario(), 30))
    finally:
        running.terminate()
        running.wait(10)


@pytest.mark.skipif(shutil.which("gtlsclient") is None, reason="needs ngtcp2-client")
def test_ngtcp2s_client_follows_our_version_negotiation(
    tmp_path: Path, certificate: tuple[Path, Path, Identity]
) -> None:
    async def scenario() -> tuple[str, int]:
        async with http3.serve(hello, "127.0.0.1", 0, identities=[certificate[2]], grace_s=0) as server:
            client = await asyncio.create_subprocess_exec(
                "gtlsclient", "--version=v2draft", "--preferred-versions=v1,v2draft", "--exit-on-all-streams-close",
                "127.0.0.1", str(server.port), f"https://localhost:{server.port}/",
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            said, _ = await asyncio.wait_for(client.communicate(), 20)
            return said.decode(errors="replace"), server.statistics.version_negotiations

    said, negotiations = asyncio.run(asyncio.wait_for(scenario(), 30))
    assert negotiations == 1
    assert "VN" in said
    assert "hello" in said
