"""Tasks that wait for something to happen."""

from __future__ import annotations

import asyncio

_NOBODY: list[asyncio.Future[None]] = []
"""What signals share that nobody waits for: most of a connection's, most of the time. Nothing is ever put into it."""


class Signal:
    """Wakes all tasks that wait; a cancelled one is forgotten."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = _NOBODY

    async def wait(self) -> None:
        """Sleep until `fire`."""
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is _NOBODY:
            self._waiters = []
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def fire(self) -> None:
        """Wake everyone."""
        waiters, self._waiters = self._waiters, _NOBODY
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
