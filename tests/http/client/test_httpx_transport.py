"""`Http3Transport` under httpx: requests and bodies, limits of time, errors, and when TCP is used."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import certifi
import httpx
import pytest
from origin import OK, H3Server, TcpOrigin, certificate_files, echo, hello, serving

from fairway.aio import http3
from fairway.http.client import Http3Transport
from fairway.http3 import H3Code


def only(**options: Any) -> httpx.AsyncClient:
    options = {"verify": False, "http3": "only"} | options
    return httpx.AsyncClient(transport=Http3Transport(**options))


def url(server: H3Server, path: str = "/") -> str:
    return f"https://localhost:{server.port}{path}"


def test_a_response_has_its_version_fields_and_body() -> None:
    async def main() -> None:
        async with serving(hello) as server, only() as client:
            response = await client.get(url(server))
            assert (response.status_code, response.text) == (200, "hello")
            assert response.http_version == "HTTP/3"
            assert response.headers["content-type"] == "text/plain"
            stream = response.extensions["network_stream"]
            assert stream.get_extra_info("server_addr")[1] == server.port
            assert stream.get_extra_info("alpn") == "h3"

    asyncio.run(main())


def test_the_server_sees_method_authority_path_and_fields_but_none_of_http_1_connections() -> None:
    async def main() -> None:
        seen: list[tuple[bytes, bytes]] = []

        async def handler(request: http3.Request) -> None:
            seen.extend(request.fields)
            await hello(request)

        async with serving(handler) as server, only() as client:
            headers = {"X-Name": "Value", "Connection": "close", "Transfer-Encoding": "chunked"}
            await client.delete(url(server, "/a%20b?q=1"), headers=headers)
            assert (b":method", b"DELETE") in seen
            assert (b":authority", b"localhost:%d" % server.port) in seen
            assert (b":path", b"/a%20b?q=1") in seen
            assert (b"x-name", b"Value") in seen
            assert not {b"host", b"connection", b"transfer-encoding"} & {name for name, _ in seen}

    asyncio.run(main())


def test_bodies_stream_both_ways_at_once() -> None:
    async def main() -> None:
        received = 0

        async def body() -> AsyncIterator[bytes]:
            for number in range(200):
                yield bytes([number]) * 50_000

        async with serving(echo) as server, only() as client:
            async with client.stream("POST", url(server), content=body()) as response:
                async for part in response.aiter_bytes():
                    received += len(part)
            assert received == 10_000_000
            assert (await client.post(url(server), content=b"x" * 3_000_000)).content == b"x" * 3_000_000

    asyncio.run(main())


def test_who_does_not_read_stops_the_server() -> None:
    async def main() -> None:
        sent = 0
        stalled = asyncio.Event()

        async def handler(request: http3.Request) -> None:
            nonlocal sent
            request.respond(OK)
            while True:
                try:
                    async with asyncio.timeout(0.5):
                        await request.send(bytes(1 << 20))
                except TimeoutError:
                    stalled.set()
                    return
                sent += 1

        async with serving(handler) as server, only() as client:
            async with client.stream("GET", url(server)):
                await stalled.wait()
            assert sent < 64

    asyncio.run(main())


def test_requests_of_one_origin_share_one_connection() -> None:
    async def main() -> None:
        connections: set[int] = set()

        async def handler(request: http3.Request) -> None:
            connections.add(id(request.connection))
            await hello(request)

        async with serving(handler) as server, only() as client:
            answers = await asyncio.gather(*(client.get(url(server)) for _ in range(300)))
            assert {answer.text for answer in answers} == {"hello"}
            assert len(connections) == 1

    asyncio.run(main())


def test_a_slow_response_is_a_read_timeout_and_the_connection_goes_on() -> None:
    async def main() -> None:
        async def handler(request: http3.Request) -> None:
            if request.field(b":path") == b"/slow":
                await asyncio.Event().wait()
            await hello(request)

        async with serving(handler) as server, only() as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(url(server, "/slow"), timeout=0.1)
            assert (await client.get(url(server))).text == "hello"

    asyncio.run(main())


def test_a_server_that_does_not_read_is_a_write_timeout() -> None:
    async def main() -> None:
        async def handler(request: http3.Request) -> None:
            await asyncio.Event().wait()

        async with serving(handler) as server, only() as client:
            with pytest.raises(httpx.WriteTimeout):
                await client.post(url(server), content=bytes(50_000_000), timeout=httpx.Timeout(5, write=0.2))

    asyncio.run(main())


def test_no_answer_is_a_connect_timeout_and_a_closed_port_a_connect_error() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            port = silent.getsockname()[1]
            async with only() as client:
                with pytest.raises(httpx.ConnectTimeout):
                    await client.get(f"https://127.0.0.1:{port}/", timeout=0.2)
        async with only() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"https://127.0.0.1:{port}/")

    asyncio.run(main())


def test_a_reset_stream_is_a_remote_protocol_error() -> None:
    async def main() -> None:
        async def handler(request: http3.Request) -> None:
            request.respond(OK, b"begun")
            request.abort(H3Code.H3_INTERNAL_ERROR)

        async with serving(handler) as server, only() as client:
            with pytest.raises(httpx.RemoteProtocolError, match="H3_INTERNAL_ERROR"):
                await client.get(url(server))

    asyncio.run(main())


def test_a_field_that_http_does_not_allow_is_a_local_protocol_error() -> None:
    async def main() -> None:
        async with serving(hello) as server, only() as client:
            with pytest.raises(httpx.LocalProtocolError):
                await client.get(url(server), headers=[(b"x-bad", b"a\x00b")])

    asyncio.run(main())


def test_an_error_of_the_body_reaches_the_caller_and_gives_the_request_up() -> None:
    async def main() -> None:
        begun, given_up = asyncio.Event(), asyncio.Event()

        async def handler(request: http3.Request) -> None:
            begun.set()
            try:
                await request.receive_all()
            except http3.RequestError:
                given_up.set()

        async def body() -> AsyncIterator[bytes]:
            yield b"some"
            await begun.wait()
            raise RuntimeError("the disk broke")

        async with serving(handler) as server, only() as client:
            with pytest.raises(RuntimeError, match="the disk broke"):
                await client.post(url(server), content=body())
            await given_up.wait()

    asyncio.run(main())


def test_a_cancelled_request_gives_up_its_stream_only() -> None:
    async def main() -> None:
        begun = asyncio.Event()
        outcome: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def handler(request: http3.Request) -> None:
            if request.field(b":path") == b"/":
                return await hello(request)
            begun.set()
            try:
                request.respond(OK)
                while True:
                    await request.send(bytes(100_000))
            except http3.RequestError as error:
                outcome.set_result(error.code)

        async with serving(handler) as server, only() as client:
            task = asyncio.create_task(client.get(url(server, "/endless"), timeout=None))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await outcome == H3Code.H3_REQUEST_CANCELLED
            assert (await client.get(url(server))).text == "hello"

    asyncio.run(main())


def test_early_hints_and_trailers_are_extensions() -> None:
    async def main() -> None:
        async def handler(request: http3.Request) -> None:
            request.inform([(b":status", b"103"), (b"link", b"</style.css>")])
            request.respond(OK, b"body")
            request.send_trailers([(b"x-checksum", b"42")])

        async with serving(handler) as server, only() as client:
            response = await client.get(url(server))
            assert response.extensions["informational"] == [(103, [(b"link", b"</style.css>")])]
            assert response.extensions["trailing_headers"] == [(b"x-checksum", b"42")]

    asyncio.run(main())


def test_verify_says_whom_to_trust(tmp_path: Path) -> None:
    async def main() -> None:
        nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
        public = ssl.create_default_context(cafile=certifi.where())
        async with serving(hello) as server:
            for verify in (certificate_files(tmp_path)[0], nobody, False):
                async with only(verify=verify) as client:
                    assert (await client.get(url(server))).text == "hello"
            for verify in (True, public):
                async with only(verify=verify) as client:
                    with pytest.raises(httpx.ConnectError):
                        await client.get(url(server))

    asyncio.run(main())


def test_an_ssl_context_whose_authorities_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="cafile"):
        Http3Transport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def test_cert_is_shown_to_a_server_that_asks(tmp_path: Path) -> None:
    async def main() -> None:
        options = {"client_ca": certificate_files(tmp_path)[0], "require_client_certificate": True}
        async with serving(hello, **options) as server:
            async with only(cert=certificate_files(tmp_path)) as client:
                assert (await client.get(url(server))).text == "hello"
            async with only() as client:
                with pytest.raises(httpx.TransportError):
                    await client.get(url(server))

    asyncio.run(main())


# When TCP is used


def auto(**options: Any) -> httpx.AsyncClient:
    return only(**({"http3": "auto"} | options))


def test_http_3_is_used_once_the_origin_has_said_where_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        used: list[bytes | None] = []

        async def handler(request: http3.Request) -> None:
            used.append(request.field(b"alt-used"))
            await hello(request)

        async with serving(handler) as server, TcpOrigin(tmp_path, [f'alt-svc: h3=":{server.port}"; ma=60']) as tcp:
            async with auto() as client:
                versions = [(await client.get(f"https://localhost:{tcp.port}/")).http_version for _ in range(3)]
            assert versions == ["HTTP/1.1", "HTTP/3", "HTTP/3"]
            assert used == [b"localhost:%d" % server.port] * 2

    asyncio.run(main())


def test_an_alternative_on_another_host_must_prove_to_be_the_origin(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(hello) as server, TcpOrigin(tmp_path, [f'alt-svc: h3="127.0.0.1:{server.port}"']) as tcp:
            for verify, version in ((certificate_files(tmp_path)[0], "HTTP/3"), (False, "HTTP/1.1")):
                async with auto(verify=verify) as client:
                    await client.get(f"https://localhost:{tcp.port}/")
                    assert (await client.get(f"https://localhost:{tcp.port}/")).http_version == version

    asyncio.run(main())


def test_an_alternative_that_does_not_answer_costs_one_head_start(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            field = f'alt-svc: h3=":{silent.getsockname()[1]}"'
            async with TcpOrigin(tmp_path, [field]) as tcp, auto(head_start_s=0.05) as client:
                for _ in range(3):
                    assert (await client.get(f"https://localhost:{tcp.port}/")).text == "tcp"
                assert tcp.requests == 3

    asyncio.run(main())


def test_an_alternative_that_refuses_is_left_alone_for_a_while(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        async with TcpOrigin(tmp_path, [f'alt-svc: h3=":{port}"']) as tcp, auto() as client:
            place = f"https://localhost:{tcp.port}/"
            assert [(await client.get(place)).text for _ in range(2)] == ["tcp", "tcp"]
            async with serving(hello, port):  # it is there now, but nobody asks yet
                assert (await client.get(place)).text == "tcp"

    asyncio.run(main())


def test_prefer_tries_http_3_first_and_falls_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(hello) as server, auto(http3="prefer") as client:
            assert (await client.get(url(server))).http_version == "HTTP/3"
            async with TcpOrigin(tmp_path, []) as tcp:
                assert (await client.get(f"https://localhost:{tcp.port}/")).text == "tcp"

    asyncio.run(main())


def test_a_misdirected_request_goes_over_tcp(tmp_path: Path) -> None:
    async def main() -> None:
        async def handler(request: http3.Request) -> None:
            request.respond([(b":status", b"421")], end=True)

        async with serving(handler) as server, TcpOrigin(tmp_path, [f'alt-svc: h3=":{server.port}"']) as tcp:
            async with auto() as client:
                answers = [(await client.get(f"https://localhost:{tcp.port}/")).text for _ in range(2)]
            assert answers == ["tcp", "tcp"]

    asyncio.run(main())


def test_only_refuses_plain_http() -> None:
    async def main() -> None:
        async with only() as client:
            with pytest.raises(httpx.UnsupportedProtocol):
                await client.get("http://localhost/")

    asyncio.run(main())


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="'only', 'auto' or 'prefer'"):
        Http3Transport(http3="maybe")  # type: ignore[arg-type]
