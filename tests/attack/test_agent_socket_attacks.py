"""Programs on the host that call the agent's sockets, and say what no client of ours would, or are not allowed to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fairway.net.agent import listener as listener_room
from fairway.net.agent import log
from fairway.net.agent import server as server_room
from fairway.net.agent.protocol import LINE_MAX, Json
from fairway.net.agent.server import CLIENTS_MAX, Server
from fairway.net.cni.pending import Pending, waiting_in
from fairway.net.cni.wire import Answer, Request, encode_request


def serving(path: Path, play: Callable[[], Awaitable[None]]) -> None:
    async def dispatch(call: str, arguments: Json, progress: object) -> Json:
        return {"call": call, "got": arguments}

    async def watch() -> AsyncGenerator[Json, None]:
        while True:
            await asyncio.sleep(1)
            yield {}

    async def run() -> None:
        server = Server(path, dispatch, watch)
        await server.start()
        try:
            async with asyncio.timeout(30):
                await play()
        finally:
            await server.close()

    asyncio.run(run())


async def answer(path: Path, data: bytes) -> Any:
    """What the agent answers first; None if it lets go of the client."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=LINE_MAX * 2)
    try:
        writer.write(data)
        line = await reader.readline()
        return json.loads(line) if line else None
    except ConnectionResetError:
        return None
    finally:
        writer.close()


NONSENSE = {
    "binary": os.urandom(4_000).replace(b"\n", b"") + b"\n",
    "depth": b"[" * 500_000 + b"\n",
    "a deep argument": b'{"call": "x", "arguments": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}\n",
    "a number without end": b'{"call": "x", "id": ' + b"9" * 900_000 + b"}\n",
    "half a character": b'{"call": "x", "id": "\\ud800", "arguments": {"\\udfff": "\\ud800"}}\n',
    "a NUL": b'{"call": "x\\u0000", "arguments": {}}\n',
    "no object": b"5\n",
    "a line without end": b"x" * (LINE_MAX + 10),
}


@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_answered_and_the_next_client_is_served(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s"

    async def play() -> None:
        said = await answer(path, data)
        assert said is None or {"error", "result"} & said.keys()
        assert (await answer(path, b'{"call": "y", "id": 7}\n'))["result"]["call"] == "y"

    serving(path, play)
    assert [record for record in caplog.records if record.exc_info] == []


def test_what_is_half_a_character_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def play() -> None:
        said = await answer(path, NONSENSE["half a character"])
        assert (said["id"], said["result"]["got"]) == ("\ud800", {"\udfff": "\ud800"})

    serving(path, play)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes somebody else")
def test_who_is_not_root_is_refused_even_where_the_file_lets_him_in(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for directory in (tmp_path, *tmp_path.parents[:3]):
        if directory != Path("/tmp"):
            directory.chmod(0o755)

    async def play() -> None:
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o666)
        child = os.fork()
        if not child:
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b'{"call": "pod.rm", "id": 1}\n')
                os._exit(0 if b"only root may call" in client.recv(65_536) else 1)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0

    serving(path, play)


def test_more_clients_than_there_may_be_are_told_so_and_one_that_goes_makes_room(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def play() -> None:
        idle = [await asyncio.open_unix_connection(str(path)) for _ in range(CLIENTS_MAX)]
        assert "clients already" in (await answer(path, b'{"call": "y"}\n'))["error"]["message"]
        for _, writer in idle:
            writer.close()
        while "error" in (said := await answer(path, b'{"call": "y"}\n')):  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0.01)
        assert said["result"]["call"] == "y"

    serving(path, play)


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b31m", "\ud800", "a\nb", "\u202ebackwards", "\x7f"])
@pytest.mark.parametrize("style", ["text", "json"])
def test_what_others_say_cannot_command_the_terminal_that_shows_the_log(
    capsys: pytest.CaptureFixture[str], text: str, style: str
) -> None:
    try:
        log.set_up(style, "info")
        log.say("peer lost", why=text)
        said = capsys.readouterr().err
    finally:
        log.LOGGER.handlers.clear()
    assert said.rstrip("\n").isprintable()
    assert "Traceback" not in said


class TestTheJournalOfDeletions:
    def note(self, directory: Path, **environment: str) -> None:
        directory.mkdir(exist_ok=True)
        (directory / "1.1").write_bytes(encode_request(Request(environment, b"{}")))

    def test_does_nothing_but_delete(self, tmp_path: Path) -> None:
        self.note(tmp_path / "j", CNI_COMMAND="ADD", CNI_CONTAINERID="c")
        done: list[Request] = []

        def do(request: Request) -> Answer:
            done.append(request)
            return Answer(0)

        assert Pending(tmp_path / "j").drain(do) == 0
        assert (done, waiting_in(tmp_path / "j")) == ([], [])
        assert (tmp_path / "j" / "1.1.bad").exists()

    @pytest.mark.parametrize(("code", "waits"), [(4, 0), (6, 0), (7, 0), (11, 1), (102, 1)])
    def test_does_not_try_for_ever_what_no_retry_can_help(self, tmp_path: Path, code: int, waits: int) -> None:
        self.note(tmp_path / "j", CNI_COMMAND="DEL")
        Pending(tmp_path / "j").drain(lambda _: Answer(1, b'{"code": %d}' % code))
        assert len(waiting_in(tmp_path / "j")) == waits


class Crowded:
    """An agent with so much to tell that no socket holds it; a real one would need a hundred thousand pods for that."""

    healthy = ready = True

    async def metrics(self) -> bytes:
        return bytes(32 << 20)


def test_who_does_not_read_the_metrics_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_room, "_REQUEST_S", 0.2)

    async def play() -> None:
        listener = listener_room.Listener(Crowded())  # type: ignore[arg-type]
        await listener.start("127.0.0.1", 0)
        assert listener._server is not None
        host, port = listener._server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")  # and nothing behind it
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - the listener's tell nobody when they end
                await asyncio.sleep(0.01)
        with contextlib.suppress(ConnectionResetError):
            assert len(await reader.read()) < 32 << 20
        writer.close()
        await listener.close()

    asyncio.run(play())


@pytest.mark.parametrize("said", [b"", b'{"call": '])
def test_who_asks_nothing_whole_is_let_go(tmp_path: Path, said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_room, "_IDLE_S", 0.1)

    async def play() -> None:
        assert await answer(tmp_path / "s", said) is None

    serving(tmp_path / "s", play)
