"""The one error of this room."""

from __future__ import annotations


class WireError(ValueError):
    """Bytes that end too early or too late, or an integer that does not fit its field."""
