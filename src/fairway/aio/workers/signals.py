"""Signals that wake a selector."""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
from collections.abc import Iterator

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


@contextlib.contextmanager
def caught(selector: selectors.BaseSelector) -> Iterator[list[int]]:
    """The numbers of signals that have come: whoever reads the list empties it. Selecting ends when one comes."""
    arrived: list[int] = []
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)

    def woken() -> None:
        with contextlib.suppress(BlockingIOError):
            reader.recv(4096)

    selector.register(reader, selectors.EVENT_READ, woken)
    wakeup = signal.set_wakeup_fd(writer.fileno())
    before = [signal.signal(number, lambda which, _: arrived.append(which)) for number in CAUGHT]
    try:
        yield arrived
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(CAUGHT, before, strict=True):
            signal.signal(number, handler)
        selector.unregister(reader)
        reader.close()
        writer.close()


def default_in_worker() -> None:
    """In a process that was just forked: the master decides on what a terminal sends to everyone."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
