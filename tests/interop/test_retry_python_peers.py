"""aioquic and qh3 as peers where addresses have to be proved: Retry, and tokens for the next visit."""

from __future__ import annotations

import asyncio
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
from fairway.aio import connect, serve
from fairway.quic import MemorySessionStore
from peer_faults import QH3_LOSES_A_STREAM, despite


@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize("peer", PEERS)
@despite(QH3_LOSES_A_STREAM)
def test_their_clients_follow_our_retry(peer: str, loss: float, certificate: Certificate) -> None:
    async def scenario() -> None:
        tokens: list[bytes] = []
        # qh3 hands no tokens out: each of its visits follows a Retry.
        keeping: dict[str, Any] = {"token_handler": tokens.append} if peer == "aioquic" else {}
        identities = [certificate.identity]
        async with (
            serve(echo, "127.0.0.1", 0, alpn="echo", identities=identities, retry=True, grace_s=0) as server,
            LossyRelay(("127.0.0.1", server.port), loss) as relay,
        ):
            for visit in range(2):
                configuration = client_configuration(peer)
                if tokens:
                    configuration.token = tokens[0]
                async with their_client(peer, relay.port, configuration, **keeping) as protocol:
                    assert await ask_by_theirs(protocol, b"proved") == b"proved"
                    (ours,) = server.connections[-1:]
                    assert ours.core.path.validated
                    # A client that has followed a Retry says so in what it was told of the connection IDs.
                    retried = protocol._quic._retry_source_connection_id is not None
                    assert retried is (visit == 0 or not keeping)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_our_client_follows_the_retry_of_aioquic(certificate: Certificate) -> None:
    async def scenario() -> None:
        configuration = server_configuration("aioquic", certificate)
        async with (
            their_server("aioquic", configuration, retry=True) as port,
            connect(
                "127.0.0.1",
                port,
                alpn="echo",
                server_name="localhost",
                ca=[certificate.leaf],
                session_store=MemorySessionStore(),
            ) as connection,
        ):
            assert connection.core.peer_parameters.retry_source_connection_id is not None
            assert await ask(connection, b"followed") == b"followed"

    asyncio.run(asyncio.wait_for(scenario(), 60))
