"""A document's fields, each with its place, so that an error says where it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fairway.net.model.errors import UsageError
from fairway.net.model.policy import Labels

_TRANSPORTS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


class Field:
    """A value at a place of a document. One that is not there is false, and has no fields and no items."""

    def __init__(self, value: Any, file: str, path: str) -> None:
        self.value = value
        self._file = file
        self._path = path

    def __bool__(self) -> bool:
        return self.value is not None

    def __getitem__(self, key: str) -> Field:
        """A field of the mapping that this is; an error if it is something else."""
        return Field(self._mapping().get(key), self._file, f"{self._path}.{key}" if self._path else key)

    @property
    def where(self) -> str:
        """The place in words."""
        return f"{self._file}: {self._path}" if self._path else self._file

    def problem(self, words: str) -> UsageError:
        """An error at this place."""
        return UsageError(f"{self.where}: {words}")

    def required(self, key: str) -> Field:
        """A field that must be there."""
        found = self[key]
        if not found:
            raise found.problem("is missing")
        return found

    def list(self, key: str) -> list[Field]:
        """The items of a field that is a list, or is not there."""
        found = self[key]
        if found.value is None:
            return []
        if not isinstance(found.value, list):
            raise found.problem(f"expected a list, found {_name_of(found.value)}")
        return [Field(item, self._file, f"{found._path}[{number}]") for number, item in enumerate(found.value)]

    def items(self) -> Iterator[tuple[str, Field]]:
        """The fields of a mapping, or of nothing."""
        for key in self._mapping():
            if not isinstance(key, str):
                raise self.problem(f"expected text as the name of a field, found {key!r}")
            yield key, self[key]

    def only(self, known: Iterable[str]) -> None:
        """Refuse fields of other names: a rule that is only half understood would allow what it does not mean to."""
        names = tuple(known)
        for key in self._mapping():
            if key not in names:
                raise self[str(key)].problem(f"unknown; known are {', '.join(names)}")

    def text(self) -> str:
        """The text that this is."""
        if not isinstance(self.value, str):
            raise self.problem(f"expected text, found {_name_of(self.value)}")
        return self.value

    def port(self) -> int:
        """The port number that this is."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not 1 <= self.value <= 65535:
            raise self.problem(f"expected a port number from 1 to 65535, found {self.value!r}")
        return self.value

    def _mapping(self) -> dict[Any, Any]:
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.problem(f"expected a mapping, found {_name_of(self.value)}")
        return self.value


def labels(field: Field) -> Labels:
    """The labels that a mapping, or nothing, gives."""
    return {key: value.text() for key, value in field.items()}


def transport(field: Field) -> str:
    """A transport protocol's name as the rest of Fairway writes it; TCP where it is not given."""
    name = field.text() if field else "TCP"
    if name not in _TRANSPORTS:
        raise field.problem(f"expected TCP, UDP or SCTP, found {name!r}")
    return _TRANSPORTS[name]


def _name_of(value: Any) -> str:
    names = {type(None): "nothing", dict: "a mapping", list: "a list", str: "text", bool: "a truth value"}
    return names.get(type(value), f"the value {value!r}")
