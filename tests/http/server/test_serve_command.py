"""`fairway serve` as a process: both transports, workers, reloads, signals, errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from asgi_serving import Answer, ask_h3

from fairway.aio import http3
from fairway.quic import ClosedBy, ConnectionClosed, ErrorCode, MemorySessionStore, UsageError

COMMAND = [sys.executable, "-c", "from fairway.cli import main; main(prog_name='fairway')", "serve"]

APPLICATION = """
import asyncio, os
VERSION = 1
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    if scope["path"] == "/die":
        os._exit(3)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    extensions = scope.get("extensions") or {}
    if scope["path"] == "/early":
        what = "fairway.early_data" in extensions, extensions["tls"]["cipher_suite"]
        return await send({"type": "http.response.body", "body": repr(what).encode()})
    await send({"type": "http.response.body", "body": f"{VERSION} {os.getpid()} ".encode(), "more_body": True})
    if scope["path"] == "/slow":
        await receive()
        await receive()
    if scope["path"] == "/long":
        for _ in range(30):
            await asyncio.sleep(0.1)
            await send({"type": "http.response.body", "body": b".", "more_body": True})
    await send({"type": "http.response.body", "body": b"end"})
"""


@dataclass
class Running:
    process: subprocess.Popen[str]
    port: int
    directory: Path

    def dial(self) -> http3.connect:
        return http3.connect("127.0.0.1", self.port, server_name="localhost", verify=False)

    async def ask(self, path: str = "/") -> Answer:
        async with self.dial() as connection:
            return await ask_h3(connection, path)

    async def version_and_worker(self) -> tuple[int, int]:
        """Ask; once more if the connection came to a worker that said that it goes (RFC 9114 section 5.2)."""
        while True:
            async with self.dial() as connection:
                try:
                    version, pid, _ = (await ask_h3(connection)).body.split()
                    return int(version), int(pid)
                except (ConnectionClosed, UsageError, http3.RequestError):
                    if connection.usable or not (connection.closing is None or connection.clean):
                        raise

    def errors_until(self, text: str) -> str:
        assert self.process.stderr is not None
        seen = ""
        while text not in seen:
            line = self.process.stderr.readline()
            assert line, f"{text!r} never came: {seen}"
            seen += line
        return seen


@contextlib.contextmanager
def running(directory: Path, *arguments: str) -> Iterator[Running]:
    (directory / "main.py").write_text(APPLICATION)
    process = subprocess.Popen(
        [*COMMAND, "main:app", "--self-signed", "--host", "127.0.0.1", "--port", "0", "--grace", "5", *arguments],
        cwd=directory, env={**os.environ, "HOME": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        matched = re.search(r"https://127\.0\.0\.1:(\d+)/", first)
        assert matched, first + process.stderr.read()
        yield Running(process, int(matched[1]), directory)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=15)
        finally:
            process.kill()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_answers_by_quic_and_tcp_and_stops_at_sigterm(tmp_path: Path) -> None:
    with running(tmp_path, "--json") as server:
        assert asyncio.run(server.ask()).status == 200
        with httpx.Client(verify=False, http2=True, trust_env=False) as client:
            answer = client.get(f"https://127.0.0.1:{server.port}/x?y")
            assert answer.http_version == "HTTP/2"
            assert answer.headers["alt-svc"] == f'h3=":{server.port}"; ma=86400'
        server.process.terminate()
        output, _ = server.process.communicate(timeout=15)
        assert server.process.returncode == 0
        lines = [json.loads(line) for line in output.splitlines()]
        assert [(line["protocol"], line["target"], line["status"]) for line in lines] == [
            ("h3", "/", 200), ("h2", "/x?y", 200),
        ]  # fmt: skip


@pytest.mark.parametrize("takes", [True, False])
def test_early_data_is_taken_where_that_was_asked_for(takes: bool, tmp_path: Path) -> None:
    store = MemorySessionStore()

    async def ask(port: int) -> tuple[bool, bool | None, bytes, bytes]:
        async with http3.connect(
            "127.0.0.1", port, server_name="localhost", verify=False, session_store=store, early_data=True
        ) as connection:
            first = await ask_h3(connection, "/early")
            await connection.wait_connected()
            later = await ask_h3(connection, "/early")
        assert connection.handshake is not None
        return connection.handshake.resumed, connection.early, first.body, later.body

    with running(tmp_path, *(["--early-data"] if takes else [])) as server:
        known = b"(False, 4865)"  # the cipher suite
        assert asyncio.run(ask(server.port)) == (False, None, known, known)
        resumed, accepted, first, later = asyncio.run(ask(server.port))
        assert (resumed, accepted, later) == (True, True if takes else None, known)
        # As busy as the machine was: early or not, and answered before the handshake was complete or after it.
        assert first == known or (takes and first in (b"(True, None)", b"(True, 4865)"))


def test_workers_share_the_port_and_one_that_dies_is_started_again(tmp_path: Path) -> None:
    async def main(server: Running) -> set[int]:
        workers: set[int] = set()
        while len(workers) < 2:
            workers.add((await server.version_and_worker())[1])
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            async with asyncio.timeout(1):
                await server.ask("/die")
        later: set[int] = set()
        while len(later) < 2:
            with contextlib.suppress(TimeoutError, ConnectionClosed):
                async with asyncio.timeout(5):
                    later.add((await server.version_and_worker())[1])
        assert len(workers & later) == 1
        return workers | later

    with running(tmp_path, "--workers", "2", "--no-access-log") as server:
        pids = asyncio.run(asyncio.wait_for(main(server), 40))
        server.process.terminate()
        server.process.communicate(timeout=15)
        assert server.process.returncode == 0
    assert not any(alive(pid) for pid in pids)


def test_a_reload_brings_new_code_and_ends_nothing_that_was_begun(tmp_path: Path) -> None:
    async def main(server: Running) -> None:
        async with server.dial() as connection:
            slow = await connection.request("GET", "localhost", "/slow")
            begun = await slow.receive()
            assert begun.startswith(b"1 ")
            (tmp_path / "main.py").write_text(APPLICATION.replace("VERSION = 1", "VERSION = 2"))
            server.process.send_signal(signal.SIGHUP)
            while (await server.version_and_worker())[0] == 1:  # none of them is refused
                pass
            while connection.usable:  # the old worker says that it goes
                await connection.changed.wait()
            assert alive(int(begun.split()[1]))
            slow.abort()  # which is what the application waits for
            await connection.wait_closed()
            for _ in range(10):  # the kernel gives newcomers to the new ones from one datagram to the next
                assert (await server.version_and_worker())[0] == 2

    with running(tmp_path, "--workers", "2", "--no-access-log") as server:
        asyncio.run(asyncio.wait_for(main(server), 40))


def test_long_answers_go_on_through_reloads_and_newcomers_are_never_refused(tmp_path: Path) -> None:
    """By HTTP/3 and by HTTP/2; longer than `--grace`, which is for a stop."""

    met: set[int] = set()
    """The versions that newcomers met."""

    async def newcomers(server: Running, stop: asyncio.Event) -> None:
        while not stop.is_set():
            met.add((await server.version_and_worker())[0])

    async def meet(version: int) -> None:
        while version not in met:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)

    async def by_tcp(server: Running) -> str:
        async with httpx.AsyncClient(verify=False, http2=True, trust_env=False, timeout=20) as client:
            return (await client.get(f"https://127.0.0.1:{server.port}/long")).text

    async def main(server: Running) -> None:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(server.ask("/long")) for _ in range(4)]
            over_tcp = tasks.create_task(by_tcp(server))
            for _ in range(2):
                tasks.create_task(newcomers(server, stop))
            for version in (2, 3):
                await asyncio.sleep(0.5)
                await meet(version - 1)
                (tmp_path / "main.py").write_text(APPLICATION.replace("VERSION = 1", f"VERSION = {version}"))
                server.process.send_signal(signal.SIGHUP)
            bodies = [(await answer).body.decode() for answer in answers] + [await over_tcp]
            await meet(3)
            stop.set()
        assert all(body.startswith("1 ") and body.endswith("." * 30 + "end") for body in bodies)

    with running(tmp_path, "--workers", "2", "--no-access-log", "--grace", "0.5") as server:
        asyncio.run(asyncio.wait_for(main(server), 60))


def test_a_reload_takes_the_place_of_one_that_does_not_get_ready(tmp_path: Path) -> None:
    async def main(server: Running) -> None:
        assert (await server.version_and_worker())[0] == 1
        (tmp_path / "main.py").write_text("import time\ntime.sleep(60)\n" + APPLICATION)
        server.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(server.errors_until, "reloading")
        await asyncio.sleep(0.3)
        (tmp_path / "main.py").write_text(APPLICATION.replace("VERSION = 1", "VERSION = 3"))
        server.process.send_signal(signal.SIGHUP)
        while (await server.version_and_worker())[0] == 1:
            pass
        assert (await server.version_and_worker())[0] == 3

    with running(tmp_path, "--workers", "2", "--no-access-log") as server:
        asyncio.run(asyncio.wait_for(main(server), 40))


def test_a_stop_does_not_wait_for_what_a_reload_lets_go_on(tmp_path: Path) -> None:
    async def main(server: Running) -> None:
        async with server.dial() as connection:
            slow = await connection.request("GET", "localhost", "/slow")
            assert (await slow.receive()).startswith(b"1 ")
            (tmp_path / "main.py").write_text(APPLICATION.replace("VERSION = 1", "VERSION = 2"))
            server.process.send_signal(signal.SIGHUP)
            while (await server.version_and_worker())[0] == 1:
                pass
            server.process.terminate()
            assert await asyncio.to_thread(server.process.wait, 30) == 0
            await connection.wait_closed()
            assert connection.closing is not None
            assert connection.closing.by is ClosedBy.PEER  # a worker that is killed as it waits on says nothing

    with running(tmp_path, "--workers", "2", "--no-access-log", "--grace", "1") as server:
        asyncio.run(asyncio.wait_for(main(server), 40))


def test_a_reload_to_code_that_fails_leaves_the_old_workers(tmp_path: Path) -> None:
    async def main(server: Running) -> None:
        before = await server.version_and_worker()
        (tmp_path / "main.py").write_text("raise RuntimeError('broken code')")
        server.process.send_signal(signal.SIGHUP)
        assert "broken code" in await asyncio.to_thread(server.errors_until, "broken code")
        assert await server.version_and_worker() == before

    with running(tmp_path, "--workers", "1", "--no-access-log") as server:
        asyncio.run(asyncio.wait_for(main(server), 40))


def test_reload_watches_the_files(tmp_path: Path) -> None:
    async def main(server: Running) -> None:
        assert (await server.version_and_worker())[0] == 1
        (tmp_path / "main.py").write_text(APPLICATION.replace("VERSION = 1", "VERSION = 2"))
        while (await server.version_and_worker())[0] == 1:
            pass

    with running(tmp_path, "--reload", "--no-access-log") as server:
        asyncio.run(asyncio.wait_for(main(server), 40))


def failure(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "--host", "127.0.0.1", "--port", "0", *arguments],
        cwd=directory, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
@pytest.mark.parametrize(
    ("application", "message"),
    [
        ("absent:app", "there is no module 'absent'"),
        ("present:other", "has no attribute 'other'"),
        ("present:number", "it cannot be called"),
        ("not a name", "names no application"),
        ("present:failing", "no database today"),
    ],
)
def test_an_application_that_cannot_be_served_is_named(
    tmp_path: Path, application: str, message: str, workers: tuple[str, ...]
) -> None:
    (tmp_path / "present.py").write_text(
        "number = 1\n"
        "async def failing(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database today'})\n"
    )
    result = failure(tmp_path, application, "--self-signed", *workers)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_bad_certificates_and_taken_ports_are_named(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    result = failure(tmp_path, "main:app", "--certificate", "no.pem", "--key", "no.pem")
    assert result.returncode == 1
    assert "no.pem" in result.stderr
    assert "PEM certificate" in result.stderr
    assert failure(tmp_path, "main:app").returncode == 2
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        result = failure(tmp_path, "main:app", "--self-signed", "--port", str(port))
        assert f"UDP port {port}" in result.stderr
        assert "in use" in result.stderr


def test_connection_ids_tell_a_balancer_whose_they_are(tmp_path: Path) -> None:
    async def main(server: Running) -> bytes:
        async with server.dial() as connection:
            await ask_h3(connection)
            return bytes(connection.core._state.remote_ids.current)

    with running(tmp_path, "--workers", "2", "--server-id", "0a1b", "--server-id-rotation", "2") as server:
        used = asyncio.run(asyncio.wait_for(main(server), 20))
    assert len(used) == 13
    assert used[0] == 2 << 5 | 12
    assert used[1:3] == b"\x0a\x1b"
    assert int.from_bytes(used[3:5], "big") in (0, 1)
    for value, message in (("xyz", "hexadecimal"), ("00" * 10, "at most 9 bytes")):
        result = failure(tmp_path, "main:app", "--self-signed", "--server-id", value)
        assert result.returncode == 2
        assert message in result.stderr


def test_clients_past_the_limit_of_their_address_are_refused(tmp_path: Path) -> None:
    async def main(server: Running) -> None:
        async with server.dial(), server.dial():
            with pytest.raises(ConnectionClosed) as refused:
                await server.ask()
            assert refused.value.closing.code == ErrorCode.CONNECTION_REFUSED
        while True:  # those that were closed count until nothing of them can be on its way
            with contextlib.suppress(ConnectionClosed):
                assert (await server.ask()).status == 200
                return

    with running(tmp_path, "--no-access-log", "--limit-per-address", "2") as server:
        asyncio.run(asyncio.wait_for(main(server), 20))


def test_a_directory_is_served(tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text("content")
    process = subprocess.Popen(
        [*COMMAND, "--directory", ".", "--self-signed", "--host", "127.0.0.1", "--port", "0", "--no-access-log"],
        cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)}, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        matched = re.search(r":(\d+)/", process.stderr.readline())
        assert matched
        assert asyncio.run(Running(process, int(matched[1]), tmp_path).ask("/page.txt")).body == b"content"
    finally:
        process.terminate()
        process.communicate(timeout=15)
    assert process.returncode == 0
