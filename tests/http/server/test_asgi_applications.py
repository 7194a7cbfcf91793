"""A Starlette application behaves alike by HTTP/3, HTTP/2 and HTTP/1.1."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from asgi_serving import PROTOCOLS, serving
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

by_every_version = pytest.mark.parametrize("protocol", PROTOCOLS)


async def show(request: Request) -> Response:
    return JSONResponse(
        {
            "method": request.method,
            "path": request.scope["path"],
            "raw_path": request.scope["raw_path"].decode(),
            "query": request.scope["query_string"].decode(),
            "host": request.headers["host"].partition(":")[2].isdigit() or request.headers["host"],
            "cookies": request.cookies,
            "x": request.headers.getlist("x-twice"),
            "scheme": request.url.scheme,
            "started": request.state.started,
            "body": (await request.body()).decode(),
        }
    )


async def count(request: Request) -> Response:
    size = 0
    async for part in request.stream():
        size += len(part)
    return PlainTextResponse(str(size))


async def stream(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(50):
            yield b"%05d" % number * 2000
            await asyncio.sleep(0)

    return StreamingResponse(parts(), media_type="text/plain")


async def echo(request: Request) -> Response:
    return StreamingResponse(request.stream())


async def upload(request: Request) -> Response:
    async with request.form() as form:
        file = form["file"]
        assert not isinstance(file, str)
        return JSONResponse({"name": file.filename, "size": len(await file.read()), "note": form["note"]})


async def fail(request: Request) -> Response:
    raise RuntimeError("on purpose")


async def background(request: Request) -> Response:
    async def later() -> None:
        await request.app.state.left.wait()
        request.app.state.done.set()

    return PlainTextResponse("soon", background=BackgroundTask(later))


async def keep_alive(request: Request) -> Response:
    return PlainTextResponse("x", headers={"Connection": "keep-alive", "X-Kept": "yes", "Transfer-Encoding": "chunked"})


async def empty(request: Request) -> Response:
    return Response(status_code=204)


def application(files: Path | None = None) -> Starlette:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, int]]:
        app.state.left, app.state.done = asyncio.Event(), asyncio.Event()
        app.state.starts = getattr(app.state, "starts", 0) + 1
        yield {"started": app.state.starts}

    routes: list[Route | Mount] = [
        Route("/show/{rest:path}", show, methods=["GET", "POST", "PUT"]),
        Route("/count", count, methods=["POST"]),
        Route("/stream", stream),
        Route("/echo", echo, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/fail", fail),
        Route("/background", background),
        Route("/keep-alive", keep_alive),
        Route("/empty", empty),
    ]
    if files is not None:
        routes.append(Mount("/files", StaticFiles(directory=files)))
    return Starlette(routes=routes, lifespan=lifespan)


@by_every_version
def test_a_request_looks_the_same(protocol: str) -> None:
    async def main() -> None:
        async with serving(application(), tcp=True) as served:
            answer = await served.ask(
                protocol, "/show/a%20b/%C3%A9?x=1&y=%20", method="POST", headers={"cookie": "a=1; b=2"}, body=b"hello"
            )
            import json

            assert json.loads(answer.body) == {
                "method": "POST", "path": "/show/a b/é", "raw_path": "/show/a%20b/%C3%A9", "query": "x=1&y=%20",
                "host": "localhost" if protocol == "h3" else True, "cookies": {"a": "1", "b": "2"}, "x": [],
                "scheme": "https", "started": 1, "body": "hello",
            }  # fmt: skip
            assert (answer.header("alt-svc") is None) == (protocol == "h3")
            assert answer.header("date") is not None

    asyncio.run(main())


@by_every_version
def test_bodies_go_both_ways(protocol: str) -> None:
    async def main() -> None:
        async with serving(application(), tcp=True) as served:
            assert (await served.ask(protocol, "/count", method="POST", body=b"x" * 3_000_000)).body == b"3000000"
            assert (await served.ask(protocol, "/echo", method="POST", body=b"y" * 300_000)).body == b"y" * 300_000
            streamed = await served.ask(protocol, "/stream")
            assert streamed.body == b"".join(b"%05d" % number * 2000 for number in range(50))

    asyncio.run(main())


@by_every_version
def test_files_are_uploaded_in_forms(protocol: str) -> None:
    body = (
        b'--q\r\nContent-Disposition: form-data; name="note"\r\n\r\nhi\r\n'
        b'--q\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n\r\n'
        + bytes(200_000)
        + b"\r\n--q--\r\n"
    )

    async def main() -> None:
        async with serving(application(), tcp=True) as served:
            headers = {"content-type": "multipart/form-data; boundary=q"}
            answer = await served.ask(protocol, "/upload", method="POST", headers=headers, body=body)
            assert answer.body == b'{"name":"f.bin","size":200000,"note":"hi"}'

    asyncio.run(main())


@by_every_version
def test_an_exception_is_a_500_and_the_server_goes_on(protocol: str) -> None:
    async def main() -> None:
        async with serving(application(), tcp=True) as served:
            assert (await served.ask(protocol, "/fail")).status == 500
            assert (await served.ask(protocol, "/stream")).status == 200

    asyncio.run(main())


@by_every_version
def test_head_204_and_404_have_no_surplus(protocol: str) -> None:
    async def main() -> None:
        async with serving(application(), tcp=True) as served:
            head = await served.ask(protocol, "/stream", method="HEAD")
            assert (head.status, head.body) == (200, b"")
            empty = await served.ask(protocol, "/empty")
            assert (empty.status, empty.body) == (204, b"")
            assert (await served.ask(protocol, "/nowhere")).status == 404

    asyncio.run(main())


@by_every_version
def test_a_background_task_runs_though_the_client_has_left(protocol: str) -> None:
    async def main() -> None:
        app = application()
        async with serving(app, tcp=True) as served:
            assert (await served.ask(protocol, "/background")).body == b"soon"
            assert served.service.quic is not None
            for connection in served.service.quic.connections:
                await connection.wait_closed()
            await asyncio.sleep(0)  # who waits for the end of a connection has its turn
            app.state.left.set()
            await asyncio.wait_for(app.state.done.wait(), 5)

    asyncio.run(main())


@by_every_version
def test_fields_of_the_connection_are_left_out(protocol: str) -> None:
    async def main() -> None:
        async with serving(application(), tcp=True) as served:
            answer = await served.ask(protocol, "/keep-alive")
            assert (answer.status, answer.body, answer.header("x-kept")) == (200, b"x", "yes")
            assert answer.header("connection") is None

    asyncio.run(main())


@by_every_version
def test_starlettes_static_files_are_sent(protocol: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    (tmp_path / "large.bin").write_bytes(content)

    async def main() -> None:
        async with serving(application(tmp_path), tcp=True) as served:
            assert (await served.ask(protocol, "/files/large.bin")).body == content
            part = await served.ask(protocol, "/files/large.bin", headers={"range": "bytes=1000-300999"})
            assert (part.status, part.body) == (206, content[1000:301000])

    asyncio.run(main())
