"""Network namespaces: made, found, entered and taken away, without forking.

A namespace belongs to a thread: the calling one enters it, opens a socket and comes back; the socket stays in that
namespace whoever uses it, and other threads notice nothing. A namespace of ours is bound at /run/netns/NAME, as
`ip netns` does, and the alias of its `lo` is set before the bind, so that none of ours is ever seen without its mark.
One that somebody else made is known by its absolute path, wherever that is.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from fairway.net.model.attachment import GivenNamespace
from fairway.net.model.errors import FairwayError, KernelError, NamespaceError, NotOursError

T = TypeVar("T")

NETNS_DIRECTORY = Path("/run/netns")

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000  # linux/mount.h
_MNT_DETACH = 2
_PLACEHOLDER = b"fairway\n"  # what the file under a namespace's mount holds: ours, if the mount never came about

_shared: set[Path] = set()  # directories that this process has made shared mounts

_libc = ctypes.CDLL(None, use_errno=True)


def path_of(name: str) -> Path:
    """Where the namespace `name` is bound; an absolute path is itself."""
    return NETNS_DIRECTORY / name


def handle_of(name: str) -> str:
    """A path to the namespace `name`, or to the calling thread's for the empty name."""
    return str(path_of(name)) if name else "/proc/thread-self/ns/net"


def identify(path: str) -> GivenNamespace:
    """Which namespace is at the absolute `path` now; NamespaceError if there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NamespaceError(f"there is no network namespace at {path}: {error.strerror}") from None
    try:
        if fcntl.ioctl(handle, _NS_GET_NSTYPE) != _CLONE_NEWNET:
            raise NamespaceError(f"{path} is a namespace, but not of the network")
        found = os.fstat(handle)
        return GivenNamespace(path, found.st_dev, found.st_ino, _boot())
    except OSError:
        raise NamespaceError(f"{path} is not a network namespace") from None
    finally:
        os.close(handle)


def exists(name: str) -> bool:
    """Whether a namespace, anybody's, is bound at that name."""
    try:
        return path_of(name).stat().st_dev == os.stat("/proc/self/ns/net").st_dev
    except FileNotFoundError:
        return False


def names(prefix: str = "") -> list[str]:
    """Every bound namespace whose name begins with `prefix`, in order; anybody's."""
    try:
        found = sorted(entry.name for entry in os.scandir(NETNS_DIRECTORY) if entry.name.startswith(prefix))
    except FileNotFoundError:
        return []
    return [name for name in found if exists(name)]


def enter(name: str) -> None:
    """Move the calling thread into the namespace `name`. Only for a thread or process that ends inside it."""
    try:
        handle = os.open(path_of(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise FairwayError(f"there is no namespace {path_of(name)}") from None
    try:
        _check(_libc.setns(handle, _CLONE_NEWNET), f"enter the namespace {name}")
    finally:
        os.close(handle)


def inside(name: str, work: Callable[[], T]) -> T:
    """What `work` returns when the calling thread does it inside the namespace `name` (empty: where it is)."""
    if not name:
        return work()
    with _coming_back():
        enter(name)
        return work()


def make(name: str, work: Callable[[], T]) -> T:
    """Make the namespace `name`; inside, `work` marks it as ours before it can be seen. Returns what `work` does."""
    path = path_of(name)
    with _coming_back():
        _check(_libc.unshare(_CLONE_NEWNET), "make a network namespace")
        result = work()
        _place(path)
        target = os.fsencode(path)
        _check(_libc.mount(b"/proc/thread-self/ns/net", target, None, _MS_BIND, None), f"bind a namespace at {path}")
        return result


def bind(name: str, former: str) -> None:
    """Give the namespace that is called `former` the name `name` too; both are its until one is taken away."""
    path = path_of(name)
    _place(path)
    source, target = os.fsencode(path_of(former)), os.fsencode(path)
    _check(_libc.mount(source, target, None, _MS_BIND, None), f"bind the namespace {former} at {path}")


def remove(name: str) -> None:
    """Take the name away; the kernel ends the namespace once no process is left in it. No such name: nothing."""
    path = path_of(name)
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) < 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            raise KernelError(f"take away the namespace {path}: {os.strerror(number)}", number)
    path.unlink(missing_ok=True)


def sweep_placeholders(prefix: str) -> list[str]:
    """Remove what is left of namespaces whose making was cut off: our placeholder files without a namespace on them."""
    swept = []
    try:
        entries = [entry for entry in os.scandir(NETNS_DIRECTORY) if entry.name.startswith(prefix)]
    except FileNotFoundError:
        return []
    for entry in entries:
        if not exists(entry.name) and _is_placeholder(Path(entry.path)):
            Path(entry.path).unlink(missing_ok=True)
            swept.append(entry.name)
    return swept


@functools.cache
def _boot() -> str:
    """Which boot of the machine this is."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _place(path: Path) -> None:
    _share_directory(path.parent)
    if exists(path.name) or (path.exists() and not _is_placeholder(path)):
        raise NotOursError(
            f"{path} exists and is not Fairway's",
            mend=f"choose another name, or remove it: ip netns delete {path.name}",
        )
    path.write_bytes(_PLACEHOLDER)


def _share_directory(directory: Path) -> None:
    """Make the directory a mount that is shared, as `ip netns add` does: later it would do so over what we bound.

    Shared, a name that is taken away goes from every mount namespace, and none keeps its namespace alive.
    """
    if directory in _shared:
        return  # sharing again takes time for every namespace that is bound there
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    target = os.fsencode(directory)
    _shared.add(directory)
    if _libc.mount(b"", target, b"none", _MS_SHARED | _MS_REC, None) == 0:
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # as `ip netns` does
        if _libc.mount(b"", target, b"none", _MS_SHARED | _MS_REC, None) < 0:
            _check(_libc.mount(target, target, b"none", _MS_BIND | _MS_REC, None), f"bind {directory} on itself")
            _check(_libc.mount(b"", target, b"none", _MS_SHARED | _MS_REC, None), f"share {directory}")
    finally:
        os.close(handle)


def _is_placeholder(path: Path) -> bool:
    try:
        return path.is_file() and path.read_bytes() in (_PLACEHOLDER, b"")
    except OSError:
        return False


@contextlib.contextmanager
def _coming_back() -> Iterator[None]:
    """Bring the calling thread back to the network namespace it was in, whatever happens in between."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        back = _libc.setns(home, _CLONE_NEWNET)
        os.close(home)
        if back < 0:  # nothing may go on in a network that it takes for another
            os.abort()


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        mend = "run it as root (CAP_SYS_ADMIN and CAP_NET_ADMIN)" if number == errno.EPERM else ""
        raise KernelError(f"cannot {what}: {os.strerror(number)}", number, mend=mend)
