"""CNI as the agent offers it: the socket, the plugin behind it, and the deletions that were noted meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from fairway.net.cni import configuration
from fairway.net.cni.codes import CniError, Code
from fairway.net.cni.pending import Pending
from fairway.net.cni.plugin import Done, Plugin, failure
from fairway.net.cni.server import SOCKET, Server
from fairway.net.cni.wire import Answer, Request
from fairway.net.host import Host
from fairway.net.host.host import DEFAULT_STATE
from fairway.net.model.errors import FairwayError

T = TypeVar("T")

PENDING = DEFAULT_STATE / "cni-pending"

_DRAIN_S = 2.0  # between two looks for deletions of shims that were cut off while the agent was up


class Do(Protocol):
    """Does work on the host in its turn, away from the event loop; FairwayError: there is too much to do already."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """What `work` returns."""
        ...


class Service:
    """Serves shims from `start` to `stop`.

    `until_removed` returns when the kernel has taken an attachment's link away, and its address is free; `done` is
    told of every call that was answered.
    """

    def __init__(
        self,
        host: Host,
        do: Do,
        until_removed: Callable[[str], Awaitable[None]],
        done: Callable[[Request, Done], None] = lambda request, done: None,
        *,
        socket: Path = SOCKET,
        pending: Path = PENDING,
    ) -> None:
        self._plugin = Plugin(host, Pending(pending))
        self._do = do
        self._until_removed = until_removed
        self._done = done
        self._server = Server(socket, self.answer)
        self._drainer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Do the deletions that wait, then listen."""
        await self._do(self._plugin.drain)
        await self._server.start()
        self._drainer = asyncio.get_running_loop().create_task(self._keep_draining())

    async def stop(self) -> None:
        """Answer what was asked, and take no more."""
        if self._drainer is not None:
            self._drainer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._drainer
        await self._server.stop()

    async def answer(self, request: Request) -> Answer:
        """One call, answered when it is done: for DEL and GC, when the interfaces are gone."""
        try:
            done = await self._do(lambda: self._plugin.answer(request))
        except FairwayError as error:
            version = configuration.read_version(request.stdin)
            return failure(CniError(Code.TRY_AGAIN, error.message, error.mend), version)
        self._done(request, done)
        for name in done.ending:
            await self._until_removed(name)
        return done.answer

    async def _keep_draining(self) -> None:
        while True:
            await asyncio.sleep(_DRAIN_S)
            with contextlib.suppress(FairwayError):  # so much to do that it can wait
                await self._do(self._plugin.drain)
