"""A client that calls again and again makes its key shares while it waits; a forked child has none of its parent's."""

from __future__ import annotations

import asyncio
import os

import pytest
from cryptography.hazmat.primitives import serialization

from fairway.aio import QuicConnection, connect, serve
from fairway.tls import ClientConfig, Identity, NamedGroup, self_signed

CERTIFICATE, KEY = self_signed(["localhost"])
IDENTITY = Identity((CERTIFICATE.public_bytes(serialization.Encoding.DER),), KEY)


async def _nothing(connection: QuicConnection) -> None:
    await connection.wait_closed()


async def _call(tls: ClientConfig, times: int) -> None:
    async with serve(_nothing, "127.0.0.1", 0, alpn="test", identities=[IDENTITY], grace_s=0) as server:
        for _ in range(times):
            async with connect("127.0.0.1", server.port, alpn="test", tls=tls):
                pass


def _is_ready(tls: ClientConfig) -> bool:
    """Whether halves wait: they are then given without drawing random bytes."""
    drawn: list[int] = []

    def random(length: int) -> bytes:
        drawn.append(length)
        return os.urandom(length)

    tls.halves.take(random)
    return not drawn


@pytest.fixture
def tls() -> ClientConfig:
    return ClientConfig("localhost", ("test",), ca=[CERTIFICATE], groups=(NamedGroup.X25519,))


def test_from_the_second_connection_on_the_next_has_its_key_shares_already(tls: ClientConfig) -> None:
    asyncio.run(_call(tls, 1))
    assert not _is_ready(tls)
    asyncio.run(_call(tls, 1))
    assert _is_ready(tls)
    assert not _is_ready(tls)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_does_not_use_what_its_parent_has_made(tls: ClientConfig) -> None:
    asyncio.run(_call(tls, 2))
    child = os.fork()
    if not child:
        os._exit(int(_is_ready(tls)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _is_ready(tls)
