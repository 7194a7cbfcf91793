from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator

import brotli
import pytest
from origin import CHAIN_PEM, OK, hello, serving

from fairway.aio import http3
from fairway.http3 import Fields, H3Code

BODY = bytes(range(256)) * 20_000


class Shop:
    """An origin that `fairway get` is tried on; it runs in a thread of its own."""

    def __init__(self) -> None:
        self.port = 0
        self.etag = b'"one"'
        self.cut_at = len(BODY) // 2
        self.requests: list[Fields] = []
        self.connections: set[int] = set()
        self.uploaded: list[bytes] = []

    async def handle(self, request: http3.Request) -> None:
        self.requests.append(request.fields)
        self.connections.add(id(request.connection))
        path = (request.field(b":path") or b"").partition(b"?")[0].decode()
        answer = getattr(self, "_" + path.strip("/").partition("/")[0].partition(".")[0], None)
        await (answer or self._missing)(request) if path != "/" else await hello(request)

    async def _missing(self, request: http3.Request) -> None:
        request.respond([(b":status", b"404")], b"no such thing", end=True)

    async def _file(self, request: http3.Request) -> None:
        status, body, more = b"200", BODY, []
        wanted = request.field(b"range")
        if wanted and request.field(b"if-range") in (None, self.etag):
            first, last = wanted.removeprefix(b"bytes=").split(b"-")
            at, end = int(first), int(last or len(BODY) - 1) + 1
            if at >= len(BODY):
                return request.respond([(b":status", b"416"), (b"content-range", b"bytes */%d" % len(BODY))], end=True)
            status, body = b"206", BODY[at:end]
            more = [(b"content-range", b"bytes %d-%d/%d" % (at, end - 1, len(BODY)))]
        length = (b"content-length", b"%d" % len(body))
        request.respond([(b":status", status), (b"etag", self.etag), length, *more])
        if request.field(b":method") == b"HEAD":
            return await request.send(b"", end=True)
        return await request.send(body, end=True)

    async def _cut(self, request: http3.Request) -> None:
        """The same file, of which only a part comes."""
        if request.field(b"range"):
            return await self._file(request)
        length = (b"content-length", b"%d" % len(BODY))
        request.respond([*OK, (b"etag", self.etag), length])
        await request.send(BODY[: self.cut_at])
        await request.connection.wait(request.readable)  # until the client has gone: nothing is lost by a reset
        return None

    async def _older(self, request: http3.Request) -> None:
        request.abort(H3Code.H3_VERSION_FALLBACK)

    async def _moved(self, request: http3.Request) -> None:
        request.respond([(b":status", b"302"), (b"location", b"/file.bin")], end=True)

    async def _kept(self, request: http3.Request) -> None:
        request.respond([(b":status", b"307"), (b"location", b"/upload")], end=True)

    async def _around(self, request: http3.Request) -> None:
        request.respond([(b":status", b"301"), (b"location", b"/around")], end=True)

    async def _plain(self, request: http3.Request) -> None:
        request.respond([(b":status", b"301"), (b"location", b"http://localhost/")], end=True)

    async def _upload(self, request: http3.Request) -> None:
        self.uploaded.append(await request.receive_all())
        await hello(request)

    async def _coded(self, request: http3.Request) -> None:
        offered = request.field(b"accept-encoding") or b""
        name = request.field(b"x-coding") or b"gzip"
        packed = gzip.compress(BODY) if name == b"gzip" else brotli.compress(BODY)
        assert name in offered
        request.respond([*OK, (b"content-encoding", name)])
        await request.send(packed, end=True)

    async def _endless(self, request: http3.Request) -> None:
        request.respond(OK)
        while True:
            await request.send(bytes(1000))

    async def _silent(self, request: http3.Request) -> None:
        request.respond(OK, b"begun")
        await asyncio.Event().wait()


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    ready = threading.Event()
    stop: list[asyncio.Event] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        async with serving(shop.handle, grace_s=0) as server:
            shop.port = server.port
            stop.append(asyncio.Event())
            loops.append(asyncio.get_running_loop())
            ready.set()
            await stop[0].wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(10)
    yield shop
    loops[0].call_soon_threadsafe(stop[0].set)
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def authority(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    path.write_bytes(CHAIN_PEM)
    return str(path)
