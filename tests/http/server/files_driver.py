"""Drives the file application as a server would, without one: one request in, its messages out."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fairway.http.server.files import Files

LATER_NS = 10_000_000_000  # the application's clock runs this far ahead: the files of a test are no longer fresh

OnSend = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass
class Response:
    """What the application sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)
    error: BaseException | None = None


def later() -> int:
    return time.time_ns() + LATER_NS


def files(directory: Path, **options: Any) -> Files:
    return Files(directory, **{"clock": later, **options})


async def ask(
    app: Files,
    target: str,
    headers: dict[str, str] | None = None,
    *,
    method: str = "GET",
    root_path: str = "",
    extensions: dict[str, Any] | None = None,
    receive: Callable[[], Awaitable[dict[str, Any]]] | None = None,
    on_send: OnSend | None = None,
) -> Response:
    """One request, whose target is decoded once as ASGI servers do; an error of the application ends the response."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
    }
    if extensions is not None:
        scope["extensions"] = extensions
    response = Response()

    async def send(message: Any) -> None:
        response.messages.append(message)
        if message["type"] == "http.response.start":
            assert not response.status
            response.status = message["status"]
            for name, value in message["headers"]:
                assert name == name.lower()
                assert name.decode() not in response.headers, f"{name!r} twice"
                response.headers[name.decode()] = value.decode("latin-1")
        elif message["type"] == "http.response.zerocopysend":
            response.body += os.pread(message["file"].fileno(), message["count"], message["offset"])
            response.complete = not message["more_body"]
        else:
            assert not response.complete
            body = message.get("body", b"")
            assert type(body) is bytes
            response.body += body
            response.complete = not message.get("more_body", False)
        if on_send is not None:
            await on_send(message)

    async def silent() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    try:
        await app(scope, receive or silent, send)
    except Exception as error:
        if not response.status:
            raise
        response.error = error
    return response


def request(app: Files, target: str, headers: dict[str, str] | None = None, **options: Any) -> Response:
    return asyncio.run(ask(app, target, headers, **options))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def tree(directory: Path, contents: dict[str, bytes]) -> Path:
    """The files of `contents` below `directory`, made a while ago."""
    for name, data in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(1_700_000_000_123_456_789,) * 2)
    return directory


LAST_MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"
EARLIER = "Tue, 14 Nov 2023 22:13:19 GMT"
LATER = "Tue, 14 Nov 2023 22:13:21 GMT"
