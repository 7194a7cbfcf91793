"""aioquic and qh3 as peers that resume sessions, both roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
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
from fairway.aio import QuicConnection, connect, serve
from fairway.quic import MemorySessionStore
from fairway.tls import CipherSuite, ClientConfig, ServerConfig, Tickets


@asynccontextmanager
async def remembering_server(peer: str, certificate: Certificate) -> AsyncIterator[tuple[int, dict[bytes, Any]]]:
    """A server of theirs that gives out tickets; its port, and the tickets, each good for one visit."""
    tickets: dict[bytes, Any] = {}
    server = their_server(
        peer,
        server_configuration(peer, certificate),
        session_ticket_fetcher=lambda label: tickets.pop(label, None),
        session_ticket_handler=lambda ticket: tickets.__setitem__(ticket.ticket, ticket),
    )
    async with server as port:
        yield port, tickets


@pytest.mark.parametrize("peer", PEERS)
def test_their_clients_resume_with_our_server(peer: str, certificate: Certificate) -> None:
    async def scenario() -> None:
        tickets: list[Any] = []
        async with serve(echo, "127.0.0.1", 0, alpn="echo", identities=[certificate.identity], grace_s=0) as server:
            for visit in range(3):
                configuration = client_configuration(peer, session_ticket=tickets[-1] if tickets else None)
                client = their_client(peer, server.port, configuration, session_ticket_handler=tickets.append)
                async with client as protocol:
                    assert await ask_by_theirs(protocol, b"once more") == b"once more"
                    ours = server.connections[-1].handshake
                    assert ours is not None
                    assert ours.resumed is (visit > 0)
                    assert len(tickets) == visit + 1

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize("suite", [CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384])
@pytest.mark.parametrize("peer", PEERS)
def test_our_client_resumes_with_their_servers(peer: str, suite: CipherSuite, certificate: Certificate) -> None:
    async def scenario() -> None:
        store = MemorySessionStore()
        tls = ClientConfig("localhost", ("echo",), ca=[certificate.leaf], cipher_suites=(suite,))
        async with remembering_server(peer, certificate) as (port, _):
            for visit in range(3):
                async with connect("127.0.0.1", port, alpn="echo", tls=tls, session_store=store) as connection:
                    assert connection.handshake is not None
                    assert connection.handshake.resumed is (visit > 0)
                    assert await ask(connection, b"once more") == b"once more"

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("peer", PEERS)
def test_early_data_of_their_clients_reaches_our_server(peer: str, accepts: bool, certificate: Certificate) -> None:
    async def scenario() -> None:
        tickets: list[Any] = []
        early: list[bool] = []

        async def noting(connection: QuicConnection) -> None:
            async for stream in connection.incoming_streams():
                early.append(stream.early)
                await stream.send(await stream.receive_all(), end=True)

        ours = Tickets(early_data=True)
        tls = ServerConfig((certificate.identity,), ("echo",), tickets=ours)
        async with serve(noting, "127.0.0.1", 0, alpn="echo", identities=(), tls=tls, grace_s=0) as server:
            for visit in range(2):
                configuration = client_configuration(peer, session_ticket=tickets[-1] if tickets else None)
                client = their_client(
                    peer,
                    server.port,
                    configuration,
                    session_ticket_handler=tickets.append,
                    wait_connected=not visit,
                )
                async with client as protocol:
                    assert await ask_by_theirs(protocol, b"at once") == b"at once"
                ours.early_data = accepts
        assert early == [False, accepts]

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize("peer", PEERS)
def test_our_early_data_reaches_their_servers(peer: str, certificate: Certificate) -> None:
    async def scenario() -> None:
        store = MemorySessionStore()
        tls = ClientConfig("localhost", ("echo",), ca=[certificate.leaf])
        accepted = []
        async with remembering_server(peer, certificate) as (port, tickets):
            for visit in range(3):
                if visit == 2:
                    tickets.clear()  # the server has forgotten: early data is rejected
                async with connect(
                    "127.0.0.1", port, alpn="echo", tls=tls, session_store=store, early_data=True
                ) as connection:
                    assert connection.core.early is (visit > 0)
                    assert await ask(connection, b"at once") == b"at once"
                    await connection.wait_connected()
                    accepted.append(connection.early)
        assert accepted == [None, True, False]

    asyncio.run(asyncio.wait_for(scenario(), 30))
