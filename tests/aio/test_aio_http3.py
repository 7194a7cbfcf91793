"""Our HTTP/3 client and server over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator

import pytest

from fairway.aio import http3
from fairway.aio.server import Server
from fairway.http3 import H3Code
from fairway.http3.state import Http3State
from fairway.quic import ConnectionClosed
from fairway.tls import self_signed_identity

IDENTITY = self_signed_identity(["localhost"])
OK = [(b":status", b"200")]


@contextlib.asynccontextmanager
async def serving(handler: http3.RequestHandler) -> AsyncIterator[Server[http3.ServerConnection]]:
    async with http3.serve(handler, "127.0.0.1", 0, identities=[IDENTITY], grace_s=2.0) as server:
        yield server


def client(server: Server[http3.ServerConnection]) -> http3.connect:
    return http3.connect("127.0.0.1", server.port, server_name="localhost", verify=False)


async def echo(request: http3.Request) -> None:
    request.respond(OK)
    async for part in request:
        await request.send(part)
    await request.send(b"", end=True)


async def hello(request: http3.Request) -> None:
    request.respond(OK, b"hello", end=True)


def test_many_requests_on_one_connection_are_answered() -> None:
    async def main() -> None:
        async with serving(hello) as server, client(server) as connection:

            async def get() -> bytes:
                response = await connection.request("GET", "localhost")
                return await response.receive_all()

            for _ in range(4):
                assert await asyncio.gather(*(get() for _ in range(500))) == [b"hello"] * 500
            assert not connection._streams

    asyncio.run(main())


def test_an_ended_connection_is_no_work_for_the_garbage_collector() -> None:
    async def main() -> None:
        async with serving(hello) as server:
            gc.collect()
            gc.disable()
            try:
                async with client(server) as connection:
                    response = await connection.request("GET", "localhost")
                    assert await response.receive_all() == b"hello"
                    ended = weakref.ref(connection)
                del connection, response
                await asyncio.sleep(0)
                assert ended() is None
                clients = [known for known in gc.get_objects() if type(known) is Http3State and known.is_client]
                assert not clients
            finally:
                gc.enable()

    asyncio.run(main())


def test_a_large_body_goes_both_ways_at_once() -> None:
    async def main() -> None:
        sent = bytes(range(256)) * 80_000

        async def body() -> AsyncIterator[bytes]:
            for at in range(0, len(sent), 100_000):
                yield sent[at : at + 100_000]

        async with serving(echo) as server, client(server) as connection:
            response = await connection.request("POST", "localhost", body=body())
            assert await response.receive_all() == sent

    asyncio.run(main())


def test_a_handler_that_fails_resets_its_stream_and_nothing_else() -> None:
    async def main() -> None:
        async def handler(request: http3.Request) -> None:
            if request.field(b":path") == b"/bad":
                raise RuntimeError("on purpose")
            await hello(request)

        async with serving(handler) as server, client(server) as connection:
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)
            with pytest.raises(http3.RequestError) as caught:
                await connection.request("GET", "localhost", "/bad")
            assert caught.value.code == H3Code.H3_INTERNAL_ERROR
            response = await connection.request("GET", "localhost", "/good")
            assert await response.receive_all() == b"hello"

    asyncio.run(main())


def test_a_server_that_closes_answers_what_was_begun_and_takes_no_more() -> None:
    async def main() -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def handler(request: http3.Request) -> None:
            begun.set()
            await go.wait()
            await hello(request)

        async with serving(handler) as server, client(server) as connection:
            first = asyncio.create_task(connection.request("GET", "localhost"))
            await begun.wait()
            closing = asyncio.create_task(server.close(5.0))
            while connection.usable:
                await connection.changed.wait()
            go.set()
            response = await first
            assert await response.receive_all() == b"hello"
            await closing
            with contextlib.suppress(ConnectionClosed):
                await connection.wait_settings()
            assert (await connection.wait_closed()).code == H3Code.H3_NO_ERROR

    asyncio.run(main())


def test_a_response_that_is_left_early_is_given_up_at_the_server() -> None:
    async def main() -> None:
        outcome: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        async def handler(request: http3.Request) -> None:
            request.respond(OK)
            try:
                while True:
                    await request.send(bytes(100_000))
            except http3.RequestError as error:
                outcome.set_result(error)
                raise

        async with serving(handler) as server, client(server) as connection:
            async with await connection.request("GET", "localhost") as response:
                assert await response.receive(1000)
            error = await outcome
            assert isinstance(error, http3.RequestError)
            assert error.code == H3Code.H3_REQUEST_CANCELLED

    asyncio.run(main())
