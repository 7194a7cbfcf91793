"""Notices that Python files have changed, by looking at them now and then."""

from __future__ import annotations

import os
from pathlib import Path

SKIPPED = frozenset({"__pycache__", "node_modules", "venv", "site-packages"})
MAX_FILES = 10_000


class Watch:
    """The `.py` files below a directory; hidden directories and virtual environments are left out."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known = self._look()

    def changed(self) -> bool:
        """True if something was written, added or removed since the last call."""
        found = self._look()
        if found == self._known:
            return False
        self._known = found
        return True

    def _look(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for where, directories, names in os.walk(self._directory):
            directories[:] = [d for d in directories if d not in SKIPPED and not d.startswith(".")]
            for name in names:
                if name.endswith(".py"):
                    path = os.path.join(where, name)  # noqa: PTH118 - plainer, and faster, for many
                    try:
                        found[path] = os.stat(path).st_mtime_ns
                    except OSError:
                        continue
            if len(found) > MAX_FILES:
                break
        return found
