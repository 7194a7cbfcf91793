"""The path of a request as names below the directory. Pure: it never asks the file system."""

from __future__ import annotations

from urllib.parse import quote

from fairway.http.server.files.errors import Refused
from fairway.http.server.files.limits import MAX_PATH_BYTES, MAX_STEPS


def below_mount(path: str, root_path: str) -> str:
    """The part of `path` that follows the place where the application is mounted (ASGI's `root_path`)."""
    root_path = root_path.rstrip("/")
    if root_path and path.startswith(root_path) and path[len(root_path) : len(root_path) + 1] in ("", "/"):
        return path[len(root_path) :]
    return path


def names_of(path: str, *, hidden: bool) -> tuple[tuple[str, ...], bool]:
    """The names in an already decoded path, and whether it ends in a slash; `Refused` (404) for anything doubtful.

    ASGI's `path` has been percent-decoded once, by the server; it is not decoded again. Dot segments are not removed
    but refused: every client removes them before it sends (RFC 3986 section 5.2.4). So are empty names (`//host` in
    a redirection would be another host), backslashes (browsers take them for slashes), NUL and what is no UTF-8.
    """
    if not path:  # where the application is mounted, without the slash
        return (), False
    if path[0] != "/" or "\\" in path or "\0" in path or len(path) > MAX_PATH_BYTES:
        raise Refused(404)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Refused(404) from None
    names = path[1:].split("/")
    slash = names[-1] == ""
    if slash:
        names.pop()
    if len(names) > MAX_STEPS:
        raise Refused(404)
    for name in names:
        if name in ("", ".", "..") or (not hidden and name[0] == "."):
            raise Refused(404)
    return tuple(names), slash


def location_of(root_path: str, names: tuple[str, ...], query: bytes) -> bytes:
    """The Location of a directory: its path with the slash that was missing, and the query as it came."""
    location = "".join(quote("/" + name, safe="/~!$&'()*,;=:@") for name in names) + "/"
    mount = quote("/" + root_path.strip("/"), safe="/~!$&'()*,;=:@").rstrip("/")
    asked = quote(query, safe="%/?:@!$&'()*+,;=")  # as it came, but for what may stand in no URI
    return (mount + location + ("?" + asked if asked else "")).encode()
