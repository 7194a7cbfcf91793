"""How everything is fuzzed: how often, how long at most, and how real input is changed.

`make test` tries the same few examples every time; FAIRWAY_FUZZ_EXAMPLES asks for so many random ones of each test, and
FAIRWAY_FUZZ_SECONDS for no more than so many seconds of each.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from effort import counted

EXAMPLES = int(os.environ["FAIRWAY_FUZZ_EXAMPLES"]) if "FAIRWAY_FUZZ_EXAMPLES" in os.environ else None
SECONDS = float(os.environ.get("FAIRWAY_FUZZ_SECONDS", "inf"))
MAX_STEPS = 1_000_000
"""Of Python for one example: what takes more makes no progress."""


@dataclass
class Run:
    """What became of one test."""

    begun: float
    examples: int = 0
    most_steps: int = 0
    failed: bool = False
    ended_early: bool = False


RUNS: dict[str, Run] = {}


def fuzz(test: Callable[..., None]) -> Callable[..., None]:
    """Put below `@given`: many examples, none of which may be much work."""

    @functools.wraps(test)
    def one_example(*args: Any, **kwargs: Any) -> None:
        name = os.environ.get("PYTEST_CURRENT_TEST", test.__qualname__).split(" ")[0]
        run = RUNS.setdefault(name, Run(time.monotonic()))
        if not run.failed and time.monotonic() - run.begun > SECONDS:
            run.ended_early = True
            pytest.skip(f"time was up after {run.examples} examples, none of which failed")
        try:
            with counted(MAX_STEPS) as work:
                test(*args, **kwargs)
        except BaseException:
            run.failed = True
            raise
        run.examples += 1
        run.most_steps = max(run.most_steps, work.steps)

    chosen = settings(
        max_examples=EXAMPLES or 100,
        deadline=None,
        derandomize=EXAMPLES is None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return chosen(one_example)


Mutation = tuple[str, int, int, int]

mutation = st.tuples(
    st.sampled_from(["flip", "set", "insert", "delete", "repeat", "truncate", "swap"]),
    st.integers(0, 1 << 16),
    st.integers(0, 255),
    st.integers(1, 40),
)


def mutate(data: bytes, kind: str, where: int, value: int, length: int) -> bytes:
    """`data`, changed somewhere in one of the ways of `mutation`."""
    at = where % (len(data) + 1)
    changed = bytearray(data)
    if kind == "flip" and at < len(changed):
        changed[at] ^= value or 1
    elif kind == "set":
        changed[at : at + length] = bytes((value,)) * length
    elif kind == "insert":
        changed[at:at] = bytes((value,)) * length
    elif kind == "delete":
        del changed[at : at + length]
    elif kind == "repeat":
        changed[at:at] = changed[at : at + length * 8]
    elif kind == "truncate":
        del changed[at:]
    else:
        changed = changed[at:] + changed[:at]
    return bytes(changed)


varints = st.one_of(
    st.integers(0, 70),
    st.sampled_from([(1 << 6) - 1, 1 << 6, (1 << 14) - 1, 1 << 14, (1 << 30) - 1, 1 << 30, 1 << 60, (1 << 62) - 1]),
    st.integers(0, (1 << 62) - 1),
)
"""Integers of a format, those at its edges more often."""
