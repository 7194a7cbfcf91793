"""What a master tells its workers and whoever started it, and they tell it: each message a packet of a Unix socket."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from enum import Enum
from typing import Any

MAX_MESSAGE = 64 * 1024


class Word(Enum):
    """Who says it: worker, master, or who started the master."""

    READY = "ready"  # worker: the application has started; master: all workers accept connections
    FAILED = "failed"  # worker, master: it has not; `message` and `mend` say why
    GO = "go"  # master: accept connections
    DRAIN = "drain"  # master: newcomers go to others now; end what was begun
    STOP = "stop"  # master, starter: end, soon
    RELOAD = "reload"  # starter: replace the workers


@dataclass(frozen=True, slots=True)
class Said:
    """One message."""

    word: Word
    message: str = ""
    mend: str = ""


class Control:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    @staticmethod
    def pair() -> tuple[Control, Control]:
        """Two connected ends."""
        first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Control(first), Control(second)

    def say(self, word: Word, *, message: str = "", mend: str = "") -> bool:
        """Tell the other end; False if there is none any more."""
        data = json.dumps([word.value, message[:30000], mend[:10000]]).encode("utf-8")
        try:
            self.socket.send(data)
        except OSError:
            return False
        return True

    def hear(self) -> Said | None:
        """The next message; None if the other end is gone. Waits if the socket does."""
        try:
            data = self.socket.recv(MAX_MESSAGE)
        except BlockingIOError:
            raise
        except OSError:
            return None
        if not data:
            return None
        parts: list[Any] = json.loads(data)
        return Said(Word(parts[0]), parts[1], parts[2])

    def close(self) -> None:
        """Close this end."""
        self.socket.close()
