"""The arguments of a call, checked as they are taken: whoever sends nonsense is told which argument it is."""

from __future__ import annotations

from typing import Any

from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.pod import parse_address, parse_network

_TEXT_MAX = 1 << 18
_LIST_MAX = 1 << 14


class Arguments:
    """A JSON object, each of whose members is asked for by its name and type."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._taken: set[str] = set()

    def finish(self) -> None:
        """An error if there is an argument that nobody asked for."""
        for name in self._document:
            if name not in self._taken:
                raise UsageError(f"there is no argument {name!r} to this call")

    def text(self, name: str, default: str | None = None) -> str:
        """Text; without a default it must be there."""
        found = self._get(name, default)
        if not isinstance(found, str) or len(found) > _TEXT_MAX:
            raise _wrong(name, "text")
        return found

    def texts(self, name: str) -> list[str]:
        """A list of texts, which may be absent."""
        found = self._get(name, [])
        if not isinstance(found, list) or len(found) > _LIST_MAX or not all(isinstance(each, str) for each in found):
            raise _wrong(name, "a list of texts")
        return found

    def addresses(self, name: str) -> list[IPAddress]:
        """A list of addresses, which may be absent."""
        return [parse_address(text, name) for text in self.texts(name)]

    def network(self, name: str) -> IPNetwork:
        """A network."""
        return parse_network(self.text(name), name)

    def number(self, name: str, default: int = 0, least: int = 0, most: int = 1 << 31) -> int:
        """A whole number."""
        found = self._get(name, default)
        if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
            raise _wrong(name, f"a whole number from {least} to {most}")
        return found

    def numbers(self, name: str) -> list[int]:
        """A list of whole numbers, which may be absent."""
        found = self._get(name, [])
        if not isinstance(found, list) or not all(type(each) is int for each in found):
            raise _wrong(name, "a list of whole numbers")
        return found

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        found = self._get(name, default)
        if not isinstance(found, bool):
            raise _wrong(name, "true or false")
        return found

    def mapping(self, name: str) -> dict[str, str]:
        """Texts by names, which may be absent."""
        found = self._get(name, {})
        if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
            raise _wrong(name, "an object of texts")
        return found

    def inner(self, name: str) -> Arguments:
        """An object in the object, which may be absent."""
        found = self._get(name, {})
        if not isinstance(found, dict):
            raise _wrong(name, "an object")
        return Arguments(found)

    def pairs(self, name: str) -> list[tuple[str, str]]:
        """A list of pairs of texts."""
        found = self._get(name, [])
        if not isinstance(found, list) or not all(_is_pair(each) for each in found):
            raise _wrong(name, "a list of pairs of texts")
        return [(first, second) for first, second in found]

    def _get(self, name: str, default: Any) -> Any:
        self._taken.add(name)
        return self._document.get(name, default)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)


def _wrong(name: str, expected: str) -> UsageError:
    return UsageError(f"the argument {name!r} is to be {expected}")
