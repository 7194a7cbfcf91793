"""The server that real clients are tested against: a page, echoes, large and slow bodies, WebTransport."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.certificates import make_certificate
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fairway.aio import http3
from fairway.http3 import RequestReceived

IMAGES = 100
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'><circle cx='5' cy='5' r='5' fill='green'/></svg>"
PAGE = b"".join(
    (
        b"<!doctype html><body style='background:#0a0'><h1 id='title'>fairway</h1>",
        *(b"<img src='/image/%d.svg'>" % index for index in range(IMAGES)),
    )
)


def content(size: int) -> bytes:
    """Bytes whose place can be told."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@dataclass
class Log:
    """What the server saw."""

    requests: list[RequestReceived] = field(default_factory=list)
    aborted: threading.Event = field(default_factory=threading.Event)
    """Set once a client gave up a response."""
    connections: set[object] = field(default_factory=set)

    def paths(self) -> list[bytes]:
        """Paths that were asked for."""
        return [dict(request.fields)[b":path"] for request in self.requests]


@dataclass
class Origin:
    """A running server."""

    port: int
    log: Log
    certificate: Path
    """Of the authority that clients have to trust."""
    spki: str
    """Hash of the server's public key, by which a browser can be told to trust it."""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://localhost:{self.port}"


class _Handler:
    def __init__(self, log: Log) -> None:
        self._log = log

    async def __call__(self, request: http3.Request) -> None:
        self._log.requests.append(RequestReceived(request.stream_id, request.fields, request.ended))
        self._log.connections.add(request.connection)
        if request.wants_session:
            await self._session(request)
            return
        path = request.field(b":path") or b""
        try:
            await self._answer(request, path)
        except http3.RequestError:
            self._log.aborted.set()
            raise

    async def _answer(self, request: http3.Request, path: bytes) -> None:
        if path == b"/":
            self._respond(request, b"text/html", PAGE)
        elif path.startswith(b"/image/"):
            self._respond(request, b"image/svg+xml", SVG)
        elif path.startswith(b"/bytes/"):
            await self._bytes(request, int(path[7:]))
        elif path == b"/echo":
            await self._echo(request)
        elif path == b"/digest":
            digest = hashlib.sha256()
            async for part in request:
                digest.update(part)
            self._respond(request, b"text/plain", digest.hexdigest().encode())
        elif path == b"/trailers":
            request.inform([(b":status", b"103"), (b"link", b"</style.css>; rel=preload")])
            request.respond([(b":status", b"200"), (b"trailer", b"x-sum")], b"body")
            request.send_trailers([(b"x-sum", b"4")])
        elif path == b"/fields":
            body = str(sum(len(name) + len(value) for name, value in request.fields)).encode()
            request.respond([(b":status", b"200"), (b"x-large", b"v" * 20_000)], body, end=True)
        else:
            request.respond([(b":status", b"404")], b"not here", end=True)

    def _respond(self, request: http3.Request, kind: bytes, body: bytes) -> None:
        fields = [(b":status", b"200"), (b"content-type", kind), (b"content-length", b"%d" % len(body))]
        request.respond(fields, b"" if request.field(b":method") == b"HEAD" else body, end=True)

    async def _bytes(self, request: http3.Request, size: int) -> None:
        request.respond([(b":status", b"200"), (b"content-length", b"%d" % size)])
        if request.field(b":method") == b"HEAD":
            await request.send(b"", end=True)
            return
        piece = content(251 * 4000)
        left = size
        while left:
            await request.send(piece[:left])
            left -= min(left, len(piece))
        await request.send(b"", end=True)

    async def _echo(self, request: http3.Request) -> None:
        request.respond([(b":status", b"200")])
        async for part in request:
            await request.send(part)
        await request.send(b"", end=True)

    async def _session(self, request: http3.Request) -> None:
        """Streams come back reversed, datagrams as they are."""
        async with request.accept_session() as session:
            datagrams = asyncio.create_task(self._datagrams(session))
            async for stream in session.incoming_streams():
                data = await stream.receive_all()
                back = await session.open_stream(unidirectional=True) if stream.unidirectional else stream
                await back.send(data[::-1], end=True)
            datagrams.cancel()

    async def _datagrams(self, session: http3.Session) -> None:
        with contextlib.suppress(http3.RequestError):
            while True:
                session.send_datagram(await session.receive_datagram())


@contextlib.contextmanager
def origin(directory: Path) -> Iterator[Origin]:
    """The server, in a thread of its own, with a certificate of an authority made for it."""
    log = Log()
    loop = asyncio.new_event_loop()
    ready: list[int] = []
    certificate = make_certificate(directory)
    started, stop = threading.Event(), asyncio.Event()

    async def main() -> None:
        async with http3.serve(
            _Handler(log), "127.0.0.1", 0, identities=[certificate.identity], webtransport=True, grace_s=0.5
        ) as server:
            ready.append(server.port)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert started.wait(10)
    leaf = x509.load_pem_x509_certificate(certificate.chain.read_bytes())
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        yield Origin(ready[0], log, certificate.authority, base64.b64encode(hashlib.sha256(key).digest()).decode())
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
