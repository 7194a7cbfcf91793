"""What the ASGI servers serve in the benchmarks of HTTP/3: 100 bytes under /r/, and the files of BENCH_DIRECTORY."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.staticfiles import StaticFiles

Message = MutableMapping[str, Any]

SMALL = b"x" * 99 + b"."
_HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(SMALL))]
_files = StaticFiles(directory=os.environ["BENCH_DIRECTORY"]) if "BENCH_DIRECTORY" in os.environ else None


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """The smallest application there is under /r/; Starlette's files elsewhere."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http" and scope["path"].startswith("/r/"):
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": SMALL})
    elif scope["type"] == "http" and _files is not None:
        await _files(scope, receive, send)
