"""What servers of others serve in the tests of our HTTP/3 client: an ASGI application."""

from __future__ import annotations

import hashlib
from typing import Any

BLOCK = bytes(range(256)) * 256


async def app(scope: Any, receive: Any, send: Any) -> None:
    """`/hello`, `/upload`, `/big/COUNT`, `/large`, `/trailers`."""
    if scope["type"] != "http":
        return
    path, headers = scope["path"], dict(scope["headers"])
    if path == "/upload":
        digest, count = hashlib.sha256(), 0
        while True:
            message = await receive()
            digest.update(message.get("body", b""))
            count += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        await _respond(send, f"{count} {digest.hexdigest()}".encode())
    elif path.startswith("/big/"):
        left = int(path.rpartition("/")[2])
        length = (b"content-length", b"%d" % left)
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        while left:
            piece = BLOCK[:left]
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
    elif path == "/large":
        await _respond(send, b"%d" % len(headers[b"x-large"]), [(b"x-large", headers[b"x-large"][::-1])])
    elif path == "/trailers":
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"body"})
        await send({"type": "http.response.trailers", "headers": [(b"x-checksum", b"42")], "more_trailers": False})
    else:
        await _respond(send, b"hello")


async def _respond(send: Any, body: bytes, fields: list[tuple[bytes, bytes]] | None = None) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length, *(fields or [])]})
    await send({"type": "http.response.body", "body": body})
