"""Spans of time in words."""

from __future__ import annotations


def span(seconds: float) -> str:
    """A span of time as a person says it: 42 s, 5 min, 3 h, 2 d."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"
