"""aioquic and qh3 as peers, both roles: streams of many sizes come back as they were sent, with and without loss."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
from dataclasses import replace
from typing import Any

import pytest
from lossy_relay import LossyRelay
from python_peers import (
    PEERS,
    ask,
    ask_by_theirs,
    client_configuration,
    echo,
    server_configuration,
    their_client,
    their_server,
)

from certificates import Certificate
from fairway.aio import QuicConfiguration, QuicConnection, connect, serve
from fairway.tls import CipherSuite, ClientConfig
from peer_faults import QH3_LOSES_A_STREAM, despite

SIZES = (0, 1, 1000, 65_536, 500_000)
LOSSES = (0.0, 0.03)
CONFIGURATION = QuicConfiguration(udp_payload=1350, handshake_timeout_s=30)


def payload(size: int) -> bytes:
    return hashlib.shake_128(str(size).encode()).digest(size)


DATAGRAMS = replace(CONFIGURATION, max_datagram_frame_size=65535)
COUNT = 20


async def echo_datagrams(connection: QuicConnection) -> None:
    """Send back every datagram."""
    while True:
        connection.send_datagram(await connection.receive_datagram())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("peer", PEERS)
@despite(QH3_LOSES_A_STREAM)
def test_a_client_of_theirs_gets_back_what_it_sent_to_our_server(
    peer: str, loss: float, certificate: Certificate
) -> None:
    async def scenario() -> None:
        identities = [certificate.identity]
        async with (
            serve(
                echo, "127.0.0.1", 0, alpn="echo", identities=identities, configuration=CONFIGURATION, grace_s=0
            ) as server,
            LossyRelay(("127.0.0.1", server.port), loss) as relay,
        ):
            async with their_client(peer, relay.port, client_configuration(peer)) as protocol:
                answers = await asyncio.gather(*(ask_by_theirs(protocol, payload(size)) for size in SIZES))
                assert answers == [payload(size) for size in SIZES]
            assert relay.dropped > 0 or not loss

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("peer", PEERS)
@despite(QH3_LOSES_A_STREAM)
def test_our_client_gets_back_what_it_sent_to_a_server_of_theirs(
    peer: str, loss: float, certificate: Certificate
) -> None:
    async def scenario() -> None:
        async with (
            their_server(peer, server_configuration(peer, certificate)) as port,
            LossyRelay(("127.0.0.1", port), loss) as relay,
        ):
            async with connect(
                "127.0.0.1",
                relay.port,
                alpn="echo",
                server_name="localhost",
                ca=[certificate.leaf],
                configuration=CONFIGURATION,
                timeout=30,
            ) as connection:
                answers = await asyncio.gather(*(ask(connection, payload(size)) for size in SIZES))
                assert answers == [payload(size) for size in SIZES]
            assert relay.dropped > 0 or not loss

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("suite", CipherSuite)
@pytest.mark.parametrize("peer", PEERS)
def test_every_cipher_suite_works_with_their_servers(peer: str, suite: CipherSuite, certificate: Certificate) -> None:
    async def scenario() -> None:
        tls = ClientConfig("localhost", ("echo",), verify=False, cipher_suites=(suite,))
        async with (
            their_server(peer, server_configuration(peer, certificate)) as port,
            connect("127.0.0.1", port, alpn="echo", tls=tls) as connection,
        ):
            assert connection.handshake is not None
            assert connection.handshake.cipher_suite == suite
            assert await ask(connection, payload(100_000)) == payload(100_000)
            connection.core.update_keys(asyncio.get_running_loop().time())
            assert await ask(connection, payload(50_000)) == payload(50_000)

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
def test_datagrams_of_their_clients_come_back_from_our_server(peer: str, certificate: Certificate) -> None:
    async def scenario() -> None:
        protocol, kept = answers_of(peer)
        configuration = client_configuration(peer, max_datagram_frame_size=65536)
        sent = [payload(size) for size in range(0, 50 * COUNT, 50)]
        identities = [certificate.identity]
        async with (
            serve(
                echo_datagrams, "127.0.0.1", 0, alpn="echo", identities=identities, configuration=DATAGRAMS, grace_s=0
            ) as server,
            their_client(peer, server.port, configuration, create_protocol=protocol) as connected,
        ):
            for data in sent:
                connected._quic.send_datagram_frame(data)
                connected.transmit()
            while len(kept) < COUNT:
                await connected.ping()
        assert sorted(kept) == sorted(sent)

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize("peer", PEERS)
def test_our_datagrams_come_back_from_their_servers(peer: str, certificate: Certificate) -> None:
    async def scenario() -> None:
        configuration = server_configuration(peer, certificate, max_datagram_frame_size=65536)
        async with (
            their_server(peer, configuration, create_protocol=echo_of(peer)) as port,
            connect(
                "127.0.0.1",
                port,
                alpn="echo",
                server_name="localhost",
                ca=[certificate.leaf],
                configuration=DATAGRAMS,
            ) as connection,
        ):
            # Theirs fill packets of 1,200 bytes at most, so larger ones would not come back.
            sent = [payload(size) for size in (*range(0, 50 * COUNT, 50), 1100)]
            assert connection.max_datagram_size > 1300
            for data in sent:
                assert connection.send_datagram(data)
            assert sorted([await connection.receive_datagram() for _ in sent]) == sorted(sent)

    asyncio.run(asyncio.wait_for(scenario(), 30))
