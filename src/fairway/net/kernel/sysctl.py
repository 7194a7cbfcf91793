"""Kernel settings: files under /proc/sys, seen as the calling thread's network namespace has them."""

from __future__ import annotations

import errno
import os

from fairway.net.model.errors import KernelError

_ROOT = "/proc/sys/"


def read(path: str) -> str | None:
    """The value of `path`, such as net/ipv4/ip_forward; None if this kernel has no such setting (IPv6 off, say)."""
    try:
        with open(_ROOT + path) as file:
            return file.read().strip()
    except OSError:
        return None


def write(path: str, value: str) -> None:
    """Set `path` to `value`."""
    try:
        with open(_ROOT + path, "w") as file:
            file.write(value)
    except OSError as error:
        mend = "run it as root" if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else ""
        raise KernelError(f"cannot set {path} to {value}: {error.strerror}", error.errno or 0, mend=mend) from None


def children(path: str) -> list[str]:
    """The names under `path`, such as the interfaces under net/ipv6/conf."""
    try:
        return sorted(os.listdir(_ROOT + path))
    except OSError:
        return []
