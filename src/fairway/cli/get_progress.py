"""One line on a terminal for all that is being fetched: how much, of how much, how fast, how long still."""

from __future__ import annotations

import os
import sys
import time
from collections import deque

import click

_QUIET_S = 0.5
_BETWEEN_S = 0.2
_BAR = 24
_RATE_OVER = 15  # of so many past steps


def size(count: float) -> str:
    """Bytes, in three figures: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.{1 if count >= 10 else 2}f} {unit}"


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    whole = int(seconds + 0.5)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class TransferProgress:
    """Counts the bytes of several transfers; shown on stderr if that is a terminal and `quiet` is false."""

    def __init__(self, transfers: int, *, quiet: bool) -> None:
        self._transfers = transfers
        self._finished = 0
        self._done = 0
        self._total: int | None = 0
        self._announced = 0
        self._shows = not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._next = time.monotonic() + _QUIET_S
        self._steps: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=_RATE_OVER)
        self._shown = False

    def announced(self, total: int | None) -> None:
        """A transfer will bring `total` bytes, or nobody knows how many."""
        self._announced += 1
        self._total = None if total is None or self._total is None else self._total + total

    def add(self, count: int) -> None:
        """Bytes have come."""
        self._done += count
        if self._shows:
            now = time.monotonic()
            if now >= self._next:
                self._next = now + _BETWEEN_S
                self._show(now)

    def finished(self) -> None:
        """A transfer is over."""
        self._finished += 1

    def clear(self) -> None:
        """Take the line away: for what is to be said, and at the end."""
        if self._shown:
            self._shown = False
            click.echo("\r\x1b[K", nl=False, err=True)

    def _show(self, now: float) -> None:
        self._shown = True
        then, before = self._steps[0]
        self._steps.append((now, self._done))
        rate = (self._done - before) / max(now - then, 1e-3)
        click.echo("\r\x1b[K" + self.line(rate), nl=False, err=True)

    def line(self, rate: float) -> str:
        """The line, at `rate` bytes a second."""
        parts = [f"{self._finished}/{self._transfers}"] if self._transfers > 1 else []
        total = self._total if self._announced == self._transfers else None
        if total:
            filled = min(_BAR, _BAR * self._done // total)
            parts.append(f"[{'#' * filled}{'.' * (_BAR - filled)}] {size(self._done)} of {size(total)}")
        else:
            parts.append(size(self._done))
        parts.append(f"{size(rate)}/s")
        if total and rate > 0:
            parts.append(f"{duration(max(total - self._done, 0) / rate)} left")
        return "  ".join(parts)
