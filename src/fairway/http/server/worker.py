"""A worker process: starts the application, waits to be let in, serves until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
import traceback
from collections.abc import Callable

from fairway.aio.relay import Relay
from fairway.http.server.asgi import Application, LifespanError
from fairway.http.server.collector import settle_collector
from fairway.http.server.control import Control, Said, Word
from fairway.http.server.service import Service, Settings
from fairway.http.server.sockets import Sockets


def work(
    load: Callable[[], tuple[Application, Settings]],
    sockets: Sockets,
    slot: int,
    control: Control,
    predecessor: socket.socket | None,
) -> int:
    """The life of a worker on the UDP socket number `slot`; its exit status.

    Exceptions of `load` that have a `message` (and a `mend`) are told as they are, others with their traceback.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal sends them to everyone: the master decides
    try:
        application, settings = load()
        return asyncio.run(_work(application, settings, sockets, slot, control, predecessor))
    except LifespanError as error:
        control.say(Word.FAILED, message=str(error))
    except Exception as error:
        message = getattr(error, "message", None)
        if not isinstance(message, str):
            message = "the application cannot be imported\n" + traceback.format_exc()
        control.say(Word.FAILED, message=message, mend=getattr(error, "mend", ""))
    return 1


async def _work(
    application: Application,
    settings: Settings,
    sockets: Sockets,
    slot: int,
    control: Control,
    predecessor: socket.socket | None,
) -> int:
    loop = asyncio.get_running_loop()
    control.socket.setblocking(False)
    inbox: asyncio.Queue[Said | None] = asyncio.Queue()
    loop.add_reader(control.socket.fileno(), lambda: inbox.put_nowait(_hear(control, loop)))
    loop.add_signal_handler(signal.SIGTERM, inbox.put_nowait, Said(Word.STOP))
    service = Service(
        application, settings, udp=sockets.udp[slot].dup(), tcp=_copies(sockets.tcp), redirect=_copies(sockets.redirect)
    )
    await service.start_application()
    settle_collector()
    control.say(Word.READY)
    said = await inbox.get()
    if said is not None and said.word is Word.GO:
        await service.listen()
        assert service.quic is not None
        if predecessor is not None:
            service.quic.pass_on_to(Relay(predecessor))
        said = await inbox.get()
        if said is not None and said.word is Word.DRAIN and said.descriptor is not None:
            service.quic.release(Relay(socket.socket(fileno=said.descriptor)))
            control.say(Word.RELEASED)
    closing = loop.create_task(service.close())
    while not closing.done():
        waiting = loop.create_task(inbox.get())
        await asyncio.wait([closing, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    closing.result()
    return 0


def _hear(control: Control, loop: asyncio.AbstractEventLoop) -> Said | None:
    said = control.hear()
    if said is None:
        loop.remove_reader(control.socket.fileno())  # the master is gone
    return said


def _copies(sockets: list[socket.socket]) -> list[socket.socket]:
    return [sock.dup() for sock in sockets]
