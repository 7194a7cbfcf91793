"""What lies in a directory, as a page and as JSON."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from urllib.parse import quote

from fairway.http.server.files.asgi import Headers
from fairway.http.server.files.limits import MAX_LISTED
from fairway.http.server.files.tree import Tree

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td,th{padding:.1rem .5rem;text-align:left}"
    "td:nth-child(2),th:nth-child(2){text-align:right}"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory."""

    name: str
    is_directory: bool
    size: int  # bytes
    modified_s: int


def scan(tree: Tree, names: tuple[str, ...], descriptor: int, *, hidden: bool) -> tuple[list[Entry], bool]:
    """What of an open directory would be served, directories first, by name; and whether that is all. For a thread."""
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
    try:
        return _scan(tree, names, readable, hidden=hidden)
    finally:
        os.close(readable)


def _scan(tree: Tree, names: tuple[str, ...], descriptor: int, *, hidden: bool) -> tuple[list[Entry], bool]:
    entries: list[Entry] = []
    with os.scandir(descriptor) as found:
        for item in found:
            if not _reachable(item.name, hidden=hidden):
                continue
            try:
                status = item.stat(follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    target = tree.open((*names, item.name))
                    status = target.status
                    target.close()
            except OSError:
                continue
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                continue
            if len(entries) == MAX_LISTED:
                return _sorted(entries), False
            is_directory = stat.S_ISDIR(status.st_mode)
            entries.append(Entry(item.name, is_directory, status.st_size, int(status.st_mtime)))
    return _sorted(entries), True


def as_json(entries: list[Entry], complete: bool) -> tuple[Headers, bytes]:
    """`{"entries": [{"name", "type", "size", "modified"}], "complete"}`; sizes in bytes, times in UTC."""
    document = {
        "entries": [
            {
                "name": entry.name,
                "type": "directory" if entry.is_directory else "file",
                "size": None if entry.is_directory else entry.size,
                "modified": datetime.fromtimestamp(entry.modified_s, UTC).isoformat(),
            }
            for entry in entries
        ],
        "complete": complete,
    }
    return [(b"content-type", b"application/json")], json.dumps(document).encode()


def as_html(title: str, entries: list[Entry], complete: bool) -> tuple[Headers, bytes]:
    """A page that runs nothing and loads nothing, whatever the names are."""
    rows = ['<tr><td><a href="../">../</a></td><td></td><td></td></tr>'] if title != "/" else []
    for entry in entries:
        slash = "/" if entry.is_directory else ""
        size = "" if entry.is_directory else f"{entry.size:,}"
        modified = datetime.fromtimestamp(entry.modified_s, UTC).strftime("%Y-%m-%d %H:%M")
        # "./": a name with a colon is no scheme
        link = f'<a href="./{quote(entry.name, safe="")}{slash}">{escape(entry.name)}{slash}</a>'
        rows.append(f"<tr><td>{link}</td><td>{size}</td><td>{modified}</td></tr>")
    note = "" if complete else f"<p>Only {MAX_LISTED:,} of more.</p>"
    page = (
        f'<!doctype html><html><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1><table><tr><th>Name</th><th>Bytes</th><th>Modified (UTC)</th></tr>"
        f"{''.join(rows)}</table>{note}</body></html>\n"
    )
    policy = b"default-src 'none'; style-src 'unsafe-inline'"
    return [(b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", policy)], page.encode()


def _reachable(name: str, *, hidden: bool) -> bool:
    """Whether a request could name it."""
    return (hidden or name[0] != ".") and "\\" not in name and name.isprintable()


def _sorted(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (not entry.is_directory, entry.name))
