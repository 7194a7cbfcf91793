"""Reserved settings, frames and streams (RFC 9114 sections 6.2.3, 7.2.4.1, 7.2.8): peers must ignore them.

Sent now and then, so that peers which would trip over what later versions add are noticed early.
"""

from __future__ import annotations

from collections.abc import Callable

from fairway.http3 import frames
from fairway.wire import encode_varint

ONE_STREAM_IN = 8
"""Connections of which one opens a reserved stream."""


class Grease:
    """What one connection sends of it; `random` gives so many unpredictable bytes."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random

    def _reserved(self) -> int:
        return 0x1F * int.from_bytes(self._random(3), "big") + 0x21

    def setting(self) -> tuple[int, int]:
        """One identifier and value for every SETTINGS frame."""
        return self._reserved(), self._random(1)[0]

    def frame(self) -> bytes:
        """A frame for the control stream, in every other connection."""
        chance = self._random(1)[0]
        return frames.encode(self._reserved(), self._random(chance >> 4)) if chance & 1 else b""

    def stream(self) -> bytes:
        """All bytes of a unidirectional stream, in one connection of `ONE_STREAM_IN`."""
        chance = self._random(1)[0]
        return encode_varint(self._reserved()) + self._random(chance >> 4) if chance % ONE_STREAM_IN == 0 else b""
