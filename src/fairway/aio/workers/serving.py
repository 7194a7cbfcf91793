"""`serve(...).with_workers(N)`: a master process that looks after N workers, and who started it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import traceback
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fairway.aio.workers.control import Control, Word
from fairway.aio.workers.duty import Patience, follow
from fairway.aio.workers.group import Group, Place
from fairway.aio.workers.master import Master, StartError

if TYPE_CHECKING:
    from fairway.aio.server import Listener, Server

DRAIN_S = 600.0


class Workers:
    """Workers that run, in processes of their own."""

    def __init__(self, pid: int, control: Control, address: Any) -> None:
        self._pid = pid
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended = asyncio.Event()
        self.address = address
        """What the workers' sockets are bound to."""
        control.socket.setblocking(False)
        self._loop.add_reader(control.socket.fileno(), self._hear)

    @property
    def port(self) -> int:
        """The UDP port."""
        return int(self.address[1])

    def reload(self) -> None:
        """Start new workers; those before end what they have begun once the new ones are ready."""
        self._control.say(Word.RELOAD)

    async def wait_closed(self) -> None:
        """Wait until all of them have ended."""
        await self._ended.wait()

    async def close(self) -> None:
        """Accept nobody new, let handlers finish, end all processes."""
        self._control.say(Word.STOP)
        await self._ended.wait()

    async def started(self) -> None:
        """Wait until all workers accept connections; `StartError` if they cannot."""
        await self._started

    def _hear(self) -> None:
        said = self._control.hear()
        if said is None:
            self._loop.remove_reader(self._control.socket.fileno())
            self._control.close()
            os.waitpid(self._pid, 0)
            self._fail(StartError("the workers ended while they started"))
            self._ended.set()
        elif said.word is Word.READY and not self._started.done():
            self._started.set_result(None)
        elif said.word is Word.FAILED:
            self._fail(StartError(said.message, said.mend))

    def _fail(self, error: StartError) -> None:
        if not self._started.done():
            self._started.set_exception(error)


class WorkersListener:
    """What starts workers: `async with` it, or await it. Leaving the block stops them gracefully.

    It forks: begin before you start threads or open what the workers should not have. A handler runs in a worker, on an
    event loop of its own, and what it changes in memory the others do not see. If the process that began ends, however,
    the workers stop.
    """

    def __init__(self, listener: Listener[Any], count: int, patience: Patience) -> None:
        self._listener = listener
        self._count = count
        self._patience = patience
        self._workers: Workers | None = None

    def __await__(self) -> Generator[Any, None, Workers]:
        return self._start().__await__()

    async def _start(self) -> Workers:
        first = self._listener.bind()
        ours, theirs = Control.pair()
        pid = os.fork()
        if not pid:
            ours.close()
            self._become_master(first, theirs)
        theirs.close()
        address = first.getsockname()
        first.close()
        self._workers = Workers(pid, ours, address)
        try:
            await self._workers.started()
        except BaseException:
            await self._workers.close()
            raise
        return self._workers

    async def __aenter__(self) -> Workers:
        return await self._start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._workers is not None:
            await self._workers.close()

    def _become_master(self, first: socket.socket, control: Control) -> None:
        """The child's side of a fork. Does not return."""
        status = 1
        try:
            group = Group(first, self._listener.server_id)
            Master(
                self._count,
                group,
                self._work,
                patience=self._patience,
                on_started=lambda: _say_ready(control),
                owner=control,
            ).run()
            status = 0
        except StartError as error:
            control.say(Word.FAILED, message=error.message, mend=error.mend)
        except BaseException:
            traceback.print_exc()
        finally:
            logging.shutdown()
            os._exit(status)

    def _work(self, place: Place, control: Control) -> int:
        """A worker's life."""
        try:
            asyncio.run(self._serve(place, control))
        except Exception as error:
            control.say(Word.FAILED, message=str(error) or repr(error))
            traceback.print_exc()
            return 1
        return 0

    async def _serve(self, place: Place, control: Control) -> None:
        servers: list[Server[Any]] = []

        async def listen() -> None:
            servers.append(await self._listener.at(place))

        async def close(grace_s: float) -> None:
            for server in servers:
                await server.close(grace_s)

        await follow(control, listen, close, self._patience)


def _say_ready(control: Control) -> None:
    control.say(Word.READY)
