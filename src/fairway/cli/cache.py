"""The user's cache directory: what commands leave for later ones. All of it may be deleted at any time."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """Fairway's part of it: $XDG_CACHE_HOME/fairway, or ~/.cache/fairway."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "fairway"


def sessions_file() -> Path:
    """Sessions and tokens of QUIC servers, for --resume."""
    return cache() / "sessions.json"


def development_certificate(command: str, port: int) -> Path:
    """The certificate that `serve --self-signed` of a command leaves for clients of the same user."""
    return cache() / f"{command}-{port}.pem"
