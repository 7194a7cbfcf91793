"""CNI as the agent offers it: the socket, the plugin behind it, and the deletions that were noted meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from fairway.net.cni.pending import Pending
from fairway.net.cni.plugin import Plugin
from fairway.net.cni.server import SOCKET, Server
from fairway.net.cni.wire import Answer, Request
from fairway.net.host import Host

T = TypeVar("T")

PENDING = Path("/var/lib/fairway/cni-pending")

_WAITERS = 64  # deletions that wait for the kernel at a time; each takes 20 ms of it and none of ours
_DRAIN_S = 2.0  # between two looks for deletions of shims that were cut off while the agent was up


class Service:
    """Serves shims from `start` to `stop`. Whatever uses the host is run by `worker`, one call after the other."""

    def __init__(self, host: Host, worker: Executor, socket: Path = SOCKET, pending: Path = PENDING) -> None:
        self._plugin = Plugin(host, Pending(pending))
        self._worker = worker
        self._waiters = ThreadPoolExecutor(_WAITERS, thread_name_prefix="cni-wait")
        self._server = Server(socket, self.answer)
        self._drainer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Do the deletions that wait, then listen."""
        await self._work(self._plugin.drain)
        await self._server.start()
        self._drainer = asyncio.get_running_loop().create_task(self._keep_draining())

    async def stop(self) -> None:
        """Answer what was asked, and take no more."""
        if self._drainer is not None:
            self._drainer.cancel()
        await self._server.stop()
        self._waiters.shutdown()

    async def answer(self, request: Request) -> Answer:
        """One call, answered when it is done: for DEL, when the interface is gone."""
        answer = await self._work(lambda: self._plugin.answer(request))
        if answer.exit_code == 0 and request.environment.get("CNI_COMMAND") == "DEL":
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._waiters, self._plugin.wait_deleted, request)
        return answer

    async def _work(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def _keep_draining(self) -> None:
        while True:
            await asyncio.sleep(_DRAIN_S)
            await self._work(self._plugin.drain)
