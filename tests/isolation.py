"""A network and a /run of the tests' own: what they make, the kernel takes away with them, however they end."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000  # linux/sched.h
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000  # linux/mount.h


def isolate() -> bool:
    """Move this process into new network and mount namespaces with an empty /run; False without the right to."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS) != 0:
        return False
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) or libc.mount(b"none", b"/run", b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "cannot make a /run of the tests' own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    _make_bridges_plain()
    return True


def _make_bridges_plain() -> None:
    """A bridge is a cable to tests: what some other test has left in FORWARD does not stop what goes over it."""
    for setting in Path("/proc/sys/net/bridge").glob("bridge-nf-call-*"):
        setting.write_text("0")
