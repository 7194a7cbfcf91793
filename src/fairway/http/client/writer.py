"""Writes to a descriptor in a thread of its own: a slow disk or reader does not hold up the connection."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable


class Writer:
    """One piece is written while the next is gathered. The thread does not keep the process from ending."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pieces: queue.Queue[tuple[bytes, Callable[[], None]] | None] = queue.Queue()
        self._under_way: asyncio.Future[None] | None = None
        self.written = 0
        """Bytes that the kernel has taken."""
        self.error: OSError | None = None
        """Why the rest was not taken."""
        threading.Thread(target=self._run, name="fairway-writer", daemon=True).start()

    async def write(self, data: bytes) -> None:
        """Begin to write, after what was begun before; `OSError` if that failed."""
        if self._under_way is not None:
            await self._under_way
        if self.error is not None:
            raise self.error
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def done() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, future)

        self._under_way = future
        self._pieces.put((data, done))

    async def settled(self) -> None:
        """Wait until all is written; `OSError` if it could not be."""
        if self._under_way is not None:
            await self._under_way
        if self.error is not None:
            raise self.error

    def drain(self) -> None:
        """Hold up everything until all is written, or has failed."""
        self._pieces.join()

    def close(self) -> None:
        """End the thread when it has written what it has. The descriptor stays open."""
        self._pieces.put(None)

    def _run(self) -> None:
        while (task := self._pieces.get()) is not None:
            data, done = task
            try:
                if self.error is None:
                    self._write(data)
            except OSError as error:
                self.error = error
            finally:
                self._pieces.task_done()
                try:
                    done()
                except RuntimeError:
                    return  # the loop was closed just now: nobody waits

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            taken = os.write(self._descriptor, view)
            self.written += taken
            view = view[taken:]


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
