"""apply(operations, execute): run what plan found, and say what of it failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fairway.net.model.operations import Failure, Operation

Execute = Callable[[Sequence[Operation]], list[Failure]]


def apply(operations: Sequence[Operation], execute: Execute) -> None:
    """Run all of `operations`, whichever fail; the first failure is raised."""
    failures = execute(operations)
    if failures:
        raise failures[0].error
