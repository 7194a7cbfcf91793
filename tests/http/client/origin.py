"""Origins for the client's tests: our HTTP/3 server, and a plain HTTP/1.1 server over TLS that sends Alt-Svc."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fairway.aio import http3
from fairway.aio.server import Server
from fairway.tls import Identity, ServerConfig, Tickets, self_signed

CERTIFICATE, KEY = self_signed(["localhost", "127.0.0.1", "other.example"])
IDENTITY = Identity((CERTIFICATE.public_bytes(Encoding.DER),), KEY)
CHAIN_PEM = CERTIFICATE.public_bytes(Encoding.PEM)
KEY_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
OK = [(b":status", b"200")]

H3Server = Server[http3.ServerConnection]


def certificate_files(directory: Path) -> tuple[str, str]:
    """The origin's chain, which is also its authority, and key, as files."""
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(CHAIN_PEM)
    key.write_bytes(KEY_PEM)
    return str(chain), str(key)


@contextlib.asynccontextmanager
async def serving(handler: http3.RequestHandler, port: int = 0, **options: Any) -> AsyncIterator[H3Server]:
    clients = {name: options.pop(name) for name in ("client_ca", "require_client_certificate") if name in options}
    tls = ServerConfig((IDENTITY,), ("h3",), tickets=Tickets(early_data=True), **clients)
    options = {"identities": (), "tls": tls, "grace_s": 0.5} | options
    async with http3.serve(handler, "127.0.0.1", port, **options) as server:
        yield server


async def hello(request: http3.Request) -> None:
    request.respond([*OK, (b"content-type", b"text/plain")], b"hello", end=True)


async def echo(request: http3.Request) -> None:
    request.respond(OK)
    async for part in request:
        await request.send(part)
    await request.send(b"", end=True)


class TcpOrigin:
    """Answers every request over TLS with `body` and the fields given; one request a connection."""

    def __init__(self, directory: Path, fields: list[str], status: int = 200) -> None:
        self.fields = fields
        self.status = status
        self.requests = 0
        self.port = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate_files(directory))

    async def __aenter__(self) -> TcpOrigin:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            head = [f"HTTP/1.1 {self.status} OK", "content-length: 3", "connection: close", *self.fields]
            writer.write(("\r\n".join(head) + "\r\n\r\ntcp").encode())
            await writer.drain()
        writer.close()
