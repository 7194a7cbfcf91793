"""What may be used once: a register of what was used, bounded in memory and time (RFC 8446 section 8.2)."""

from __future__ import annotations

from typing import Protocol

from fairway.tls.limits import MAX_STRIKES


class Strikes(Protocol):
    """A register that several servers may share: one place that all of them ask."""

    def strike(self, identifier: bytes, now_s: float, window_s: float) -> bool:
        """True if `identifier` was not struck in the last `window_s` seconds and is now; False if in doubt."""


class StrikeRegister:
    """A register in memory: two generations of `window_s` each, so an entry lives for one to two windows.

    When a generation is full, everything is refused until the next one begins: memory is bounded, and a replay never
    gets through because the register was flooded.
    """

    __slots__ = ("_began", "_current", "_former", "_most")

    def __init__(self, most: int = MAX_STRIKES) -> None:
        self._most = most
        self._began = 0.0
        self._current: set[bytes] = set()
        self._former: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._current) + len(self._former)

    def strike(self, identifier: bytes, now_s: float, window_s: float) -> bool:
        """True if `identifier` was not struck in the last `window_s` seconds and is now. The window never changes."""
        age = now_s - self._began
        if age >= window_s:
            self._former = self._current if age < 2 * window_s else set()
            self._current = set()
            self._began = now_s
        if identifier in self._current or identifier in self._former or len(self._current) >= self._most:
            return False
        self._current.add(identifier)
        return True
