"""The netlink ports of this process's own sockets: a change that bears one of them is no surprise.

A port is unique in its network namespace only, so several sockets of ours may have the same.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter

_own: Counter[int] = Counter()
_changing = threading.Lock()


def note(own: socket.socket) -> int:
    """Remember the port of a bound netlink socket; returns it."""
    port: int = own.getsockname()[0]
    with _changing:
        _own[port] += 1
    return port


def forget(port: int) -> None:
    """A socket with that port is closed."""
    with _changing:
        _own[port] -= 1
        if _own[port] <= 0:
            del _own[port]


def is_own(port: int) -> bool:
    """Whether a socket of this process has that port."""
    return port in _own
