"""The same application behind a real server: Hypercorn, over HTTP/1.1 and HTTP/2, asked by httpx."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from files_driver import files, open_descriptors, tree
from hypercorn.asyncio import serve
from hypercorn.config import Config

from fairway.http.server.files import Files, limits
from fairway.tls.development import self_signed

DATA = os.urandom(limits.CHUNK_BYTES * 10)
SCRIPT = b"function answer() { return 42; }\n" * 100


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    tree(site, {"index.html": b"<p>home</p>", "big.bin": DATA, "app.js": SCRIPT, "docs/x": b"x", "huge.bin": b""})
    os.truncate(
        site / "huge.bin", 200_000_000
    )  # more than all buffers on the way take, so that it is never sent at once
    return site


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.asynccontextmanager
async def serving(app: Files, directory: Path, version: str) -> AsyncIterator[httpx.AsyncClient]:
    """Hypercorn on a port of loopback, with TLS, by which the version is agreed on, and a client of it."""
    certificate, key = self_signed(["localhost"])
    chain, secret = directory / "certificate.pem", directory / "key.pem"
    chain.write_bytes(certificate.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    listener = socket.create_server(("127.0.0.1", 0))
    base = f"https://localhost:{listener.getsockname()[1]}"
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]  # Hypercorn's from now on
    config.certfile, config.keyfile = str(chain), str(secret)
    config.errorlog = None
    config.graceful_timeout = 1
    config.keep_alive_timeout = (
        1  # how Hypercorn 0.18 ends an HTTP/2 response whose application failed: it resets nothing
    )
    end = asyncio.Event()
    server = asyncio.create_task(serve(app, config, shutdown_trigger=end.wait))  # type: ignore[arg-type]
    try:
        trust = ssl.create_default_context(cafile=chain)
        http2 = version == "HTTP/2"
        async with httpx.AsyncClient(base_url=base, verify=trust, http1=not http2, http2=http2, timeout=30) as client:
            yield client
    finally:
        end.set()
        await server


def test_files_arrive_whole_in_part_compressed_and_not_at_all(site: Path, tmp_path: Path, version: str) -> None:
    async def run() -> None:
        async with serving(files(site), tmp_path, version) as client:
            home = await client.get("/")
            assert (home.status_code, home.http_version, home.content) == (200, version, b"<p>home</p>")
            big = await client.get("/big.bin")
            assert big.content == DATA
            assert big.headers["content-length"] == str(len(DATA))
            part = await client.get("/big.bin", headers={"range": "bytes=1000-300000"})
            assert (part.status_code, part.content) == (206, DATA[1000:300001])
            script = await client.get("/app.js", headers={"accept-encoding": "gzip"})
            assert script.headers["content-encoding"] == "gzip"
            assert script.content == SCRIPT  # httpx decodes it
            again = await client.get("/app.js", headers={"if-none-match": script.headers["etag"]})
            assert again.status_code == 200  # of another coding
            assert (await client.get("/", headers={"if-none-match": home.headers["etag"]})).status_code == 304
            head = await client.head("/big.bin")
            assert (head.headers["content-length"], head.content) == (str(len(DATA)), b"")
            moved = await client.get("/docs?q=1", follow_redirects=False)
            assert moved.headers["location"] == "/docs/?q=1"
            missing = await client.get("/..%2f..%2fetc/passwd")
            assert missing.status_code == 404
            assert (await client.delete("/")).status_code == 405

    asyncio.run(run())


def test_many_at_once_each_get_their_own(site: Path, tmp_path: Path, version: str) -> None:
    tree(site, {f"{number}.txt": b"%d" % number * 1000 for number in range(50)})

    async def run() -> None:
        async with serving(files(site), tmp_path, version) as client:
            responses = await asyncio.gather(*(client.get(f"/{number}.txt") for number in range(50)))
            assert [response.content for response in responses] == [b"%d" % number * 1000 for number in range(50)]

    asyncio.run(run())


def test_a_client_that_leaves_in_the_middle_leaves_no_file_open(site: Path, tmp_path: Path, version: str) -> None:
    def opened() -> int:
        return sum(str(site) in _target(name) for name in os.listdir("/proc/self/fd"))

    async def run() -> None:
        async with serving(files(site), tmp_path, version) as client:
            async with client.stream("GET", "/huge.bin") as response:
                async for _ in response.aiter_raw():
                    break
                assert opened() == 1
            assert (await client.get("/")).status_code == 200
            await client.aclose()
        assert opened() == 0

    before = open_descriptors()
    asyncio.run(run())
    assert open_descriptors() <= before + 1  # what the ssl module opens once


def test_a_file_that_shrinks_is_no_complete_response(site: Path, tmp_path: Path, version: str) -> None:
    async def run() -> None:
        async with serving(files(site), tmp_path, version) as client, client.stream("GET", "/huge.bin") as response:
            os.truncate(site / "huge.bin", limits.CHUNK_BYTES)
            with pytest.raises(httpx.RemoteProtocolError):
                await response.aread()

    asyncio.run(run())


def _target(name: str) -> str:
    try:
        return str(Path(f"/proc/self/fd/{name}").readlink())
    except OSError:
        return ""
