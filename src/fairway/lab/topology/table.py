"""One table of a lab's file, read key by key: what does not fit is noted, and a default stands in for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from fairway.lab.topology.lines import Path
from fairway.lab.topology.problems import Problems, did_you_mean
from fairway.lab.topology.values import Expected, shown

T = TypeVar("T")


class Table:
    """The table `value` at `path`; with `keys`, no other key may be in it."""

    def __init__(self, problems: Problems, path: Path, value: object, keys: tuple[str, ...] = ()) -> None:
        self.path = path
        self._problems = problems
        self._values: dict[str, object] = {}
        if not isinstance(value, dict):
            problems.add(path, f"expected a table, got {shown(value)}")
            return
        self._values = value
        for key in value:
            if keys and key not in keys:
                problems.add((*path, key), f"unknown key; {did_you_mean(key, keys)}")

    def read(self, key: str, convert: Callable[[object], T], default: T) -> T:
        """The value of `key`, converted; `default` where there is none or it does not fit."""
        return self._convert((*self.path, key), self._values[key], convert, default) if key in self._values else default

    def read_needed(self, key: str, convert: Callable[[object], T], default: T, what: str) -> T:
        """As `read`, and a problem where the key is missing; `what` says what it holds."""
        if key not in self._values:
            self._problems.add(self.path, f"expected the key {key}: {what}")
        return self.read(key, convert, default)

    def read_list(self, key: str, convert: Callable[[object], T]) -> tuple[T, ...]:
        """The values of `key`, one or a list of them, converted; without those that do not fit."""
        value = self._values.get(key, [])
        if not isinstance(value, list):
            value = [value]
            paths: list[Path] = [(*self.path, key)]
        else:
            paths = [(*self.path, key, position) for position in range(len(value))]
        converted = (self._convert(path, each, convert, None) for path, each in zip(paths, value, strict=True))
        return tuple(each for each in converted if each is not None)

    def elements(self, key: str, keys: tuple[str, ...]) -> Iterator[Table]:
        """The tables in the list `key`."""
        value = self._values.get(key, [])
        if not isinstance(value, list):
            self._problems.add((*self.path, key), f"expected a list of tables, got {shown(value)}")
            return
        for position, each in enumerate(value):
            yield Table(self._problems, (*self.path, key, position), each, keys)

    def tables(self, key: str, keys: tuple[str, ...]) -> Iterator[tuple[str, Table]]:
        """The tables in the table `key`, by name, in the order of the file."""
        inner = self.inner(key)
        for name, value in inner._values.items():
            yield name, Table(self._problems, (*inner.path, name), value, keys)

    def inner(self, key: str) -> Table:
        """The table that `key` holds, with keys of any name; empty where there is none."""
        return Table(self._problems, (*self.path, key), self._values.get(key, {}))

    def refuse(self, key: str, message: str) -> None:
        """Note a problem with `key`."""
        self._problems.add((*self.path, key), message)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def _convert(self, path: Path, value: object, convert: Callable[[object], T], default: T) -> T:
        try:
            return convert(value)
        except Expected as error:
            self._problems.add(path, f"expected {error.what}, got {shown(value)}")
            return default
