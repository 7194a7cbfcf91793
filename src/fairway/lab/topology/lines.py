"""On which line of a TOML text each key stands, which `tomllib` does not tell: right, or silent."""

from __future__ import annotations

import re
from collections import Counter

Path = tuple[str | int, ...]
"""The way to a value: keys of tables, and positions in lists."""

_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")
_STRING_OR_COMMENT = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|#.*""")


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1, where each table or key of the valid TOML `text` first stands; keys inside `{}` are left out.

    Empty where the text has multi-line strings, which can hold what looks like a key.
    """
    lines: dict[Path, int] = {}
    if '"""' in text or "'''" in text:
        return lines
    table: Path = ()
    elements: Counter[Path] = Counter()
    depth = 0  # of brackets left open by the lines before
    for number, line in enumerate(text.split("\n"), start=1):
        if depth == 0:
            if header := _HEADER.match(line):
                table = _split(header[2])
                _note(lines, (), table, number)
                if header[1] == "[[":
                    elements[table] += 1
                    table = (*table, elements[table] - 1)
                    lines[table] = number
            elif assignment := _ASSIGNMENT.match(line):
                _note(lines, table, _split(assignment[1]), number)
        bare = _STRING_OR_COMMENT.sub("", line)
        depth += sum(map(bare.count, "[{")) - sum(map(bare.count, "]}"))
    return lines


def _split(dotted: str) -> Path:
    """The keys of a dotted key, unquoted."""
    return tuple(key[1:-1] if key[0] in "\"'" else key for key in re.findall(_KEY, dotted))


def _note(lines: dict[Path, int], table: Path, keys: Path, number: int) -> None:
    """Note the line of `keys` under `table`, and of every table on the way that has none yet."""
    for length in range(1, len(keys) + 1):
        lines.setdefault((*table, *keys[:length]), number)
