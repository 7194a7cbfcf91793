"""WebTransport sessions between our own client and server, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.aio import http3
from fairway.http3 import DEFAULT_SETTINGS, H3Code, Settings
from fairway.http3.session_protocols import available, chosen, offer
from fairway.http3.webtransport import session_request, with_webtransport
from fairway.quic import QuicConfiguration, UsageError
from fairway.tls import self_signed_identity

IDENTITY = self_signed_identity(["localhost"])

Behaviour = Callable[[http3.Session], Awaitable[None]]


@contextlib.asynccontextmanager
async def session_with(behaviour: Behaviour, settings: Settings = DEFAULT_SETTINGS) -> AsyncIterator[http3.Session]:
    """A client's session with a server that behaves so; both have these settings."""

    async def handler(request: http3.Request) -> None:
        if request.field(b":path") != b"/wt" or not request.wants_session:
            request.respond([(b":status", b"404")], end=True)
            return
        async with request.accept_session() as session:
            await behaviour(session)

    async with (
        http3.serve(
            handler, "127.0.0.1", 0, identities=[IDENTITY], webtransport=True, grace_s=1.0, settings=settings
        ) as server,
        http3.connect(
            "127.0.0.1", server.port, server_name="localhost", verify=False, webtransport=True, settings=settings
        ) as connection,
        await connection.webtransport("localhost", "/wt") as session,
    ):
        yield session


async def echo_streams(session: http3.Session) -> None:
    async for stream in session.incoming_streams():
        data = await stream.receive_all()
        back = await session.open_stream(unidirectional=True) if stream.unidirectional else stream
        await back.send(data, end=True)


@pytest.mark.parametrize("size", [0, 5, 300_000])
def test_a_bidirectional_stream_carries_bytes_both_ways(size: int) -> None:
    async def main() -> None:
        async with session_with(echo_streams) as session:
            stream = await session.open_stream()
            await stream.send(bytes(size), end=True)
            assert await stream.receive_all() == bytes(size)

    asyncio.run(main())


@pytest.mark.parametrize("unidirectional", [False, True])
def test_a_sessions_own_limits_hold_writers_up_and_let_them_go_on(unidirectional: bool) -> None:
    limits = replace(
        DEFAULT_SETTINGS, wt_initial_max_data=5000, wt_initial_max_streams_bidi=2, wt_initial_max_streams_uni=2
    )

    async def main() -> None:
        async with session_with(echo_streams, limits) as session:

            async def one(number: int) -> None:
                content = bytes([number]) * 4000
                stream = await session.open_stream(unidirectional=unidirectional)
                await stream.send(content, end=True)
                back = await session.accept_stream() if unidirectional else stream
                data = await back.receive_all()
                assert data == content or (unidirectional and len(data) == 4000)

            async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
                for number in range(30):
                    tasks.create_task(one(number))

    asyncio.run(main())


def test_without_limits_within_sessions_there_is_one_at_a_time() -> None:  # draft 16, section 5.1
    unlimited = replace(
        with_webtransport(DEFAULT_SETTINGS),
        wt_initial_max_data=0,
        wt_initial_max_streams_bidi=0,
        wt_initial_max_streams_uni=0,
    )
    datagrams = QuicConfiguration(max_datagram_frame_size=65535)

    async def handler(request: http3.Request) -> None:
        async with request.accept_session() as session:
            await session.wait_closed()

    async def main() -> None:
        async with (
            http3.serve(
                handler, "127.0.0.1", 0, identities=[IDENTITY], settings=unlimited, configuration=datagrams, grace_s=1.0
            ) as server,
            http3.connect(
                "127.0.0.1", server.port, server_name="localhost", verify=False, webtransport=True
            ) as connection,
            await connection.webtransport("localhost"),
        ):
            with pytest.raises(UsageError, match="one session at a time"):
                await connection.webtransport("localhost")
            second = await connection.begin(session_request(b"localhost", b"/", []))
            with pytest.raises(http3.RequestError) as raised:
                await second.wait_response()
            assert raised.value.code == H3Code.H3_REQUEST_REJECTED

    asyncio.run(main())


