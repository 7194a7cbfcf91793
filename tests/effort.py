"""How much work something is, counted: the same however slow or busy the machine is.

What goes on inside a function written in C is not seen. Where copying is what is feared, memory tells of it.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from operator import length_hint
from types import FrameType


@dataclass(slots=True)
class Work:
    """What was done in a block, once it is over."""

    steps: int = 0


@contextmanager
def counted(limit: int = sys.maxsize) -> Iterator[Work]:
    """Count the steps of Python in what the block calls: each line as often as it is executed, each call and return.

    `AssertionError` if they reach `limit`, and at once if three times that, as it may be that they have no end.
    """
    work, before, most = Work(), sys.gettrace(), min(3 * limit, sys.maxsize)
    ticks = repeat(None, most)  # a count that makes no numbers, each of which would be memory that may be traced
    tick = ticks.__next__

    def step(_frame: FrameType, _event: str, _argument: object) -> None:
        try:
            tick()
        except StopIteration:
            raise AssertionError(f"{most:,} steps, and no end") from None

    def enter(frame: FrameType, event: str, argument: object) -> Callable[[FrameType, str, object], None]:
        step(frame, event, argument)
        return step

    sys.settrace(enter)
    try:
        yield work
    finally:
        sys.settrace(before)
        work.steps = most - length_hint(ticks)
    assert work.steps < limit, f"{work.steps:,} steps"


def allocated(work: Callable[[], object], times: int) -> int:
    """The bytes that `work`, done so many times, held at most beyond what there was before it, added up.

    Who copies what has gathered each time shows here, though every copy takes the place of the one before.
    """
    total = 0
    tracemalloc.start()
    try:
        for _ in range(times):
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            work()
            total += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return total
