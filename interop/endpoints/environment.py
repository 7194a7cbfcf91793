"""What a client or server is told: the variables of the public runner's images, and a few more.

TESTCASE        the case
REQUESTS        a client's URLs, separated by spaces
PROTOCOL        hq (HTTP/0.9 over QUIC) or h3
WWW, DOWNLOADS  what a server serves; where a client saves
CERTS           chain.pem, key.pem and ca.pem
SSLKEYLOGFILE   where a client writes its secrets
A program that cannot do the case ends with 127.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

PORT = 443
ALPN = {"hq": "hq-interop", "h3": "h3"}
UNSUPPORTED = 127
CONNECTION_EACH = frozenset({"handshakeloss", "handshakecorruption"})
"""Cases whose client makes a connection for each file, one after the other."""

RETURNING = frozenset({"resumption", "zerortt"})
"""Cases whose client fetches the first file, leaves, and comes back for the others."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables, parsed."""

    case: str
    protocol: str
    requests: tuple[str, ...]
    www: Path
    downloads: Path
    certs: Path

    @property
    def alpn(self) -> str:
        """What TLS calls the protocol."""
        return ALPN[self.protocol]

    @property
    def paths(self) -> tuple[str, ...]:
        """The URLs' paths."""
        return tuple(urlsplit(url).path for url in self.requests)

    @property
    def host(self) -> str:
        """The URLs' host."""
        return urlsplit(self.requests[0]).hostname or ""

    @property
    def connections(self) -> list[tuple[str, ...]]:
        """The paths to fetch, by connection."""
        if self.case in CONNECTION_EACH:
            return [(path,) for path in self.paths]
        if self.case in RETURNING:
            return [self.paths[:1], self.paths[1:]]
        return [self.paths]

    def file(self, path: str) -> Path | None:
        """What a server serves at a path; None if there is no such file."""
        file = self.www / path.strip("/")
        return file if file.parent == self.www and file.is_file() else None

    def target(self, path: str) -> Path:
        """Where a client saves it."""
        return self.downloads / path.strip("/")


def environment() -> Environment:
    """From the process's environment."""
    return Environment(
        os.environ["TESTCASE"],
        os.environ.get("PROTOCOL", "hq"),
        tuple(os.environ.get("REQUESTS", "").split()),
        Path(os.environ.get("WWW", "/nowhere")),
        Path(os.environ.get("DOWNLOADS", "/nowhere")),
        Path(os.environ["CERTS"]),
    )


def unsupported(reason: str) -> NoReturn:
    """End: the case cannot be done here."""
    print(reason, file=sys.stderr)
    sys.exit(UNSUPPORTED)
