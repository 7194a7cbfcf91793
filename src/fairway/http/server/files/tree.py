"""Opening what lies below a directory, and nothing else, whatever is renamed or linked meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Literal

from fairway.http.server.files.limits import MAX_LINKS, MAX_STEPS
from fairway.http.server.files.open_file import OpenFile

Symlinks = Literal["inside", "never", "anywhere"]

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Tree:
    """A directory whose files are opened by their names; `symlinks` says which links count as part of it.

    "inside": those that lead to a place below it; "never"; "anywhere": all, as its owner set them.
    """

    def __init__(self, directory: str | os.PathLike[str], *, symlinks: Symlinks = "inside") -> None:
        self.root = os.fspath(Path(directory).absolute())
        if not Path(self.root).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "no directory to serve files from; name one that exists", self.root)
        if symlinks not in ("inside", "never", "anywhere"):
            raise ValueError(f'symlinks={symlinks!r}: choose "inside", "never" or "anywhere"')
        self._symlinks = symlinks

    def open(self, names: tuple[str, ...]) -> OpenFile:
        """The regular file or the directory of these names, open; `OSError` for anything else.

        The root is opened anew each time, so that a deployment may exchange it.
        """
        if self._symlinks == "anywhere":
            return _open_last("/".join((self.root, *names)), None, follow=True)
        root = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        directories = [
            root
        ]  # from the root to where the walk is: `..` in a link goes back along it, never by the kernel
        try:
            return self._walk(directories, list(reversed(names)))
        finally:
            for descriptor in directories:
                os.close(descriptor)

    def _walk(self, directories: list[int], waiting: list[str]) -> OpenFile:
        """Follow the names in `waiting`, the next one last. Every step is from an open directory and follows no link
        by itself, so that exchanging a directory for a link between two steps changes nothing."""
        links = 0
        for _ in range(2 * MAX_STEPS):
            while waiting and waiting[-1] in ("", "."):
                waiting.pop()
            if not waiting:
                return _open_last(".", directories[-1])
            if len(directories) > MAX_STEPS or len(waiting) > 2 * MAX_STEPS:
                break
            name = waiting.pop()
            if name == "..":
                if len(directories) == 1:
                    raise OSError(errno.EXDEV, "a symbolic link leads out of the directory")
                os.close(directories.pop())
                continue
            try:
                if not waiting:
                    return _open_last(name, directories[-1])
                directories.append(os.open(name, _DIRECTORY, dir_fd=directories[-1]))
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                target = self._link(name, directories[-1], error)
                links += 1
                if links > MAX_LINKS:
                    raise
                if target.startswith("/"):
                    target = self._below_root(target)
                    while len(directories) > 1:
                        os.close(directories.pop())
                waiting.extend(reversed(target.split("/")))
        raise OSError(errno.ELOOP, "too many steps")

    def _link(self, name: str, directory: int, error: OSError) -> str:
        """Where the symbolic link `name` leads; `error` again if it is none, or none may be followed."""
        if self._symlinks == "never":
            raise error
        try:
            return os.readlink(name, dir_fd=directory)
        except OSError:
            raise error from None

    def _below_root(self, target: str) -> str:
        for root in (self.root, os.path.realpath(self.root)):
            if target == root or target.startswith(root.rstrip("/") + "/"):
                return target[len(root) :]
        raise OSError(errno.EXDEV, "a symbolic link leads out of the directory")


def _open_last(name: str, directory: int | None, *, follow: bool = False) -> OpenFile:
    """Open a regular file to be read, or a directory as a place. What a FIFO or a device does when it is opened does
    not happen: it is looked at first, and what was opened is looked at again."""
    mode = os.stat(name, dir_fd=directory, follow_symlinks=follow).st_mode
    _regular(mode)
    flags = _DIRECTORY if stat.S_ISDIR(mode) else _FILE
    descriptor = os.open(name, flags & ~os.O_NOFOLLOW if follow else flags, dir_fd=directory)
    try:
        status = os.fstat(descriptor)
        _regular(status.st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return OpenFile(descriptor, status)


def _regular(mode: int) -> None:
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        raise OSError(errno.ELOOP, "a symbolic link")
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise OSError(errno.ENXIO, "neither a file nor a directory")
