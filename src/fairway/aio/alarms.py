"""The deadlines of all connections of an event loop, behind one timer of the loop.

A connection sets and takes back several in its life. The loop's own timers are compared in Python when they are set,
and stay in its heap when they are taken back; these are lists of numbers, which the heap compares by itself.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

Alarm = list[Any]
"""When it rings, a number that tells it from others of that time, what it calls: None once it rang or was cancelled."""

_FEW = 64
"""Cancelled alarms that are not worth a search."""


class Alarms:
    """What rings when; times are the loop's."""

    __slots__ = ("_cancelled", "_due", "_heap", "_loop", "_number", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)  # `_ALARMS` must not keep its own keys alive
        self._heap: list[Alarm] = []
        self._number = 0
        self._cancelled = 0
        self._due = math.inf
        self._timer: weakref.ref[asyncio.TimerHandle] | None = None
        """The loop's, for the alarm that is due first. It knows the loop."""

    def __len__(self) -> int:
        """Alarms that are kept, cancelled ones included."""
        return len(self._heap)

    def set(self, at: float, call: Callable[[], None]) -> Alarm:
        """Call `call` at that time, once."""
        self._number += 1
        alarm: Alarm = [at, self._number, call]
        heappush(self._heap, alarm)
        if at < self._due:
            self._wait_for(at)
        return alarm

    def cancel(self, alarm: Alarm) -> None:
        """It does not ring any more, if it has not rung."""
        if alarm[2] is None:
            return
        alarm[2] = None
        self._cancelled += 1
        if self._cancelled > _FEW and 2 * self._cancelled > len(self._heap):
            self._heap = [kept for kept in self._heap if kept[2] is not None]
            heapify(self._heap)
            self._cancelled = 0

    def _wait_for(self, at: float) -> None:
        loop = self._loop()
        assert loop is not None  # who sets an alarm has it
        former = None if self._timer is None else self._timer()
        if former is not None:
            former.cancel()  # it would wake the loop for nothing
        self._due = at
        self._timer = weakref.ref(loop.call_at(at, self._ring))

    def _ring(self) -> None:
        loop = self._loop()
        if loop is None:
            return
        self._due, self._timer = math.inf, None
        now = loop.time()
        try:
            while self._heap and (self._heap[0][2] is None or self._heap[0][0] <= now):
                alarm = heappop(self._heap)
                call, alarm[2] = alarm[2], None
                if call is None:
                    self._cancelled -= 1
                else:
                    call()
        finally:  # what one alarm raises goes to the loop's handler; the others ring after it
            if self._heap and self._heap[0][0] < self._due:
                self._wait_for(self._heap[0][0])


_ALARMS: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Alarms] = weakref.WeakKeyDictionary()


def alarms_of(loop: asyncio.AbstractEventLoop) -> Alarms:
    """The alarms of a loop."""
    alarms = _ALARMS.get(loop)
    if alarms is None:
        alarms = _ALARMS[loop] = Alarms(loop)
    return alarms
