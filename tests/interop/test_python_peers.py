"""aioquic and qh3 as peers, both roles: streams of many sizes come back as they were sent, with and without loss."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from lossy_relay import LossyRelay

from fairway.aio import QuicConfiguration, QuicConnection, Stream, connect, serve
from fairway.tls import CipherSuite, ClientConfig, Identity, self_signed

PEERS = ("aioquic", "qh3")
SIZES = (0, 1, 1000, 65_536, 500_000)
LOSSES = (0.0, 0.03)
CONFIGURATION = QuicConfiguration(udp_payload=1350, handshake_timeout_s=30)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, x509.Certificate, Any]:
    certificate, key = self_signed(["localhost"])
    directory = tmp_path_factory.mktemp("certificate")
    chain, private = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private, certificate, key


def payload(size: int) -> bytes:
    return hashlib.shake_128(str(size).encode()).digest(size)


DATAGRAMS = replace(CONFIGURATION, max_datagram_frame_size=65535)
COUNT = 20


async def echo_datagrams(connection: QuicConnection) -> None:
    """Send back every datagram."""
    while True:
        connection.send_datagram(await connection.receive_datagram())


async def echo(connection: QuicConnection) -> None:
    """Send back what arrives on every stream."""

    async def one(stream: Stream) -> None:
        data = await stream.receive_all()
        await stream.send(data, end=True)

    async with asyncio.TaskGroup() as tasks:
        async for stream in connection.incoming_streams():
            tasks.create_task(one(stream))


def peer_configuration(peer: str, **arguments: Any) -> Any:
    module = importlib.import_module(f"{peer}.quic.configuration")
    return module.QuicConfiguration(alpn_protocols=["echo"], **arguments)


async def ask_through_peer(protocol: Any, data: bytes) -> bytes:
    reader, writer = await protocol.create_stream()
    writer.write(data)
    writer.write_eof()
    return bytes(await reader.read())


async def ask(connection: QuicConnection, data: bytes) -> bytes:
    stream = await connection.open_stream()
    await stream.send(data, end=True)
    return await stream.receive_all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("peer", PEERS)
def test_a_client_of_theirs_gets_back_what_it_sent_to_our_server(peer: str, loss: float, certificate: Any) -> None:
    async def scenario() -> None:
        _, _, leaf, key = certificate
        identity = Identity((leaf.public_bytes(serialization.Encoding.DER),), key)
        client = importlib.import_module(f"{peer}.asyncio.client")
        async with (
            serve(
                echo, "127.0.0.1", 0, alpn="echo", identities=[identity], configuration=CONFIGURATION, grace_s=0
            ) as server,
            LossyRelay(("127.0.0.1", server.port), loss) as relay,
        ):
            configuration = peer_configuration(peer, is_client=True, verify_mode=ssl.CERT_NONE)
            async with client.connect("127.0.0.1", relay.port, configuration=configuration) as protocol:
                answers = await asyncio.gather(*(ask_through_peer(protocol, payload(size)) for size in SIZES))
                assert answers == [payload(size) for size in SIZES]
            assert relay.dropped > 0 or not loss

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("peer", PEERS)
def test_our_client_gets_back_what_it_sent_to_a_server_of_theirs(peer: str, loss: float, certificate: Any) -> None:
    async def scenario() -> None:
        chain, key, leaf, _ = certificate
        server = importlib.import_module(f"{peer}.asyncio.server")
        configuration = peer_configuration(peer, is_client=False)
        configuration.load_cert_chain(str(chain), str(key))

        async def answer(reader: Any, writer: Any) -> None:
            data = await reader.read()
            writer.write(data)
            writer.write_eof()

        running = set()

        def handle(reader: Any, writer: Any) -> None:
            running.add(asyncio.ensure_future(answer(reader, writer)))

        started = await server.serve("127.0.0.1", 0, configuration=configuration, stream_handler=handle)
        port = started._transport.get_extra_info("sockname")[1]
        async with LossyRelay(("127.0.0.1", port), loss) as relay:
            async with connect(
                "127.0.0.1",
                relay.port,
                alpn="echo",
                server_name="localhost",
                ca=[leaf],
                configuration=CONFIGURATION,
                timeout=30,
            ) as connection:
                answers = await asyncio.gather(*(ask(connection, payload(size)) for size in SIZES))
                assert answers == [payload(size) for size in SIZES]
            assert relay.dropped > 0 or not loss
        started.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("suite", CipherSuite)
@pytest.mark.parametrize("peer", PEERS)
def test_every_cipher_suite_works_with_their_servers(peer: str, suite: CipherSuite, certificate: Any) -> None:
    async def scenario() -> None:
        chain, key, _, _ = certificate
        server = importlib.import_module(f"{peer}.asyncio.server")
        configuration = peer_configuration(peer, is_client=False)
        configuration.load_cert_chain(str(chain), str(key))

        def handle(reader: Any, writer: Any) -> None:
            asyncio.ensure_future(echo_back(reader, writer))  # noqa: RUF006 - it ends with the loop

        async def echo_back(reader: Any, writer: Any) -> None:
            writer.write(await reader.read())
            writer.write_eof()

        started = await server.serve("127.0.0.1", 0, configuration=configuration, stream_handler=handle)
        port = started._transport.get_extra_info("sockname")[1]
        tls = ClientConfig("localhost", ("echo",), verify=False, cipher_suites=(suite,))
        async with connect("127.0.0.1", port, alpn="echo", tls=tls) as connection:
            assert connection.handshake is not None
            assert connection.handshake.cipher_suite == suite
            assert await ask(connection, payload(100_000)) == payload(100_000)
            connection.core.update_keys(asyncio.get_running_loop().time())
            assert await ask(connection, payload(50_000)) == payload(50_000)
        started.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def answers_of(peer: str) -> tuple[type, list[bytes]]:
    """A protocol of theirs that keeps the datagrams that it receives, and what it keeps."""
    base = importlib.import_module(f"{peer}.asyncio.protocol").QuicConnectionProtocol
    received = importlib.import_module(f"{peer}.quic.events").DatagramFrameReceived
    kept: list[bytes] = []

    class Keeping(base):  # type: ignore[misc, valid-type]
        def quic_event_received(self, event: Any) -> None:
            if isinstance(event, received):
                kept.append(event.data)

    return Keeping, kept


def echo_of(peer: str) -> type:
    """A protocol of theirs that sends back every datagram."""
    base = importlib.import_module(f"{peer}.asyncio.protocol").QuicConnectionProtocol
    received = importlib.import_module(f"{peer}.quic.events").DatagramFrameReceived

    class Echoing(base):  # type: ignore[misc, valid-type]
        def quic_event_received(self, event: Any) -> None:
            if isinstance(event, received):
                self._quic.send_datagram_frame(event.data)
                self.transmit()

    return Echoing


@pytest.mark.parametrize("peer", PEERS)
def test_datagrams_of_their_clients_come_back_from_our_server(peer: str, certificate: Any) -> None:
    async def scenario() -> None:
        _, _, leaf, key = certificate
        identity = Identity((leaf.public_bytes(serialization.Encoding.DER),), key)
        client = importlib.import_module(f"{peer}.asyncio.client")
        protocol, kept = answers_of(peer)
        configuration = peer_configuration(
            peer, is_client=True, verify_mode=ssl.CERT_NONE, max_datagram_frame_size=65536
        )
        sent = [payload(size) for size in range(0, 50 * COUNT, 50)]
        async with (
            serve(
                echo_datagrams, "127.0.0.1", 0, alpn="echo", identities=[identity], configuration=DATAGRAMS, grace_s=0
            ) as server,
            client.connect(
                "127.0.0.1", server.port, configuration=configuration, create_protocol=protocol
            ) as connected,
        ):
            for data in sent:
                connected._quic.send_datagram_frame(data)
                connected.transmit()
            while len(kept) < COUNT:
                await connected.ping()
        assert sorted(kept) == sorted(sent)

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize("peer", PEERS)
def test_our_datagrams_come_back_from_their_servers(peer: str, certificate: Any) -> None:
    async def scenario() -> None:
        chain, key, leaf, _ = certificate
        server = importlib.import_module(f"{peer}.asyncio.server")
        configuration = peer_configuration(peer, is_client=False, max_datagram_frame_size=65536)
        configuration.load_cert_chain(str(chain), str(key))
        started = await server.serve("127.0.0.1", 0, configuration=configuration, create_protocol=echo_of(peer))
        port = started._transport.get_extra_info("sockname")[1]
        async with connect(
            "127.0.0.1", port, alpn="echo", server_name="localhost", ca=[leaf], configuration=DATAGRAMS
        ) as connection:
            # Theirs fill packets of 1,200 bytes at most, so larger ones would not come back.
            sent = [payload(size) for size in (*range(0, 50 * COUNT, 50), 1100)]
            assert connection.max_datagram_size > 1300
            for data in sent:
                assert connection.send_datagram(data)
            assert sorted([await connection.receive_datagram() for _ in sent]) == sorted(sent)
        started.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))
