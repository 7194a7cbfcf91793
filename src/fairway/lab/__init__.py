"""Several hosts on one machine: a topology file, brought up, looked at and taken down.

Imported when first used: a relay is a module of this package, and must start without what the rest needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairway.lab.ending import Ended, down
    from fairway.lab.labs import NodeView, PodView, RunningLab, find, name_of, running
    from fairway.lab.raising import Summary, up

__all__ = ["Ended", "NodeView", "PodView", "RunningLab", "Summary", "down", "find", "name_of", "running", "up"]

_HOMES = {
    "fairway.lab.ending": ("Ended", "down"),
    "fairway.lab.labs": ("NodeView", "PodView", "RunningLab", "find", "name_of", "running"),
    "fairway.lab.raising": ("Summary", "up"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            globals().update({each: getattr(importlib.import_module(home), each) for each in names})
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
