"""A lab's processes, relays and agents: found by their command lines, told from later ones, ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

_NETNS_DIRECTORY = Path("/run/netns")
_SOURCE = Path(__file__).parents[2]  # the directory that holds the package `fairway`


def environment() -> dict[str, str]:
    """What a process of the lab's is started with, so that it runs this very package."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return kept | {"PYTHONPATH": str(_SOURCE)}


def numbers() -> Iterator[int]:
    """Every process there is."""
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            yield int(entry.name)


def command_line(pid: int) -> list[str]:
    """Its words; none if there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def start_time(pid: int, name: str = "") -> int | None:
    """When the process started, in ticks since boot (field 22 of its stat); None if it is dead, or not called so."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    start, _, end = stat.rpartition(")")
    fields = end.split()
    if fields[0] in "ZX" or (name and start.partition("(")[2] != name):
        return None
    return int(fields[19])


def shares(pid: int, kind: str) -> bool:
    """Whether the process is in our namespace of that kind; not if it has ended, or is another user's."""
    try:
        return os.path.samestat(os.stat(f"/proc/self/ns/{kind}"), os.stat(f"/proc/{pid}/ns/{kind}"))
    except OSError:
        return False


def is_in(pid: int, namespace: str) -> bool:
    """Whether the process is in the network namespace that now has that name."""
    try:
        return os.path.samestat(os.stat(_NETNS_DIRECTORY / namespace), os.stat(f"/proc/{pid}/ns/net"))
    except OSError:
        return False


def end(pid: int, is_it: Callable[[], bool], patience_s: float) -> None:
    """End the process, by SIGTERM and after `patience_s` (0: at once) by SIGKILL; returns when it has ended.

    It may have ended long ago: `is_it` says whether the one that has the number now is still the one that is meant.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not is_it():  # asked after the open: `handle` is this process for good
            return
        steps = [(signal.SIGTERM, patience_s)] if patience_s else []
        for number, wait_s in (*steps, (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], wait_s)[0]:
                return
    finally:
        os.close(handle)
