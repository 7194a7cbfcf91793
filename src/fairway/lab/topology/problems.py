"""What is wrong with a lab's file: every problem found, each with file, line and key, in one error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import NoReturn

from fairway.lab.topology.lines import Path
from fairway.net.model.errors import UsageError

MOST_SHOWN = 10

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Problems:
    """Collects problems by the path of the key that each is about, and raises them together."""

    def __init__(self, source: str, document: Mapping[str, object], lines: Mapping[Path, int]) -> None:
        self._source = source
        self._document = document
        self._lines = lines
        self._found: list[tuple[Path, str]] = []

    def add(self, path: Path, message: str) -> None:
        """Note `message` about the key at `path`, or about what stands deepest on the way there."""
        self._found.append((self._standing(path), message))

    def holds(self, path: Path) -> bool:
        """Whether the file has something at `path`."""
        return self._standing(path) == path

    def raise_if_any(self) -> None:
        """Raise a UsageError with all that was noted, in the order of the file."""
        if self._found:
            self._raise()

    def _raise(self) -> NoReturn:
        found = sorted(dict.fromkeys(self._found), key=lambda problem: self._line(problem[0]))
        shown = [self._render(path, message) for path, message in found[:MOST_SHOWN]]
        if len(found) > MOST_SHOWN:
            shown.append(f"{self._source}: and {len(found) - MOST_SHOWN} more")
        raise UsageError("\n".join(shown))

    def _render(self, path: Path, message: str) -> str:
        line = self._line(path)
        place = f"{self._source}:{line}" if line else self._source
        return f"{place}: {dotted(path)}: {message}" if path else f"{place}: {message}"

    def _line(self, path: Path) -> int:
        """The line of the key at `path`, or of the nearest one around it; 0: not known."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0)

    def _standing(self, path: Path) -> Path:
        """As much of `path` as the file has."""
        value: object = self._document
        for length, step in enumerate(path):
            inside = dict(enumerate(value)) if isinstance(value, list) else value
            if not isinstance(inside, dict) or step not in inside:
                return path[:length]
            value = inside[step]
        return path


def dotted(path: Path) -> str:
    """`path` as a person writes it: links.lan.members.node03, nodes.node03.pools[1]."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step if _BARE_KEY.fullmatch(step) else ascii(step)}"
    return text.removeprefix(".")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `word`: the one it may have been meant to be, or all there are."""
    known = list(known)
    if close := get_close_matches(word, known, n=1):
        return f"did you mean {close[0]}?"
    shown = ", ".join(known[:MOST_SHOWN]) + (", ..." if len(known) > MOST_SHOWN else "")
    return f"there are: {shown}" if shown else "there are none"
