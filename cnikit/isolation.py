"""A case runs in a child with a network, a /run, a /proc and state directories of its own.

The child is the first process of a process namespace: however it ends, the kernel ends the plugin's processes with
it, and takes away every link, rule, namespace and file that they made. It ends when the kit does, killed or not.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Generic, TypeVar

T = TypeVar("T")

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWPID, _CLONE_NEWNET = 0x00020000, 0x08000000, 0x20000000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000  # linux/mount.h
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


class KitError(Exception):
    """The kit itself could not do its work: the machine lacks something, or a child died."""


@dataclass(slots=True)
class _Child(Generic[T]):
    pid: int
    reader: int
    deadline: float
    key: T
    data: bytes = b""


def run_all(
    works: Iterable[tuple[T, Callable[[], object]]], private: Sequence[Path], jobs: int, seconds: float
) -> Iterator[tuple[T, object]]:
    """Run each work in a child of its own, `jobs` at a time; yields (key, what it returned, or KitError) as they end.

    What a work returns must be picklable. A child that takes longer than `seconds` is killed.
    """
    waiting = iter(works)
    running: dict[int, _Child[T]] = {}
    more = True
    with DefaultSelector() as selector:
        while more or running:
            while more and len(running) < jobs:
                following = next(waiting, None)
                if following is None:
                    more = False
                    break
                child = _start(*following, private, seconds)
                running[child.reader] = child
                selector.register(child.reader, EVENT_READ)
            for key, _ in selector.select(timeout=0.5):
                child = running[key.fd]
                piece = os.read(key.fd, 65536)
                child.data += piece
                if not piece:
                    selector.unregister(key.fd)
                    yield child.key, _finish(running.pop(key.fd))
            for child in running.values():
                if time.monotonic() > child.deadline:
                    os.kill(child.pid, signal.SIGKILL)


def _start(key: T, work: Callable[[], object], private: Sequence[Path], seconds: float) -> _Child[T]:
    reader, writer = os.pipe()
    kit = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            _die_with(kit)
            if _libc.unshare(_CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWPID | _CLONE_NEWNET) != 0:
                raise KitError(f"cannot make namespaces: {os.strerror(ctypes.get_errno())}; run the kit as root")
            first = os.fork()
            if first == 0:
                _work_isolated(work, private, writer)
            os.close(writer)
            _, status = os.waitpid(first, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        except BaseException as error:
            _send(writer, KitError(str(error)))
            os._exit(1)
    os.close(writer)
    return _Child(pid, reader, time.monotonic() + seconds, key)


def _work_isolated(work: Callable[[], object], private: Sequence[Path], writer: int) -> None:
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _mount_own(private)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        _send(writer, work())
        os._exit(0)
    except BaseException as error:
        _send(writer, KitError(f"{type(error).__name__}: {error}"))
        os._exit(1)


def _send(writer: int, value: object) -> None:
    with os.fdopen(writer, "wb") as pipe:
        pickle.dump(value, pipe)


def _finish(child: _Child[T]) -> object:
    os.close(child.reader)
    os.waitpid(child.pid, 0)
    if not child.data:
        return KitError("the case was cut off: it took too long, or its process was killed")
    return pickle.loads(child.data)


def _die_with(parent: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it ended before we asked


def _mount_own(private: Sequence[Path]) -> None:
    _mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE)
    _mount(b"proc", b"/proc", b"proc", 0)
    _mount(b"none", b"/run", b"tmpfs", 0)
    for directory in private:
        existing = directory
        while not existing.is_dir():
            existing = existing.parent
        _mount(b"none", bytes(existing), b"tmpfs", 0)
        directory.mkdir(parents=True, exist_ok=True)


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    if _libc.mount(source, target, kind, flags, None) != 0:
        raise KitError(f"cannot mount {target.decode()}: {os.strerror(ctypes.get_errno())}")
