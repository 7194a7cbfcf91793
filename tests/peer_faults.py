"""Faults of peers that a test meets by chance: it is tried again when it fails of one, and of nothing else."""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

QH3_LOSES_A_STREAM = "reserved stream is missing"
"""qh3 2.1.0 says so and stops when the peer has acknowledged all of a stream while a packet with its data again waits
to be written: after a loss, or where the machine is so slow that its probe timeout passes."""

_TRIES = 4


def despite(fault: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Try the test again, a few times, if what it raises or an event loop logs has the words of `fault`."""

    def decorate(test: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(test)
        def until_it_is_not_that(*arguments: P.args, **options: P.kwargs) -> None:
            for remaining in reversed(range(_TRIES)):
                heard = _Heard()
                logging.getLogger("asyncio").addHandler(heard)
                try:
                    test(*arguments, **options)
                    return
                except Exception as error:
                    said = [*traceback.format_exception(error), *heard.said]
                    if not remaining or not any(fault in line for line in said):
                        raise
                finally:
                    logging.getLogger("asyncio").removeHandler(heard)

        return until_it_is_not_that

    return decorate


class _Heard(logging.Handler):
    """What an event loop logs: the exceptions of its callbacks among it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))
