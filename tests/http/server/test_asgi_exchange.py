"""What `receive` and `send` do for one request over HTTP/3."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
from asgi_serving import IDENTITY, ask_h3, serving

from fairway.aio import http3
from fairway.http.server.asgi import Limits, Message, Receive, Scope, Send
from fairway.http3 import H3Code

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
HEAD = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/")]


async def no_lifespan(scope: Scope) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError


def messages(*sent: Message) -> Any:
    """An application that sends these."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        for message in sent:
            await send(message)

    return application


def outcome(application: Any, **request: Any) -> Any:
    """The answer to one request, or the error that it ended in."""

    async def main() -> Any:
        async with serving(application) as served, served.dial() as connection:
            try:
                return await ask_h3(connection, **request)
            except http3.RequestError as error:
                return error

    return asyncio.run(main())


def test_the_scope_is_as_the_specification_says() -> None:
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        seen.append(scope)
        await messages(START, {"type": "http.response.body"})(scope, receive, send)

    async def main() -> int:
        async with serving(application, root_path="/api") as served, served.dial() as connection:
            fields = [(b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"host", b"localhost")]
            response = await connection.request("GET", "localhost", "/a%2Fb/%E2%82%AC?q=%41", fields=fields)
            await response.receive_all()
            return served.port

    port = asyncio.run(main())
    scope = dict(seen[0])
    host, client_port = scope.pop("client")
    assert host == "127.0.0.1"
    assert client_port != port
    extensions = scope.pop("extensions")
    assert scope == {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "3", "method": "GET",
        "scheme": "https", "path": "/a/b/€", "raw_path": b"/a%2Fb/%E2%82%AC", "query_string": b"q=%41",
        "root_path": "/api", "headers": [(b"host", b"localhost"), (b"cookie", b"a=1; b=2"), (b"x", b"y")],
        "server": ("127.0.0.1", port), "state": {},
    }  # fmt: skip
    tls = extensions.pop("tls")
    assert tls["tls_version"] == 0x0304
    assert tls["cipher_suite"] in (0x1301, 0x1302, 0x1303)
    assert tls["client_cert_chain"] == ()
    assert tls["client_cert_name"] is None
    assert ssl.PEM_cert_to_DER_cert(tls["server_cert"]) == IDENTITY.chain[0]
    assert set(extensions) == {
        "http.response.trailers", "http.response.early_hint", "http.response.zerocopysend", "http.response.pathsend",
    }  # fmt: skip


def test_nothing_is_sent_before_the_first_body_message() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await send({**START, "headers": [(b"x", b"never seen")]})
        raise RuntimeError("on purpose")

    answer = outcome(application)
    assert (answer.status, answer.header("x")) == (500, None)


def test_an_error_after_the_start_resets_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await send(START)
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise RuntimeError("on purpose")

    assert outcome(application).code == H3Code.H3_INTERNAL_ERROR
    assert "on purpose" in caplog.text


@pytest.mark.parametrize(("length", "body"), [(b"5", b"longer"), (b"5", b"few")])
def test_a_body_of_another_length_than_announced_is_not_sent(
    length: bytes, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    start = {**START, "headers": [(b"content-length", length)]}
    assert outcome(messages(start, {"type": "http.response.body", "body": body})).status == 500
    more = [
        {"type": "http.response.body", "body": body[:1], "more_body": True},
        {"type": "http.response.body", "body": body[1:]},
    ]
    assert outcome(messages(start, *more)).code == H3Code.H3_INTERNAL_ERROR
    assert "content-length" in caplog.text


def test_an_application_that_returns_early_is_answered_for(caplog: pytest.LogCaptureFixture) -> None:
    assert outcome(messages()).status == 500
    assert outcome(messages(START)).status == 500
    begun = {"type": "http.response.body", "body": b"x", "more_body": True}
    assert outcome(messages(START, begun)).code == H3Code.H3_INTERNAL_ERROR
    assert "returned" in caplog.text


def test_what_follows_a_complete_response_is_ignored() -> None:
    end = {"type": "http.response.body", "body": b"all"}
    assert outcome(messages(START, end, end, START)).body == b"all"


@pytest.mark.parametrize(
    "sent",
    [
        [{"type": "http.response.body", "body": b"x"}],
        [START, START],
        [{**START, "status": 99}],
        [{**START, "headers": [(b":status", b"200")]}],
        [{**START, "headers": [("text", "text")]}],
        [{**START, "headers": [(b"bad name", b"x")]}, {"type": "http.response.body"}],
        [START, {"type": "http.response.body", "body": "text"}],
        [{"type": "websocket.accept"}],
    ],
)
def test_misuse_is_a_500_and_a_log_entry(sent: list[Message], caplog: pytest.LogCaptureFixture) -> None:
    assert outcome(messages(*sent)).status == 500
    assert "the application failed" in caplog.text


def test_large_bodies_follow_the_fields() -> None:
    body = bytes(range(256)) * 10_000
    assert outcome(messages(START, {"type": "http.response.body", "body": body})).body == body


def test_early_hints_and_trailers_are_sent() -> None:
    application = messages(
        {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]},
        {**START, "trailers": True},
        {"type": "http.response.body", "body": b"body"},
        {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True},
        {"type": "http.response.trailers", "headers": [(b"x-more", b"2")]},
    )

    async def main() -> None:
        async with serving(application) as served, served.dial() as connection:
            response = await connection.request("GET", "localhost", fields=[(b"te", b"trailers")])
            assert await response.receive_all() == b"body"
            assert response.informational == [[(b":status", b"103"), (b"link", b"</style.css>; rel=preload")]]
            assert response.trailers == [(b"x-sum", b"1"), (b"x-more", b"2")]
            response = await connection.request("GET", "localhost")  # which does not say that it takes them
            assert await response.receive_all() == b"body"
            assert response.trailers is None

    asyncio.run(main())


