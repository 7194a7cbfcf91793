"""What goes out before the handshake is complete, and what becomes of it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest
from origin import echo, serving

from fairway.aio import http3
from fairway.http.client import Http3Transport
from fairway.quic import MemorySessionStore


class Noting:
    """Answers and notes of each request its method and whether it was early; early ones for /later are refused."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, bool]] = []

    async def __call__(self, request: http3.Request) -> None:
        self.seen.append((request.field(b":method") or b"", request.early))
        if request.early and request.field(b":path") == b"/later":
            request.respond([(b":status", b"425")], end=True)
        else:
            await echo(request)


class Far:
    """A path to the server whose answers take a while, so that what is early is no matter of chance. One client."""

    def __init__(self, server_port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._near, self._out = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self._client: Any = None
        for sock, pass_on in ((self._near, self._there), (self._out, self._back)):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
            self._loop.add_reader(sock, pass_on)
        self._out.connect(("127.0.0.1", server_port))
        self.port = self._near.getsockname()[1]

    def _there(self) -> None:
        data, self._client = self._near.recvfrom(65535)
        self._out.send(data)

    def _back(self) -> None:
        self._loop.call_later(0.05, self._near.sendto, self._out.recv(65535), self._client)

    def close(self) -> None:
        for sock in (self._near, self._out):
            self._loop.remove_reader(sock)
            sock.close()


async def ask(port: int, store: MemorySessionStore, *asked: tuple[str, str, bytes]) -> list[tuple[int, bytes]]:
    """The requests on a connection of their own, all at once."""
    transport = Http3Transport(verify=False, http3="only", session_store=store)
    async with httpx.AsyncClient(transport=transport) as client:

        async def one(method: str, path: str, content: bytes) -> tuple[int, bytes]:
            answer = await client.request(method, f"https://localhost:{port}{path}", content=content)
            return answer.status_code, answer.content

        return list(await asyncio.gather(*(one(*what) for what in asked)))


def scenario(*asked: tuple[str, str, bytes]) -> tuple[list[tuple[int, bytes]], list[tuple[bytes, bool]]]:
    """What a returning client is answered, and what the server saw of it."""

    async def main() -> Any:
        noting, store = Noting(), MemorySessionStore()
        async with serving(noting) as server:
            far = Far(server.port)
            await ask(far.port, store, ("GET", "/", b""))
            noting.seen.clear()
            answers = await ask(far.port, store, *asked)
            far.close()
            return answers, noting.seen

    result: tuple[list[tuple[int, bytes]], list[tuple[bytes, bool]]] = asyncio.run(asyncio.wait_for(main(), 20))
    return result


def test_a_safe_request_of_a_returning_client_is_early() -> None:
    assert scenario(("GET", "/", b"")) == ([(200, b"")], [(b"GET", True)])


@pytest.mark.parametrize(("method", "content"), [("POST", b""), ("POST", b"data"), ("DELETE", b""), ("GET", b"data")])
def test_one_that_is_not_safe_or_has_content_waits_for_the_handshake(method: str, content: bytes) -> None:
    assert scenario((method, "/", content)) == ([(200, content)], [(method.encode(), False)])


def test_one_that_was_too_early_is_sent_again_on_the_same_connection() -> None:
    assert scenario(("GET", "/later", b"")) == ([(200, b"")], [(b"GET", True), (b"GET", False)])


def test_safe_ones_do_not_wait_for_those_that_wait() -> None:
    answers, seen = scenario(("POST", "/", b"data"), ("GET", "/", b""))
    assert answers == [(200, b"data"), (200, b"")]
    assert seen == [(b"GET", True), (b"POST", False)]


def test_a_425_that_has_nothing_to_do_with_early_data_is_the_answer() -> None:
    async def main() -> None:
        async def never(request: http3.Request) -> None:
            request.respond([(b":status", b"425")], end=True)

        async with serving(never) as server:
            assert await ask(server.port, MemorySessionStore(), ("GET", "/", b"")) == [(425, b"")]

    asyncio.run(asyncio.wait_for(main(), 20))
