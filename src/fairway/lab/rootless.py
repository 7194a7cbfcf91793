"""Labs without root: a user namespace of one's own, kept by a holder process, in which every command acts as root.

The holder has a user, a network and a mount namespace, the last with a /run of its own (so /run/netns and /run/fairway
are the labs'), and does nothing but keep them. Its process number and start time are in a directory that only its user
can write; a command enters its namespaces before it does anything else. The last `down` ends it.

The directory is locked shared by every command inside, and exclusively while the holder is made or ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fairway.net.model.errors import FairwayError

TITLE = "fairway-holder"
"""Stands in the holder's command line, and is what `ps` calls it."""

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000  # linux/sched.h
_NAMESPACES = (("user", _CLONE_NEWUSER), ("mnt", _CLONE_NEWNS), ("net", _CLONE_NEWNET))
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC = 2, 4, 4096, 16384  # linux/mount.h
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21  # linux/capability.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h
_IFREQ = struct.Struct("=16sh22x")
_RECORD = "holder.json"
_OURS = ("netns", "fairway")  # the directories of /run that the holder has anew
_PROGRAM = f"import signal; open('/proc/self/comm', 'w').write({TITLE!r})\nwhile True: signal.pause()"
_START_S = 10.0
_END_S = 1.0
_SWITCHES = {
    "kernel/unprivileged_userns_clone": ("0", "1"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
    "user/max_user_namespaces": ("0", "10000"),
}
"""Settings that forbid user namespaces: the value that does, and one that does not."""

_libc = ctypes.CDLL(None, use_errno=True)
_entered: tuple[int, int] | None = None  # the directory, open and locked, and the holder's process number


def privileged() -> bool:
    """Whether this process may change the network it is in: root with CAP_SYS_ADMIN and CAP_NET_ADMIN."""
    if os.geteuid() != 0:
        return False
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            capabilities = int(line.split()[1], 16)
            return bool(capabilities >> _CAP_SYS_ADMIN & 1 and capabilities >> _CAP_NET_ADMIN & 1)
    return False


def entered() -> bool:
    """Whether this process is in a holder's namespaces because it entered them."""
    return _entered is not None


def enter(create: bool) -> bool:
    """Move this process into the holder's namespaces, if it is not privileged; with `create` a holder is made.

    True if it moved: from then on it acts as root there. Must come first of all, while there is but one thread. A
    kernel that does not permit it is a FairwayError that names the setting.
    """
    if privileged():
        return False
    for path in _paths():
        directory = _opened(path)
        if directory >= 0:
            if _enter_recorded(directory):
                return True
            os.close(directory)
    if not create:
        return False
    directory = _made()
    while not _enter_recorded(directory):
        fcntl.flock(directory, fcntl.LOCK_EX)
        if _recorded(directory) is None:
            _start_holder(directory)
    return True


def leave(unused: Callable[[], bool]) -> bool:
    """End the holder that this process entered, if `unused()` and no other command is inside. Whether it was ended."""
    global _entered
    if _entered is None:
        return False
    directory, pid = _entered
    if not _lock_alone(directory):
        return False
    try:
        if not unused() or _recorded(directory) != pid:
            return False
        os.unlink(_RECORD, dir_fd=directory)
        os.kill(pid, signal.SIGTERM)
        _entered = None
        return True
    finally:
        fcntl.flock(directory, fcntl.LOCK_SH)


def _paths() -> Iterator[Path]:
    """Where a holder may be recorded, the place for a new one first."""
    user = os.geteuid()
    given = os.environ.get("XDG_RUNTIME_DIR")
    for directory in dict.fromkeys([*([given] if given else []), f"/run/user/{user}"]):
        with contextlib.suppress(OSError):
            if os.stat(directory).st_uid == user:
                yield Path(directory) / "fairway"
    yield Path(f"/tmp/fairway-{user}")


def _opened(path: Path) -> int:
    """The directory, if it is there, ours, and nobody else can write in it; else -1."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
    status = os.fstat(directory)
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & 0o077 == 0:
        return directory
    os.close(directory)
    return -1


def _made() -> int:
    path = next(_paths())
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise FairwayError(
            f"cannot make {path}: {error.strerror}", mend="set XDG_RUNTIME_DIR to a directory of yours"
        ) from None
    directory = _opened(path)
    if directory < 0:
        raise FairwayError(
            f"{path} is not a directory of yours that only you can use",
            mend=f"remove it, or: chmod 700 {path}",
        )
    return directory


def _enter_recorded(directory: int) -> bool:
    """Lock the directory with others and enter its holder, if there is one that runs."""
    global _entered
    fcntl.flock(directory, fcntl.LOCK_SH)
    pid = _recorded(directory)
    if pid is None:
        return False
    _join(pid)
    _entered = (directory, pid)
    return True


def _lock_alone(directory: int) -> bool:
    deadline = time.monotonic() + _END_S
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                fcntl.flock(directory, fcntl.LOCK_SH)
                return False
            time.sleep(0.01)


def _recorded(directory: int) -> int | None:
    """The process number of the holder that the record names, if that very process still runs."""
    try:
        with open(os.open(_RECORD, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)) as file:
            record = json.load(file)
        pid, start = int(record["pid"]), int(record["start_time"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if _start_time(pid) == start else None


def _start_time(pid: int) -> int | None:
    """When the process started, in ticks since boot (field 22 of its stat); None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _join(pid: int) -> None:
    where = Path("/")
    with contextlib.suppress(OSError):  # it was removed
        where = Path.cwd()
    start = _start_time(pid)
    handles: list[int] = []
    try:
        handles += [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name, _ in _NAMESPACES]
        if start is None or _start_time(pid) != start:  # asked after the open: the handles are that process's
            raise ProcessLookupError
        for handle, (name, kind) in zip(handles, _NAMESPACES, strict=True):
            _check(_libc.setns(handle, kind), f"enter its {name} namespace")
    except OSError as error:
        raise FairwayError(
            f"cannot enter the namespaces of your labs (held by process {pid}): {error.strerror or 'it has ended'}",
            mend=f"end it, which ends the labs, and bring them up again: kill {pid}",
        ) from None
    finally:
        for handle in handles:
            os.close(handle)
    with contextlib.suppress(OSError):  # it was under the former /run
        os.chdir(where)


def _start_holder(directory: int) -> None:
    """Start a holder and return when it is recorded and ready."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _become_holder(directory)
        except OSError as error:
            os.write(writer, f"{error.filename or 'start a process'}: {error.strerror}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        os.waitpid(child, 0)
        ended = select.select([said], [], [], _START_S)[0]  # exec closes the pipe
        reason = said.read().decode() if ended else "it was not ready in time"
    if reason:
        raise FairwayError(
            f"without root a lab needs a user namespace, and this kernel gives none ({reason})", mend=_mend()
        )


def _become_holder(directory: int) -> None:
    """Turn this process into the holder; OSError's `filename` says what was tried."""
    user, group = os.geteuid(), os.getegid()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            os.set_inheritable(int(descriptor), False)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    os.chdir("/")
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path(f"/proc/self/{name}").write_text(text)
    _make_run()
    _set_loopback_up()
    _record(directory)
    os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", _PROGRAM, TITLE, f"uid={user}"], {})


def _make_run() -> None:
    """Mount a /run in which all but Fairway's and `ip netns`'s directories are the former one's."""
    former = os.open("/run", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _check(_libc.mount(b"fairway", b"/run", b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=755"), "mount a tmpfs on /run")
    base = Path(f"/proc/self/fd/{former}")
    for name in os.listdir(base):
        source, target = base / name, Path("/run") / name
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.is_dir() and name not in _OURS:
            target.mkdir()
            _libc.mount(os.fsencode(source), os.fsencode(target), None, _MS_BIND | _MS_REC, None)
    os.close(former)


def _set_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        _, flags = _IFREQ.unpack(fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0)))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))


def _record(directory: int) -> None:
    record = {"pid": os.getpid(), "start_time": _start_time(os.getpid())}
    new = os.open(f"{_RECORD}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory)
    with open(new, "w") as file:
        json.dump(record, file)
    os.replace(f"{_RECORD}.new", _RECORD, src_dir_fd=directory, dst_dir_fd=directory)


def _mend() -> str:
    for name, (forbidding, permitting) in _SWITCHES.items():
        with contextlib.suppress(OSError):
            if (Path("/proc/sys") / name).read_text().strip() == forbidding:
                return f"as root: sysctl -w {name.replace('/', '.')}={permitting}; or run fairway as root"
    return "run fairway as root"


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
