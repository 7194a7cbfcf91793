"""Key logs that Wireshark reads (the NSS key log format)."""

from __future__ import annotations

import os
from pathlib import Path

from fairway.tls import KeyLog


def keylog_to(path: str | Path | None) -> KeyLog | None:
    """A function that appends lines to `path`, or to $SSLKEYLOGFILE if that is None; None if neither is given."""
    target = path if path is not None else os.environ.get("SSLKEYLOGFILE")
    if not target:
        return None
    descriptor = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(line: str) -> None:
        os.write(descriptor, line.encode("ascii") + b"\n")

    return write
