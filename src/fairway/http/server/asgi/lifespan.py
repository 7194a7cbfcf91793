"""The lifespan protocol (ASGI Lifespan 2.0): an application starts before its first request, stops after its last."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from fairway.http.server.asgi.errors import LifespanError, ProtocolMisuseError
from fairway.http.server.asgi.types import LIFESPAN_VERSION, Application, Message

_log = logging.getLogger("fairway.server")


class Lifespan:
    """Runs an application's lifespan. An application that knows of none is served without."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self.state: dict[str, Any] = {}
        """What the application left for its requests; each gets a copy."""
        self.supported = False
        """True if the application takes part."""
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._started: asyncio.Future[None] | None = None
        self._stopped: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Start the application; `LifespanError` if it says that it cannot."""
        loop = asyncio.get_running_loop()
        self._started, self._stopped = loop.create_future(), loop.create_future()
        self._inbox.put_nowait({"type": "lifespan.startup"})
        self._task = loop.create_task(self._run())
        await self._started

    async def shutdown(self) -> None:
        """Stop the application; `LifespanError` if it says that it failed to."""
        if self._task is None or self._stopped is None:
            return
        try:
            if self.supported and not self._task.done():
                self._inbox.put_nowait({"type": "lifespan.shutdown"})
                await self._stopped
        finally:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        assert self._started is not None
        assert self._stopped is not None
        scope = {"type": "lifespan", "asgi": LIFESPAN_VERSION, "state": self.state}
        try:
            await self._application(scope, self._inbox.get, self._send)
        except Exception as error:
            if self.supported and not self._stopped.done():
                _log.exception("the application's lifespan failed")
                self._stopped.set_exception(LifespanError(f"the application's lifespan failed: {error!r}"))
                self._stopped.exception()  # nobody may be waiting
            elif not self._started.done():
                _log.debug("the application knows of no lifespan: %r", error)
        finally:
            for future in (self._started, self._stopped):
                if not future.done():
                    future.set_result(None)

    async def _send(self, message: Message) -> None:
        assert self._started is not None
        assert self._stopped is not None
        kind = message["type"]
        if kind == "lifespan.startup.complete" and not self._started.done():
            self.supported = True
            self._started.set_result(None)
        elif kind == "lifespan.startup.failed" and not self._started.done():
            self._started.set_exception(LifespanError(_words("start", message)))
        elif kind == "lifespan.shutdown.complete" and self.supported and not self._stopped.done():
            self._stopped.set_result(None)
        elif kind == "lifespan.shutdown.failed" and self.supported and not self._stopped.done():
            self._stopped.set_exception(LifespanError(_words("stop", message)))
        else:
            raise ProtocolMisuseError(f"{kind} has no place in the lifespan now")


def _words(what: str, message: Message) -> str:
    reason = message.get("message")
    return f"the application did not {what}: {reason}" if reason else f"the application did not {what}"
