"""Operations on the kernel that fail on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from fairway.net.kernel.kernel import Kernel
from fairway.net.model.errors import FairwayError


class Faults:
    """How many operations were asked for, the one that failed among them."""

    seen = 0


@contextmanager
def failing_at(number: int) -> Iterator[Faults]:
    """The operation of that number fails, counted from 0; those before are done."""
    execute, faults = Kernel.execute, Faults()

    def faulty(self: Kernel, operations):
        failures = []
        for operation in operations:
            faults.seen += 1
            if faults.seen == number + 1:
                raise FairwayError("injected")
            failures += execute(self, [operation])
        return failures

    with patch.object(Kernel, "execute", faulty):
        yield faults