def test_files_are_sent_by_descriptor_and_by_path(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    path = tmp_path / "file"
    path.write_bytes(content)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await send(START)
        if scope["path"] == "/path":
            await send({"type": "http.response.pathsend", "path": str(path)})
            return
        with path.open("rb") as file:
            await send(
                {"type": "http.response.zerocopysend", "file": file, "offset": 10, "count": 20, "more_body": True}
            )
            await send({"type": "http.response.body", "body": b"|", "more_body": True})
            file.seek(1_000_000)
            await send({"type": "http.response.zerocopysend", "file": file})

    assert outcome(application, path="/path").body == content
    assert outcome(application, path="/descriptor").body == content[10:30] + b"|" + content[1_000_000:]


def test_a_body_is_read_no_faster_than_the_application_asks() -> None:
    sizes: list[int] = []
    go = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        await go.wait()
        while True:
            message = await receive()
            sizes.append(len(message["body"]))
            if not message["more_body"]:
                break
        await messages(START, {"type": "http.response.body"})(scope, receive, send)

    async def main() -> None:
        async with serving(application) as served, served.dial() as connection:
            stream = await connection.begin(HEAD)
            sending = asyncio.create_task(stream.send(bytes(8 << 20), end=True))
            done, _ = await asyncio.wait([sending], timeout=0.3)
            assert not done
            go.set()
            await sending
            assert await stream.wait_response()
            assert sum(sizes) == 8 << 20
            assert max(sizes) <= 64 * 1024

    asyncio.run(main())


def test_an_application_learns_that_its_client_has_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    async def main() -> None:
        outcomes: asyncio.Queue[object] = asyncio.Queue()
        begun = asyncio.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await no_lifespan(scope)
            if scope["path"] == "/receive":
                await receive()
                begun.set()
                outcomes.put_nowait((await receive())["type"])
                return
            await send(START)
            try:
                while True:
                    await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            except OSError as error:
                outcomes.put_nowait(error)
                raise

        async with serving(application) as served, served.dial() as connection:
            for path, leave in (("/receive", "stream"), ("/send", "stream"), ("/receive", "connection")):
                stream = await connection.begin([*HEAD[:3], (b":path", path.encode())], end=True)
                if path == "/send":
                    await stream.receive(1)
                else:
                    await begun.wait()
                    begun.clear()
                if leave == "stream":
                    stream.abort()
                else:
                    connection.close()
                found = await asyncio.wait_for(outcomes.get(), 5)
                assert found == "http.disconnect" or isinstance(found, OSError)
        assert not caplog.text

    asyncio.run(main())


def test_bodies_above_the_limit_get_413() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        await messages(START, {"type": "http.response.body"})(scope, receive, send)

    async def main() -> None:
        async with serving(application, limits=Limits(max_body=1000)) as served, served.dial() as connection:
            assert (await ask_h3(connection, method="POST", body=bytes(1000))).status == 200
            assert (await ask_h3(connection, method="POST", body=bytes(1001))).status == 413
            stream = await connection.begin(HEAD)
            await stream.send(bytes(2000))  # without a content-length
            await stream.wait_response()
            assert stream.status == 413

    asyncio.run(main())


def test_a_body_that_never_comes_is_a_408_and_a_disconnect() -> None:
    async def main() -> None:
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await no_lifespan(scope)
            told.set_result((await receive())["type"])

        async with serving(application, limits=Limits(read_timeout_s=0.1)) as served, served.dial() as connection:
            stream = await connection.begin(HEAD)
            await stream.wait_response()
            assert stream.status == 408
            assert await told == "http.disconnect"

    asyncio.run(main())


def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await no_lifespan(scope)
            await go.wait()
            await messages(START, {"type": "http.response.body"})(scope, receive, send)

        limits = Limits(idle_timeout_s=0.2)
        async with serving(application, limits=limits) as served, served.dial() as busy, served.dial() as idle:
            answer = asyncio.create_task(ask_h3(busy))
            assert (await asyncio.wait_for(idle.wait_closed(), 5)).code == H3Code.H3_NO_ERROR
            go.set()
            assert (await answer).status == 200

    asyncio.run(main())


def test_more_requests_than_allowed_get_503() -> None:
    async def main() -> None:
        go = asyncio.Event()
        begun = asyncio.Barrier(3)

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await no_lifespan(scope)
            await begun.wait()
            await go.wait()
            await messages(START, {"type": "http.response.body"})(scope, receive, send)

        async with serving(application, limits=Limits(max_requests=2)) as served, served.dial() as connection:
            first = [asyncio.create_task(ask_h3(connection)) for _ in range(2)]
            await begun.wait()
            assert served.service.running == 2
            refused = await ask_h3(connection)
            assert (refused.status, refused.header("retry-after")) == (503, "1")
            go.set()
            assert [answer.status for answer in await asyncio.gather(*first)] == [200, 200]

    asyncio.run(main())


def test_connect_to_nowhere_is_not_implemented() -> None:
    async def main() -> None:
        async with serving(messages()) as served, served.dial() as connection:
            stream = await connection.begin([(b":method", b"CONNECT"), (b":authority", b"example.org:443")], end=True)
            await stream.wait_response()
            assert stream.status == 501

    asyncio.run(main())
