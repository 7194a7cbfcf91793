"""Connections by target: shared, replaced, bounded; requests that are sent again, and those that are not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from origin import H3Server, hello, serving

from fairway.aio import ConnectionClosed, http3
from fairway.http.client import Pool, StepTimeout, Target, Timeouts, dialer, send
from fairway.http3 import Fields, H3Code


def pool(**options: Any) -> Pool:
    return Pool(dialer(verify=False, timeout=5), **options)


def target(server: H3Server, name: str = "localhost") -> Target:
    return Target("127.0.0.1", server.port, name)


def head(method: bytes = b"GET", path: bytes = b"/") -> Fields:
    return [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]


async def get(connections: Pool, where: Target, **options: Any) -> bytes:
    exchange = await send(connections, where, head(), **options)
    try:
        return b"".join([part async for part in exchange])
    finally:
        await exchange.aclose()


def test_1999_requests_go_over_one_connection_in_the_streams_that_the_server_allows() -> None:
    async def main() -> None:
        seen: set[int] = set()

        async def handler(request: http3.Request) -> None:
            seen.add(id(request.connection))
            await hello(request)

        async with serving(handler) as server:
            connections = pool()
            answers = await asyncio.gather(*(get(connections, target(server)) for _ in range(1999)))
            assert answers == [b"hello"] * 1999
            assert len(seen) == len(connections) == 1
            await connections.aclose()

    asyncio.run(main())


def test_a_server_that_shuts_down_gets_no_more_and_its_successor_the_next() -> None:
    async def main() -> None:
        connections = pool()
        async with serving(hello) as server:
            port, where = server.port, target(server)
            assert await get(connections, where) == b"hello"
        async with serving(hello, port):
            assert await get(connections, where) == b"hello"
        await connections.aclose()

    asyncio.run(main())


def test_a_request_that_the_server_rejects_is_sent_again_twice_at_most() -> None:
    async def main() -> list[int]:
        tries = []
        for rejections in (2, 3):
            count = 0

            async def handler(request: http3.Request, rejections: int = rejections) -> None:
                nonlocal count
                count += 1
                if count <= rejections:
                    request.abort(H3Code.H3_REQUEST_REJECTED)
                else:
                    await hello(request)

            async with serving(handler) as server:
                connections = pool()
                with pytest.raises(http3.RequestError) if rejections > 2 else contextlib.nullcontext():
                    assert await get(connections, target(server)) == b"hello"
                tries.append(count)
                await connections.aclose()
        return tries

    assert asyncio.run(main()) == [3, 3]


def test_a_body_that_can_be_had_only_once_is_not_sent_again_but_one_that_can_is() -> None:
    async def main() -> None:
        count = 0

        async def handler(request: http3.Request) -> None:
            nonlocal count
            count += 1
            if count == 1:
                await request.receive_all()
                request.abort(H3Code.H3_REQUEST_REJECTED)
            else:
                request.respond([(b":status", b"200")], await request.receive_all(), end=True)

        async def once() -> AsyncIterator[bytes]:
            yield b"body"

        async with serving(handler) as server:
            connections = pool()
            with pytest.raises(http3.RequestError):
                await send(connections, target(server), head(b"POST"), once())
            count = 0
            exchange = await send(connections, target(server), head(b"POST"), once)
            assert (count, await exchange.receive()) == (2, b"body")
            await connections.aclose()

    asyncio.run(main())


def test_a_request_whose_fate_is_unknown_is_not_sent_again() -> None:
    async def main() -> int:
        count = 0

        async def handler(request: http3.Request) -> None:
            nonlocal count
            count += 1
            if request.field(b":method") == b"POST":
                request.connection.close(H3Code.H3_INTERNAL_ERROR)
            else:
                await hello(request)

        async with serving(handler) as server:
            connections = pool()
            await get(connections, target(server))
            with pytest.raises(ConnectionClosed):
                await send(connections, target(server), head(b"POST"))
            await connections.aclose()
        return count

    assert asyncio.run(main()) == 2


def test_a_safe_request_on_a_connection_that_died_idle_is_sent_again() -> None:
    async def main() -> int:
        count = 0

        async def handler(request: http3.Request) -> None:
            nonlocal count
            count += 1
            if count == 2:
                request.connection.close(H3Code.H3_INTERNAL_ERROR)
            else:
                await hello(request)

        async with serving(handler) as server:
            connections = pool()
            for _ in range(2):
                assert await get(connections, target(server)) == b"hello"
            await connections.aclose()
        return count

    assert asyncio.run(main()) == 3


def test_a_full_pool_gives_up_an_idle_connection_and_else_waits() -> None:
    async def main() -> None:
        async with serving(hello) as server:
            connections = pool(max_connections=1)
            first, second = target(server, "a.example"), target(server, "b.example")
            await get(connections, first)
            lease = await connections.acquire(second)
            assert not connections.has(first)
            waiting = asyncio.create_task(get(connections, first))
            with pytest.raises(StepTimeout, match="connect"):
                await send(connections, first, head(), timeouts=Timeouts(connect=0.02))
            assert not waiting.done()
            lease.release()
            assert await waiting == b"hello"
            assert len(connections) == 1
            await connections.aclose()

    asyncio.run(main())


def test_an_idle_connection_expires() -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def handler(request: http3.Request) -> None:
            asyncio.get_running_loop().create_task(request.connection.wait_closed()).add_done_callback(
                lambda _: gone.set()
            )
            await hello(request)

        async with serving(handler) as server:
            connections = pool(idle_expiry_s=0.01)
            await get(connections, target(server))
            await gone.wait()
            assert len(connections) == 0
            await connections.aclose()

    asyncio.run(main())


def test_those_who_wait_for_the_same_handshake_share_its_failure_and_the_next_tries_anew() -> None:
    async def main() -> None:
        connections = pool()
        async with serving(hello) as server:
            port = server.port
        nobody = Target("127.0.0.1", port, "localhost")
        outcomes = await asyncio.gather(*(connections.acquire(nobody) for _ in range(5)), return_exceptions=True)
        assert len({id(outcome) for outcome in outcomes}) == 1
        assert isinstance(outcomes[0], ConnectionClosed)
        async with serving(hello, port):
            assert await get(connections, nobody) == b"hello"
        await connections.aclose()

    asyncio.run(main())


def test_one_who_stops_waiting_does_not_stop_the_handshake_of_others() -> None:
    async def main() -> None:
        async with serving(hello) as server:
            connections = pool()
            first = asyncio.create_task(get(connections, target(server)))
            second = asyncio.create_task(get(connections, target(server)))
            await asyncio.sleep(0)
            first.cancel()
            assert await second == b"hello"
            with pytest.raises(asyncio.CancelledError):
                await first
            await connections.aclose()

    asyncio.run(main())
