"""A deadline ends what runs past it, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from fairway.aio.alarms import alarms_of
from fairway.aio.deadline import deadline


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def test_what_runs_past_it_is_cancelled_and_told() -> None:
    async def scenario() -> None:
        with pytest.raises(TimeoutError), deadline(0.001):
            await asyncio.Event().wait()
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        await asyncio.sleep(0)

    run(scenario())


def test_who_is_cancelled_by_others_sees_that() -> None:
    async def waits() -> None:
        with deadline(1000.0):
            await asyncio.Event().wait()

    async def scenario() -> None:
        task = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario())


def test_both_at_once_is_a_cancellation() -> None:
    async def waits(ready: asyncio.Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        with deadline(0.0):
            task.get_loop().call_later(0.01, task.cancel)
            try:
                await ready.wait()
            except asyncio.CancelledError:  # the deadline's: the other comes while it is being dealt with
                await asyncio.shield(asyncio.sleep(1))
                raise

    async def scenario() -> None:
        task = asyncio.ensure_future(waits(asyncio.Event()))
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario())


def test_what_ends_in_time_leaves_nothing_behind_and_its_own_errors_pass() -> None:
    async def scenario() -> None:
        alarms = alarms_of(asyncio.get_running_loop())
        for _ in range(1000):
            with deadline(1000.0):
                pass
        assert len(alarms) < 200  # the loop's own timers would all be there for a thousand seconds
        with pytest.raises(KeyError), deadline(1000.0):
            raise KeyError("mine")

    run(scenario())
