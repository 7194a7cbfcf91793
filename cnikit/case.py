"""A case: one behaviour that a plugin shows or does not, with the section of the SPEC that asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from cnikit.bed import Bed

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""The versions of the SPEC that cases are run in, oldest first."""


class Level(Enum):
    """Who asks for the behaviour."""

    MUST = "must"  # the SPEC's MUST, or a contract that cannot be kept otherwise
    SHOULD = "should"  # the SPEC's SHOULD, or its conventions
    ROBUST = "robust"  # neither; but runtimes and accidents do this to plugins


class Status(Enum):
    """How a case ended."""

    PASS = "pass"
    FAIL = "FAIL"
    NOT_APPLICABLE = "n/a"


class BehaviourError(Exception):
    """The plugin did not behave as the case asks; the text says what was seen."""


class NotApplicableError(Exception):
    """The case asks nothing of this plugin; the text says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """One behaviour. `title` is the sentence that it proves; `since` and `until` are the versions that ask for it."""

    chapter: str
    name: str
    title: str
    section: str
    level: Level
    since: str
    until: str
    prove: Callable[[Bed], None]

    def applies_to(self, version: str) -> bool:
        """Whether that version of the SPEC asks for it."""
        return VERSIONS.index(self.since) <= VERSIONS.index(version) <= VERSIONS.index(self.until)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one case in one version; `seen` says what was seen, or why the case does not apply."""

    status: Status
    seen: str = ""


CASES: list[Case] = []
"""Every case, in the order in which the chapters are imported (`cnikit.cases`)."""


def case(
    chapter: str, section: str, level: Level = Level.MUST, *, since: str = VERSIONS[0], until: str = VERSIONS[-1]
) -> Callable[[Callable[[Bed], None]], Callable[[Bed], None]]:
    """Register a function as a case. Its docstring's first line is the sentence that it proves."""

    def register(prove: Callable[[Bed], None]) -> Callable[[Bed], None]:
        title = (prove.__doc__ or "").strip().splitlines()[0].rstrip(".")
        CASES.append(Case(chapter, prove.__name__, title, section, level, since, until, prove))
        return prove

    return register


def expect(condition: object, seen: str) -> None:
    """Fail the case with what was seen, unless the condition holds."""
    if not condition:
        raise BehaviourError(seen)


def fail(seen: str) -> NoReturn:
    """Fail the case."""
    raise BehaviourError(seen)
