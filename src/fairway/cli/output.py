"""What commands print: one JSON document for programs, aligned columns for people, progress on a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_QUIET_S = 0.5  # what is done sooner needs no progress shown
_BETWEEN_S = 0.1
_BAR = 24


def json_option(command: F) -> F:
    """Give `command` the option --json, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def print_json(document: Any) -> None:
    """Print the one document."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as what is in them, two blanks apart; the header in capitals."""
    lines = [[name.upper() for name in header], *([*row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], nothing: str) -> None:
    """Print the table; `nothing`, on stderr, if it has no rows."""
    found = list(rows)
    if found:
        click.echo(table(header, found))
    else:
        click.echo(nothing, err=True)


def plural(count: int, one: str, many: str = "") -> str:
    """`count` and its noun: 1 pod, 2 pods."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def milliseconds(value: float) -> str:
    """A time of some milliseconds, in three figures."""
    return f"{value:.0f}" if value >= 100 else f"{value:.{1 if value >= 10 else 2}f}"


class Progress:
    """A bar on stderr for what takes long, on a terminal only; gone when the `with` block ends."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._next = time.monotonic() + _QUIET_S
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)

    def show(self, done: int, total: int) -> None:
        """`done` of `total` are done."""
        self.step(self._label, done, total)

    def step(self, what: str, done: int, total: int) -> None:
        """Of the step `what`, `done` of `total` are done."""
        now = time.monotonic()
        if not self._terminal or now < self._next:
            return
        self._next = now + _BETWEEN_S
        self._shown = True
        filled = _BAR * done // total if total else 0
        click.echo(f"\r\x1b[K{what} [{'#' * filled}{'.' * (_BAR - filled)}] {done}/{total}", nl=False, err=True)