def test_client_and_server_agree_on_what_they_speak() -> None:  # draft 16, section 3.3
    spoken: list[list[str]] = []
    odd = 'with "quotes" and \\'

    async def handler(request: http3.Request) -> None:
        spoken.append(request.session_protocols)
        if request.field(b":path") == b"/mischief":
            session = request.accept_session([(b"wt-protocol", b'"never offered"')])
        else:
            with pytest.raises(UsageError, match="offers no protocol"):
                request.accept_session(protocol="chat.3")
            session = request.accept_session(protocol=next(iter(request.session_protocols[1:]), None))
        await session.wait_closed()

    async def main() -> None:
        async with (
            http3.serve(handler, "127.0.0.1", 0, identities=[IDENTITY], webtransport=True, grace_s=1.0) as server,
            http3.connect(
                "127.0.0.1", server.port, server_name="localhost", verify=False, webtransport=True
            ) as connection,
        ):
            async with await connection.webtransport(
                "localhost", protocols=["chat.2", 'with "quotes" and \\']
            ) as session:
                assert session.protocol == 'with "quotes" and \\'
            async with await connection.webtransport("localhost") as session:
                assert session.protocol is None
            with pytest.raises(http3.RequestError, match="was not offered") as raised:
                await connection.webtransport("localhost", "/mischief", protocols=["chat.2"])
            assert raised.value.code == H3Code.WT_ALPN_ERROR
            with pytest.raises(UsageError, match="printable ASCII"):
                await connection.webtransport("localhost", protocols=["tschüß"])
        assert spoken == [["chat.2", odd], [], ["chat.2"]]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("value", "understood"),
    [
        (b'"a"', ["a"]),
        (b'"a" ,\t"b";q=1;x, "c";y="z"', ["a", "b", "c"]),
        (b"a", []),  # a token, no string
        (b'"a", b', []),
        (b'"a",', []),
        (b'"a" "b"', []),
        (b'"a', []),
        (b'"a\\n"', []),
        (b'("a" "b")', []),
        (b"", []),
    ],
)
def test_an_offer_that_is_no_list_of_strings_is_as_none(value: bytes, understood: list[str]) -> None:
    assert available([(b"wt-available-protocols", value)]) == understood
    assert chosen([(b"wt-protocol", value)]) == (understood[0] if len(understood) == 1 else None)


@given(st.lists(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)), max_size=5), st.binary(max_size=30))
def test_every_offer_is_understood_and_nothing_else_does_harm(protocols: list[str], other: bytes) -> None:
    assert available(offer(protocols)) == protocols
    available([(b"wt-available-protocols", other)])


def test_unidirectional_streams_go_each_way() -> None:
    async def main() -> None:
        async with session_with(echo_streams) as session:
            stream = await session.open_stream(unidirectional=True)
            await stream.send(b"one way", end=True)
            back = await session.accept_stream()
            assert back.unidirectional
            assert await back.receive_all() == b"one way"

    asyncio.run(main())


def test_the_server_opens_bidirectional_streams_too() -> None:
    async def behaviour(session: http3.Session) -> None:
        stream = await session.open_stream()
        await stream.send(b"question", end=True)
        assert await stream.receive_all() == b"answer"
        await session.close(7, "thank you")

    async def main() -> None:
        async with session_with(behaviour) as session:
            stream = await session.accept_stream()
            assert await stream.receive_all() == b"question"
            await stream.send(b"answer", end=True)
            closed = await session.wait_closed()
            assert (closed.code, closed.reason) == (7, "thank you")

    asyncio.run(main())


def test_datagrams_go_both_ways() -> None:
    async def behaviour(session: http3.Session) -> None:
        while True:
            session.send_datagram(await session.receive_datagram() + b"!")

    async def main() -> None:
        async with session_with(behaviour) as session:
            assert session.max_datagram_size > 1000
            session.send_datagram(b"ping")
            assert await session.receive_datagram() == b"ping!"

    asyncio.run(main())


def test_what_the_client_closes_ends_at_the_server_with_its_code_and_reason() -> None:
    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()
        accepted = asyncio.Event()

        async def behaviour(session: http3.Session) -> None:
            stream = await session.accept_stream()
            accepted.set()
            try:
                await stream.receive_all()
            except http3.RequestError:
                ended.set_result(await session.wait_closed())

        async with session_with(behaviour) as session:
            stream = await session.open_stream()
            await stream.send(b"begun")
            await accepted.wait()
            await session.close(3, "enough")
            closed = await ended
            assert (closed.code, closed.reason) == (3, "enough")
            with pytest.raises(http3.RequestError):
                await session.open_stream()

    asyncio.run(main())


