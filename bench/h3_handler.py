"""python -m bench.h3_handler HOST PORT CHAIN KEY: Fairway's own interface for HTTP/3 requests, without ASGI.

Serves what `h3_app` serves: what the two differ by is the cost of ASGI.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import BinaryIO

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.h3_app import SMALL
from fairway.aio.http3 import Request, serve
from fairway.tls import Identity

FILES = Path(os.environ["BENCH_DIRECTORY"])
CHUNK = 256 << 10
_HEAD = [
    (b":status", b"200"),
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"%d" % len(SMALL)),
]


async def handle(request: Request) -> None:
    """100 bytes under /r/, a file elsewhere."""
    path = (request.field(b":path") or b"").decode()
    if path.startswith("/r/"):
        request.respond(_HEAD, SMALL, end=True)
        return
    with _open(path) as file:
        request.respond([(b":status", b"200"), (b"content-length", b"%d" % os.fstat(file.fileno()).st_size)])
        while data := file.read(CHUNK):
            await request.send(data)
        await request.send(b"", end=True)


def _open(path: str) -> BinaryIO:
    return (FILES / path.lstrip("/")).open("rb")


def _identity(chain: Path, key: Path) -> Identity:
    leaf = x509.load_pem_x509_certificate(chain.read_bytes())
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return Identity((leaf.public_bytes(serialization.Encoding.DER),), private)


async def main(host: str, port: int, identity: Identity) -> None:
    """Serve until killed."""
    async with serve(handle, host, port, identities=[identity]):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), _identity(Path(sys.argv[3]), Path(sys.argv[4]))))
