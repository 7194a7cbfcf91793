"""The versions of CNI that the plugin speaks."""

from __future__ import annotations

SUPPORTED = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Oldest first. Before 0.3 a Result had no interfaces, and no runtime of today asks for it."""

NEWEST = SUPPORTED[-1]


def at_least(version: str, other: str) -> bool:
    """Whether `version` is `other` or newer; both are supported ones."""
    return SUPPORTED.index(version) >= SUPPORTED.index(other)
