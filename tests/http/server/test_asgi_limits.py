"""What clients may cost an application, the same by every version of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest
from asgi_serving import PROTOCOLS, Served, serving
from hypercorn.config import Config

from fairway.aio import QuicConfiguration, http3
from fairway.http.server.asgi import Limits, Receive, Scope, Send
from fairway.http.server.asgi import patience as patience_room
from fairway.http.server.asgi.limits import BODY_GRACE_S
from fairway.http.server.asgi.patience import Patience
from fairway.quic.endpoint.admission import AdmissionLimits


class Reader:
    """An application that reads the whole body and says how long it was; `told` is what ended it."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] != "lifespan"
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.told.put_nowait("disconnect")
                return
            size += len(message.get("body", b""))
            if not message.get("more_body", False):
                break
        self.told.put_nowait("whole")
        body = b"%d" % size
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


async def pieces(count: int, size: int, pause_s: float) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(size)
        await asyncio.sleep(pause_s)


async def post(served: Served, protocol: str, body: AsyncIterator[bytes]) -> int:
    """The status of the answer to a body that says nothing of its length."""
    if protocol == "h3":
        async with served.dial() as connection:
            response = await connection.request("POST", "localhost", body=body)
            return response.status
    two = protocol == "h2"
    async with httpx.AsyncClient(verify=False, http2=two, http1=not two, timeout=20.0, trust_env=False) as client:
        return (await client.post(f"https://127.0.0.1:{served.port}/", content=body)).status_code


@pytest.mark.parametrize("protocol", PROTOCOLS)
class TestBodies:
    def test_a_body_that_says_it_is_too_large_is_not_read(self, protocol: str) -> None:
        async def main() -> None:
            application = Reader()
            async with serving(application, tcp=True, limits=Limits(max_body=1000)) as served:
                assert (await served.ask(protocol, method="POST", body=bytes(1000))).body == b"1000"
                assert (await served.ask(protocol, method="POST", body=bytes(1001))).status == 413
            assert [application.told.get_nowait()] == ["whole"]
            assert application.told.empty()

        asyncio.run(main())

    def test_a_body_that_becomes_too_large_is_cut_off(self, protocol: str) -> None:
        async def main() -> None:
            application = Reader()
            async with serving(application, tcp=True, limits=Limits(max_body=1000)) as served:
                assert await post(served, protocol, pieces(5, 300, 0.02)) == 413
                assert await application.told.get() == "disconnect"

        asyncio.run(main())

    def test_a_body_that_stops_coming_is_a_408_and_a_disconnect(self, protocol: str) -> None:
        async def main() -> None:
            application = Reader()
            async with serving(application, tcp=True, limits=Limits(read_timeout_s=0.2)) as served:
                assert await post(served, protocol, pieces(2, 10, 1.0)) == 408
                assert await application.told.get() == "disconnect"

        asyncio.run(main())

    def test_a_body_in_crumbs_is_a_408_though_each_crumb_is_in_time(
        self, protocol: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patience_room, "BODY_GRACE_S", 0.3)

        async def main() -> None:
            application = Reader()
            async with serving(application, tcp=True, limits=Limits(min_body_rate=1000)) as served:
                assert await post(served, protocol, pieces(30, 1, 0.05)) == 408
                assert await application.told.get() == "disconnect"

        asyncio.run(main())

    def test_a_body_that_keeps_the_rate_is_taken_however_long(
        self, protocol: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patience_room, "BODY_GRACE_S", 0.1)

        async def main() -> None:
            async with serving(Reader(), tcp=True, limits=Limits(min_body_rate=1000)) as served:
                assert await post(served, protocol, pieces(20, 500, 0.05)) == 200

        asyncio.run(main())

    def test_more_requests_at_once_than_allowed_are_told_to_come_later(self, protocol: str) -> None:
        async def main() -> None:
            entered, leave = asyncio.Event(), asyncio.Event()

            async def application(scope: Scope, receive: Receive, send: Send) -> None:
                assert scope["type"] != "lifespan"
                entered.set()
                await leave.wait()
                await send({"type": "http.response.start", "status": 204})
                await send({"type": "http.response.body"})

            async with serving(application, tcp=True, limits=Limits(max_requests=1)) as served:
                first = asyncio.create_task(served.ask(protocol))
                await entered.wait()
                second = await served.ask(protocol)
                assert (second.status, second.header("retry-after")) == (503, "1")
                leave.set()
                assert (await first).status == 204
                assert (await served.ask(protocol)).status == 204

        asyncio.run(main())


def test_over_tcp_a_client_that_does_not_read_its_answer_is_given_up() -> None:
    async def main() -> None:
        ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] != "lifespan"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                while True:
                    await send({"type": "http.response.body", "body": bytes(200_000), "more_body": True})
            except OSError as error:
                ended.set_result(error)

        async with serving(application, tcp=True, limits=Limits(write_timeout_s=0.3)) as served:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            _, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=context, limit=1000)
            writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert "has gone" in str(await asyncio.wait_for(ended, 10))
            writer.transport.abort()

    asyncio.run(main())


def test_an_answer_that_had_begun_is_not_followed_by_a_408() -> None:
    async def main() -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] != "lifespan"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass

        async with serving(application, limits=Limits(read_timeout_s=0.2)) as served, served.dial() as connection:
            stream = await connection.request("POST", "localhost", body=pieces(2, 10, 1.0))
            assert stream.status == 200
            with pytest.raises(http3.RequestError):
                await stream.receive_all()

    asyncio.run(main())


