"""What the master and its workers tell each other, each message a packet of a Unix socket."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from enum import Enum
from typing import Any

MAX_MESSAGE = 64 * 1024


class Word(Enum):
    """Who says it: worker or master."""

    READY = "ready"  # worker: the application has started
    FAILED = "failed"  # worker: it has not; `message` and `mend` say why
    RELEASED = "released"  # worker: another process may read my UDP socket now
    GO = "go"  # master: accept connections
    DRAIN = "drain"  # master: leave the socket to your successor, end what was begun; comes with a relay
    STOP = "stop"  # master: end what was begun


@dataclass(frozen=True, slots=True)
class Said:
    """One message; `descriptor` came with it."""

    word: Word
    message: str = ""
    mend: str = ""
    descriptor: int | None = None


class Control:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    @staticmethod
    def pair() -> tuple[Control, Control]:
        """Two connected ends."""
        first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Control(first), Control(second)

    def say(self, word: Word, *, message: str = "", mend: str = "", descriptor: int | None = None) -> bool:
        """Tell the other end; False if there is none any more."""
        data = json.dumps([word.value, message[:30000], mend[:10000]]).encode("utf-8")
        try:
            socket.send_fds(self.socket, [data], [] if descriptor is None else [descriptor])
        except OSError:
            return False
        return True

    def hear(self) -> Said | None:
        """The next message; None if the other end is gone. Waits if the socket does."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, MAX_MESSAGE, 1)
        except BlockingIOError:
            raise
        except OSError:
            return None
        if not data:
            return None
        parts: list[Any] = json.loads(data)
        return Said(Word(parts[0]), parts[1], parts[2], descriptors[0] if descriptors else None)

    def close(self) -> None:
        """Close this end."""
        self.socket.close()
