"""The Unix socket that clients call the agent by: root only, one request at a time on each connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

from fairway.net.agent import protocol
from fairway.net.agent.log import LOGGER, say
from fairway.net.agent.protocol import LINE_MAX, BusyError, Json, Progress
from fairway.net.model.errors import FairwayError, UsageError

CLIENTS_MAX = 1024
_BACKLOG = 1024
_IDLE_S = 120.0  # a client that asks nothing for so long is let go
_WRITE_S = 30.0  # and one that reads nothing
_LAST_S = 10.0  # for what is asked when the agent ends
_CREDENTIALS = struct.Struct("=3i")  # struct ucred: pid, uid, gid

Dispatch = Callable[[str, Json, Progress], Awaitable[Json]]
Watch = Callable[[], AsyncGenerator[Json, None]]


class Server:
    """Serves at `path` until closed; `dispatch` does the calls, `watch` gives what a watching client is told."""

    def __init__(self, path: Path, dispatch: Dispatch, watch: Watch) -> None:
        self._path = path
        self._dispatch = dispatch
        self._watch = watch
        self._clients: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    async def start(self) -> None:
        """Begin to listen; the caller has the lock that says that no other agent does."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        former = os.umask(0o177)
        try:
            listening.bind(str(self._path))
        finally:
            os.umask(former)
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listening, limit=LINE_MAX, backlog=_BACKLOG, start_serving=True
        )

    async def close(self) -> None:
        """Take no more clients, let those that wait for an answer have it, and let go of the others."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for client in self._clients - self._answering:
            client.cancel()
        if self._answering:
            await asyncio.wait(self._answering, timeout=_LAST_S)
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # the client is gone, or is let go
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refusal = self._refusal(writer)
        if refusal is not None:
            await _send(writer, {"id": None, "error": protocol.error_document(refusal)})
            return
        while True:
            try:
                async with asyncio.timeout(_IDLE_S):
                    line = await reader.readline()
            except ValueError:  # longer than LINE_MAX
                error = UsageError(f"a request may have {LINE_MAX} bytes at most")
                await _send(writer, {"id": None, "error": protocol.error_document(error)})
                return
            if not line:
                return
            await self._answer(line, reader, writer)

    def _refusal(self, writer: asyncio.StreamWriter) -> FairwayError | None:
        connected: socket.socket = writer.get_extra_info("socket")
        credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, user, _ = _CREDENTIALS.unpack(credentials)
        if user not in (0, os.geteuid()):
            say("refused", level="warning", pid=pid, uid=user)
            return UsageError("only root may call the agent", mend="run it as root")
        if len(self._clients) > CLIENTS_MAX:
            return BusyError(f"the agent has {CLIENTS_MAX} clients already", mend="try again in a moment")
        return None

    async def _answer(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number: Any = None
        task = asyncio.current_task()
        assert task is not None

        def progress(done: int, total: int) -> None:
            writer.write(protocol.encode({"id": number, "progress": [done, total]}))

        try:
            number, call, arguments = protocol.decode_request(line)
            if call == "watch":
                await self._stream(number, reader, writer)
                return
            self._answering.add(task)
            answer: Json = {"result": await self._dispatch(call, arguments, progress)}
        except FairwayError as error:
            answer = {"error": protocol.error_document(error)}
        except Exception:
            LOGGER.exception("a call failed by a fault of the agent's", extra={"fields": {"request": line[:200]}})
            fault = FairwayError("the agent failed at this call, by a fault of its own", mend="see its log")
            answer = {"error": protocol.error_document(fault)}
        finally:
            self._answering.discard(task)
        await _send(writer, {"id": number} | answer)

    async def _stream(self, number: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Tell what happens until the client says or hears no more."""

        async def tell() -> None:
            async with contextlib.aclosing(self._watch()) as watched:
                async for document in watched:
                    await _send(writer, {"id": number, "event": document})

        telling, hearing = asyncio.create_task(tell()), asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait((telling, hearing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            hearing.cancel()
            await asyncio.gather(telling, hearing, return_exceptions=True)
        raise ConnectionResetError


async def _send(writer: asyncio.StreamWriter, document: Json) -> None:
    writer.write(protocol.encode(document))
    async with asyncio.timeout(_WRITE_S):
        await writer.drain()
