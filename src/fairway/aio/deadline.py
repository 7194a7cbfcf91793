"""`asyncio.timeout`, by an alarm.

A timer of the loop's own costs ten times as much, and stays in its heap for as long as it was to wait, though what it
was for took a millisecond.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from fairway.aio.alarms import Alarm, alarms_of


class deadline:  # noqa: N801 - used like a function
    """`with deadline(seconds):` in a task; what has not ended by then is cancelled, and raises `TimeoutError`."""

    __slots__ = ("_alarm", "_alarms", "_cancelling", "_over", "_seconds", "_task")

    _alarm: Alarm
    _task: asyncio.Task[object]

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline is for a task")
        self._task, self._cancelling = task, task.cancelling()
        loop = asyncio.get_running_loop()
        self._alarms = alarms_of(loop)
        self._alarm = self._alarms.set(loop.time() + self._seconds, self._ring)

    def _ring(self) -> None:
        self._over = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alarms.cancel(self._alarm)
        if self._over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error  # nobody else has cancelled the task