def test_a_session_that_is_not_granted_says_with_which_status() -> None:
    async def main() -> None:
        async with session_with(echo_streams) as session:
            connection = session.connection
            assert isinstance(connection, http3.ClientConnection)
            with pytest.raises(http3.RequestError, match="404") as raised:
                await connection.webtransport("localhost", "/elsewhere")
            assert not raised.value.retryable, "the server has answered"

    asyncio.run(main())


def test_a_server_without_webtransport_is_not_asked() -> None:
    async def handler(request: http3.Request) -> None:
        request.respond([(b":status", b"200")], end=True)

    async def main() -> None:
        async with (
            http3.serve(handler, "127.0.0.1", 0, identities=[IDENTITY]) as server,
            http3.connect(
                "127.0.0.1", server.port, server_name="localhost", verify=False, webtransport=True
            ) as connection,
        ):
            with pytest.raises(UsageError, match="WebTransport"):
                await connection.webtransport("localhost")

    asyncio.run(main())


def test_codes_of_resets_and_stops_reach_the_other_application() -> None:
    async def behaviour(session: http3.Session) -> None:
        stream = await session.accept_stream()
        await stream.send(await stream.receive(1))
        with pytest.raises(http3.RequestError) as raised:
            await stream.receive_all()
        stream.reset((raised.value.application_code or 0) + 1)
        stopped = await session.accept_stream()
        await stopped.receive(1)
        stopped.stop_reading(0xFFFFFFFF)
        await session.wait_closed()

    async def main() -> None:
        async with session_with(behaviour) as session:
            stream = await session.open_stream()
            await stream.send(b"x")
            await stream.receive(1)
            stream.reset(41)
            with pytest.raises(http3.RequestError) as raised:
                await stream.receive_all()
            assert raised.value.application_code == 42
            stopped = await session.open_stream()

            async def send_on() -> None:
                while True:
                    await stopped.send(bytes(1000))
                    await asyncio.sleep(0)

            with pytest.raises(http3.RequestError) as raised:
                await send_on()
            assert raised.value.application_code == 0xFFFFFFFF

    asyncio.run(main())


def test_streams_of_a_session_that_ends_have_no_code_of_an_application() -> None:
    async def behaviour(session: http3.Session) -> None:
        await session.accept_stream()
        await session.close(5)

    async def main() -> None:
        async with session_with(behaviour) as session:
            stream = await session.open_stream()
            await stream.send(b"begun")
            with pytest.raises(http3.RequestError) as raised:
                await stream.receive_all()
            assert raised.value.application_code is None
            assert (await session.wait_closed()).code == 5

    asyncio.run(main())


def test_who_drains_is_heard_and_the_session_goes_on() -> None:
    async def behaviour(session: http3.Session) -> None:
        await session.drain()
        await echo_streams(session)

    async def main() -> None:
        async with session_with(behaviour) as session:
            for number in range(20):
                stream = await session.open_stream()
                await stream.send(b"%d" % number, end=True)
                assert await stream.receive_all() == b"%d" % number
            assert session.draining

    asyncio.run(main())


@pytest.mark.parametrize(("code", "reason"), [(-1, ""), (1 << 32, ""), (0, "\ud800")])
def test_a_session_is_not_closed_with_what_no_capsule_carries(code: int, reason: str) -> None:
    async def main() -> None:
        async with session_with(echo_streams) as session:
            with pytest.raises(UsageError):
                await session.close(code, reason)
            stream = await session.open_stream()
            await stream.send(b"goes on", end=True)
            assert await stream.receive_all() == b"goes on"

    asyncio.run(main())


def test_tasks_that_wait_for_a_session_can_be_cancelled_one_by_one() -> None:
    async def main() -> None:
        async with session_with(echo_streams) as session:
            waits = [session.accept_stream, session.receive_datagram, session.wait_closed]
            for wait in waits * 2:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(wait(), 0.01)
            stream = await session.open_stream(unidirectional=True)
            await stream.send(b"x", end=True)
            assert await (await session.accept_stream()).receive_all() == b"x"

    asyncio.run(main())


def test_a_request_for_something_else_becomes_no_session() -> None:
    async def handler(request: http3.Request) -> None:
        with pytest.raises(UsageError, match="asks for no"):
            request.accept_session()
        request.respond([(b":status", b"204")], end=True)

    async def main() -> None:
        async with (
            http3.serve(handler, "127.0.0.1", 0, identities=[IDENTITY], webtransport=True) as server,
            http3.connect("127.0.0.1", server.port, server_name="localhost", verify=False) as connection,
        ):
            assert (await connection.request("GET", "localhost")).status == 204

    asyncio.run(main())
