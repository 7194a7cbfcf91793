"""What a worker does as its master says: be ready, accept, end what was begun."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fairway.aio.workers.control import Control, Said, Word

LINGER_S = 0.25
"""Newcomers that the kernel gave us before it turned to our successors may still wait in our socket for so long."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what was begun may take, in seconds: at a stop, and when successors have taken over."""

    stop_s: float
    drain_s: float


async def follow(
    control: Control,
    listen: Callable[[], Awaitable[None]],
    close: Callable[[float], Awaitable[None]],
    patience: Patience,
) -> None:
    """The life of a worker that could start. `listen` begins to accept, `close` ends within so many seconds.

    A master that is gone means to stop.
    """
    loop = asyncio.get_running_loop()
    control.socket.setblocking(False)
    inbox: asyncio.Queue[Said | None] = asyncio.Queue()
    loop.add_reader(control.socket.fileno(), lambda: inbox.put_nowait(_hear(control, loop)))
    loop.add_signal_handler(signal.SIGTERM, inbox.put_nowait, Said(Word.STOP))
    control.say(Word.READY)
    said = await inbox.get()
    if said is None or said.word is not Word.GO:
        await close(0.0)
        return
    await listen()
    said = await inbox.get()
    if said is None or said.word is not Word.DRAIN:
        await close(patience.stop_s)
        return
    await asyncio.sleep(LINGER_S)
    draining, told = asyncio.ensure_future(close(patience.drain_s)), loop.create_task(inbox.get())
    await asyncio.wait([draining, told], return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        await asyncio.wait([draining], timeout=patience.stop_s)
        if not draining.done():
            draining.cancel()
            await asyncio.wait([draining])
            await close(0.0)
            return
    told.cancel()
    draining.result()


def _hear(control: Control, loop: asyncio.AbstractEventLoop) -> Said | None:
    said = control.hear()
    if said is None:
        loop.remove_reader(control.socket.fileno())  # the master is gone
    return said
