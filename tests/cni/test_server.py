"""The agent's end of the socket: many shims at once, and whatever else connects."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from pathlib import Path

import pytest

from fairway.net.cni import server as server_room
from fairway.net.cni.server import Server
from fairway.net.cni.wire import LONGEST_REQUEST, Answer, Request, decode_answer, encode_request
from fairway.net.model.errors import FairwayError


async def echo(request: Request) -> Answer:
    return Answer(0, request.stdin)


async def say(path: Path, data: bytes) -> bytes:
    """What comes back for those bytes; nothing if the connection is just closed."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    writer.write_eof()
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def test_many_shims_are_answered_each_with_its_own(tmp_path: Path) -> None:
    async def run() -> list[bytes]:
        server = Server(tmp_path / "s", echo)
        await server.start()
        requests = [encode_request(Request({"CNI_COMMAND": "ADD"}, b"%d" % number)) for number in range(200)]
        answers = await asyncio.gather(*(say(tmp_path / "s", request) for request in requests))
        await server.stop()
        return list(answers)

    assert [decode_answer(data).stdout for data in asyncio.run(run())] == [b"%d" % number for number in range(200)]


def test_what_is_no_request_is_closed_and_others_are_answered(tmp_path: Path) -> None:
    async def run() -> None:
        server = Server(tmp_path / "s", echo)
        await server.start()
        for nonsense in (b"", b"GET / HTTP/1.1\r\n\r\n", b"CNI_COMMAND\0\0", b"\0" * 3 + b"x" * 5):
            await say(tmp_path / "s", nonsense)
        await say(tmp_path / "s", b"A=" + b"x" * (LONGEST_REQUEST + 1))
        assert decode_answer(await say(tmp_path / "s", encode_request(Request({}, b"{}")))) == Answer(0, b"{}")
        await server.stop()

    asyncio.run(run())


def test_calls_that_were_taken_are_answered_before_the_end(tmp_path: Path) -> None:
    async def run() -> bytes:
        asked = asyncio.Event()
        told = asyncio.Event()

        async def slow(request: Request) -> Answer:
            asked.set()
            await told.wait()
            return Answer(0, request.stdin)

        server = Server(tmp_path / "s", slow)
        await server.start()
        call = asyncio.create_task(say(tmp_path / "s", encode_request(Request({}, b"last"))))
        await asked.wait()
        ending = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        assert not (tmp_path / "s").exists()  # a shim that comes now finds no agent
        told.set()
        await ending
        return await call

    assert decode_answer(asyncio.run(run())) == Answer(0, b"last")


def test_only_root_may_connect_and_only_one_agent_serves(tmp_path: Path) -> None:
    async def run() -> None:
        server = Server(tmp_path / "s", echo)
        await server.start()
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
        with pytest.raises(FairwayError, match="another agent serves"):
            await Server(tmp_path / "s", echo).start()
        await server.stop()

    asyncio.run(run())


def test_a_socket_that_a_killed_agent_left_is_replaced(tmp_path: Path) -> None:
    async def run() -> None:
        abandoned = await asyncio.start_unix_server(lambda *_: None, tmp_path / "s")
        abandoned.close()
        assert (tmp_path / "s").exists()
        server = Server(tmp_path / "s", echo)
        await server.start()
        assert decode_answer(await say(tmp_path / "s", encode_request(Request({}, b"{}")))) == Answer(0, b"{}")
        await server.stop()

    asyncio.run(run())


def test_who_connects_and_does_not_end_its_request_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_room, "_REQUEST_S", 0.1)

    async def run() -> None:
        server = Server(tmp_path / "s", echo)
        await server.start()
        for said in (b"", b"CNI_COMMAND=ADD\0"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            writer.write(said)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()
        await server.stop()

    asyncio.run(run())
