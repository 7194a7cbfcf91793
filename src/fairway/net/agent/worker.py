"""The one thread that works on the host: what is asked of it is done in order, while the event loop goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fairway.net.agent.protocol import BusyError

T = TypeVar("T")

QUEUE_MAX = 2048  # a node may start some hundred pods at once; each waits for those before it


class Worker:
    """Bounded: beyond `limit` waiting it refuses, so that nobody waits for what cannot come in time."""

    def __init__(self, limit: int = QUEUE_MAX) -> None:
        self._limit = limit
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fairway-worker")
        self._since = 0.0  # when what is being done was begun; 0: nothing is
        self.waiting = 0

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns, or raises, once its turn has come. BusyError: too much is waiting."""
        if self.waiting >= self._limit:
            raise BusyError(f"the agent has {self.waiting} things to do already", mend="try again in a moment")
        self.waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, lambda: self._timed(work))
        future.add_done_callback(self._finished)
        return await future

    @property
    def busy_s(self) -> float:
        """How long it has been at what it does now; 0 if it does nothing."""
        since = self._since
        return time.monotonic() - since if since else 0.0

    def close(self) -> None:
        """Return when what was begun is done; what waits is dropped."""
        self._executor.shutdown(cancel_futures=True)

    def _timed(self, work: Callable[[], T]) -> T:
        self._since = time.monotonic()
        try:
            return work()
        finally:
            self._since = 0.0

    def _finished(self, _: object) -> None:
        self.waiting -= 1
