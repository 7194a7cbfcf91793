"""Clients that are told what happens on the host, each as fast as it reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from fairway.net.agent.protocol import Json

_BEHIND = 1000  # events that a client may be behind; what comes then is lost to it, and it is told how many were


@dataclass(slots=True, eq=False)
class _Watcher:
    queue: asyncio.Queue[Json] = field(default_factory=lambda: asyncio.Queue(_BEHIND))
    lost: int = 0


class Watchers:
    """All who watch."""

    def __init__(self) -> None:
        self._watchers: set[_Watcher] = set()

    def tell(self, document: Json) -> None:
        """Tell everybody; nobody is waited for."""
        for watcher in self._watchers:
            try:
                watcher.queue.put_nowait(document)
            except asyncio.QueueFull:
                watcher.lost += 1

    async def watch(self) -> AsyncGenerator[Json, None]:
        """What happens from now on."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            while True:
                yield await watcher.queue.get()
                if watcher.lost and watcher.queue.empty():
                    lost, watcher.lost = watcher.lost, 0
                    yield {"event": "lost", "count": lost}
        finally:
            self._watchers.discard(watcher)
