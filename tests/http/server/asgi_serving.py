"""A server for one application on loopback, and one way to ask it by every version of HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import httpx

from fairway.aio import http3
from fairway.http.server.asgi import Application, Limits
from fairway.http.server.certificates import Certificates
from fairway.http.server.service import Service, Settings
from fairway.http.server.sockets import open_sockets
from fairway.tls import self_signed_identity

IDENTITY = self_signed_identity(["localhost", "127.0.0.1"])
PROTOCOLS = ("h3", "h2", "http/1.1")


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    version: str

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known == name), None)


@dataclass
class Served:
    """A running server."""

    service: Service
    port: int
    connections: list[http3.ClientConnection] = field(default_factory=list)

    def dial(self, **options: object) -> http3.connect:
        return http3.connect("127.0.0.1", self.port, server_name="localhost", verify=False, **options)

    async def ask(
        self,
        protocol: str,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        if protocol == "h3":
            async with self.dial() as connection:
                return await ask_h3(connection, path, method=method, headers=headers, body=body)
        two = protocol == "h2"
        async with httpx.AsyncClient(verify=False, http2=two, http1=not two, timeout=20.0, trust_env=False) as client:
            url = f"https://127.0.0.1:{self.port}{path}"
            response = await client.request(method, url, headers=dict(headers or {}), content=body or None)
            fields = [(name.decode().lower(), value.decode()) for name, value in response.headers.raw]
            return Answer(response.status_code, fields, response.content, response.http_version)


async def ask_h3(
    connection: http3.ClientConnection,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    fields = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    if body:
        fields.append((b"content-length", b"%d" % len(body)))
    response = await connection.request(method, "localhost", path, fields=fields, body=body)
    data = await response.receive_all()
    assert response.response is not None
    lines = [(name.decode(), value.decode()) for name, value in response.response[1:]]
    return Answer(response.status, lines, data, "HTTP/3")


@contextlib.asynccontextmanager
async def serving(
    application: Application, *, tcp: bool = False, limits: Limits | None = None, **settings: object
) -> AsyncIterator[Served]:
    sockets = open_sockets("127.0.0.1", 0, tcp=tcp)
    chosen = Settings(Certificates((IDENTITY,)), limits=limits or Limits(), **settings)
    service = Service(application, chosen, udp=sockets.udp, tcp=sockets.tcp)
    try:
        await service.start()
        yield Served(service, sockets.port)
    finally:
        await service.close(2.0)
        sockets.close()
