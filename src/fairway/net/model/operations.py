"""Operations: what `reconcile.plan` finds to do, and the kernel room does."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import Fact


@dataclass(frozen=True, slots=True)
class Create:
    """`fact` is to be, and is not."""

    fact: Fact


@dataclass(frozen=True, slots=True)
class Change:
    """`observed` is to become `fact`; both have the same key."""

    fact: Fact
    observed: Fact


@dataclass(frozen=True, slots=True)
class Delete:
    """`fact` is, is ours, and is not to be."""

    fact: Fact


Operation = Create | Change | Delete


@dataclass(frozen=True, slots=True)
class Failure:
    """One operation that did not succeed, and why."""

    operation: Operation
    error: FairwayError
