"""A worker process: starts the application, waits to be let in, serves until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Callable

from fairway.aio.workers.control import Control, Word
from fairway.aio.workers.duty import Patience, follow
from fairway.aio.workers.group import Place
from fairway.http.server.asgi import Application, LifespanError
from fairway.http.server.collector import settle_collector
from fairway.http.server.service import Service, Settings
from fairway.http.server.sockets import Sockets


def work(
    load: Callable[[], tuple[Application, Settings]],
    sockets: Sockets,
    place: Place,
    control: Control,
    patience: Patience,
) -> int:
    """The life of a worker that accepts at `place`, and by TCP on what all workers share; its exit status.

    Exceptions of `load` that have a `message` (and a `mend`) are told as they are, others with their traceback.
    """
    try:
        application, settings = load()
        asyncio.run(_work(application, settings, sockets, place, control, patience))
    except LifespanError as error:
        control.say(Word.FAILED, message=str(error))
    except Exception as error:
        message = getattr(error, "message", None)
        if not isinstance(message, str):
            message = "the application cannot be imported\n" + traceback.format_exc()
        control.say(Word.FAILED, message=message, mend=getattr(error, "mend", ""))
    else:
        return 0
    return 1


async def _work(
    application: Application,
    settings: Settings,
    sockets: Sockets,
    place: Place,
    control: Control,
    patience: Patience,
) -> None:
    tcp, redirect = _copies(sockets.tcp), _copies(sockets.redirect)
    service = Service(application, settings, udp=place.udp, tcp=tcp, redirect=redirect, place=place)
    await service.start_application()
    settle_collector()
    await follow(control, service.listen, service.close, patience)


def _copies(sockets: list[socket.socket]) -> list[socket.socket]:
    return [sock.dup() for sock in sockets]
