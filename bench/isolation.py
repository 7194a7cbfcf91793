"""Measuring in a child process with a network and a /run of its own: nothing of the machine's is touched."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000  # linux/sched.h
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000  # linux/mount.h


def isolated(work: Callable[[], T]) -> T:
    """What `work` returns (it must be picklable) in a child with its own network namespace, and /run in memory."""
    if os.geteuid() != 0:
        raise SystemExit("this benchmark needs root: it makes network namespaces")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _isolate()
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(work(), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if status or not data:
        raise SystemExit("the benchmark failed; see above")
    result: T = pickle.loads(data)
    return result


def _isolate() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "cannot make namespaces")
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) or libc.mount(b"none", b"/run", b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "cannot make a /run of its own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