SMALL = QuicConfiguration(
    stream_window=32_768, stream_window_cap=32_768, connection_window=32_768, connection_window_cap=32_768
)
HEAD = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost")]


class TestASlowReader:
    """A client that has no room for what it does not read."""

    @staticmethod
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        size = int(scope["path"].strip("/"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size)})

    @staticmethod
    async def read(stream: http3.ClientStream, seconds: float) -> int:
        """How much came, a piece at a time, a million bytes in so many seconds."""
        await stream.wait_response()
        size = 0
        while data := await stream.receive(16_384):
            size += len(data)
            await asyncio.sleep(seconds * len(data) / 1e6)
        return size

    def test_is_not_idle_while_it_takes_what_it_asked_for(self) -> None:
        async def main() -> None:
            limits = Limits(idle_timeout_s=2.0, write_timeout_s=60.0)
            async with serving(self.application, limits=limits) as served, served.dial(configuration=SMALL) as client:
                stream = await client.request("GET", "localhost", "/400000")
                assert await self.read(stream, 12.0) == 400_000
                await asyncio.wait_for(client.wait_closed(), 20)  # but now it is

        asyncio.run(main())

    def test_may_take_one_answer_after_the_other(self) -> None:
        async def main() -> None:
            limits = Limits(write_timeout_s=5.0)
            async with serving(self.application, limits=limits) as served, served.dial(configuration=SMALL) as client:
                first, second = [
                    await client.begin([*HEAD, (b":path", path), (b"priority", priority)], end=True)
                    for path, priority in ((b"/2500000", b"u=1"), (b"/1500000", b"u=6"))
                ]
                async with asyncio.TaskGroup() as group:
                    later = group.create_task(self.read(second, 0.0))
                    assert await self.read(first, 3.5) == 2_500_000
                assert later.result() == 1_500_000

        asyncio.run(main())


class TestPatience:
    def test_only_waiting_counts_and_bytes_buy_time(self) -> None:
        patience = Patience(Limits(read_timeout_s=None, min_body_rate=100))
        assert patience.left(0.0) == BODY_GRACE_S
        patience.took(1, BODY_GRACE_S - 1)
        assert patience.left(0.0) == pytest.approx(1.01)
        assert patience.left(2.0) < 0
        patience.took(1000, 0.0)
        assert patience.left(0.0) == pytest.approx(11.01)

    def test_the_next_bytes_have_a_time_of_their_own(self) -> None:
        patience = Patience(Limits(read_timeout_s=5.0, min_body_rate=None))
        patience.took(1, 4.0)
        assert patience.left(4.0) == 1.0
        assert patience.left(6.0) < 0

    def test_without_limits_it_has_no_end(self) -> None:
        assert Patience(Limits(read_timeout_s=None, min_body_rate=None)).left(1e9) == float("inf")


class TestConnectionsOverTcp:
    """What Hypercorn does not count."""

    @pytest.mark.parametrize("limits", [AdmissionLimits(connections=2), AdmissionLimits(connections_per_address=2)])
    def test_past_the_limit_are_closed_at_once_until_another_ends(self, limits: AdmissionLimits) -> None:
        async def main() -> None:
            async with serving(Reader(), tcp=True, admission=limits) as served:
                silent = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(2)]
                for _ in range(5):
                    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
                    with contextlib.suppress(ConnectionResetError):
                        assert await asyncio.wait_for(reader.read(), 10) == b""
                    writer.close()
                assert (await served.ask("h3", method="POST", body=b"1")).status == 200
                for _, writer in silent:
                    writer.close()
                for _ in range(5):  # whoever has gone is not counted any more
                    async with asyncio.timeout(10):
                        while (await attempt(served)) is None:  # noqa: ASYNC110 - it is let in when it is let in
                            await asyncio.sleep(0.01)

        asyncio.run(main())

    def test_that_do_not_end_their_handshake_are_closed(self) -> None:
        async def main() -> None:
            async with serving(Reader(), tcp=True, limits=Limits(request_timeout_s=0.2)) as served:
                reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
                writer.write(b"\x16\x03\x01\x02\x00\x01")
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), 10) == b""
                writer.close()

        asyncio.run(main())

    def test_stay_as_long_as_they_like_without_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Config, "keep_alive_timeout", 0.05)

        async def main() -> None:
            limits = Limits(idle_timeout_s=None)
            async with serving(Reader(), tcp=True, limits=limits) as served:
                tls = ssl.create_default_context()
                tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
                reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=tls)
                await asyncio.sleep(0.2)
                writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n1")
                assert b"200" in await reader.readline()
                writer.close()

        asyncio.run(main())

    def test_of_http_2_have_so_many_requests_at_once_as_was_said(self) -> None:
        async def main() -> None:
            configuration = QuicConfiguration(max_streams_bidi=7)
            async with serving(Reader(), tcp=True, configuration=configuration) as served:
                tls = ssl.create_default_context()
                tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
                tls.set_alpn_protocols(["h2"])
                reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=tls)
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
                length = int.from_bytes((await reader.readexactly(9))[:3], "big")
                settings = await reader.readexactly(length)
                assert bytes((0, 3, 0, 0, 0, 7)) in [settings[at : at + 6] for at in range(0, length, 6)]
                writer.close()

        asyncio.run(main())


async def attempt(served: Served) -> int | None:
    """The status of a request over TCP; None if it was not let in."""
    try:
        return (await served.ask("http/1.1", method="POST", body=b"1")).status
    except httpx.TransportError:
        return None
