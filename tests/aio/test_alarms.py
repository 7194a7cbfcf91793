import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from fairway.aio.alarms import Alarms, alarms_of


class Loop(asyncio.AbstractEventLoop):
    """A loop whose clock the test turns."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: object, **_: object) -> asyncio.TimerHandle:  # type: ignore[override]
        timer = asyncio.TimerHandle(when, callback, args, self)
        self.timers.append(timer)
        return timer

    def _timer_handle_cancelled(self, timer: asyncio.TimerHandle) -> None:
        self.timers.remove(timer)

    def get_debug(self) -> bool:
        return False

    def turn_to(self, now: float) -> None:
        """Run what is due, in its order."""
        while due := [timer for timer in self.timers if timer.when() <= now]:
            timer = min(due)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when())
            callback: Callable[..., object] = timer._callback  # type: ignore[attr-defined]
            callback()
        self.now = now


class TestAlarms:
    def test_alarms_ring_in_the_order_of_their_times_however_they_were_set(self) -> None:
        loop, rung = Loop(), list[float]()
        alarms = Alarms(loop)
        for at in (3.0, 1.0, 2.0, 2.0, 5.0):
            alarms.set(at, lambda at=at: rung.append(at))  # type: ignore[misc]
        loop.turn_to(2.5)
        assert rung == [1.0, 2.0, 2.0]
        loop.turn_to(10.0)
        assert rung == [1.0, 2.0, 2.0, 3.0, 5.0]
        assert len(alarms) == 0

    def test_a_cancelled_alarm_does_not_ring_and_may_be_cancelled_again(self) -> None:
        loop, rung = Loop(), list[str]()
        alarms = Alarms(loop)
        first, second = alarms.set(1.0, lambda: rung.append("first")), alarms.set(1.0, lambda: rung.append("second"))
        alarms.cancel(first)
        alarms.cancel(first)
        loop.turn_to(1.0)
        alarms.cancel(second)
        assert rung == ["second"]

    def test_an_alarm_may_set_others_and_cancel_them(self) -> None:
        loop, rung = Loop(), list[str]()
        alarms = Alarms(loop)
        later = alarms.set(2.0, lambda: rung.append("later"))

        def first() -> None:
            alarms.cancel(later)
            alarms.set(0.5, lambda: rung.append("at once"))
            alarms.set(3.0, lambda: rung.append("last"))

        alarms.set(1.0, first)
        loop.turn_to(4.0)
        assert rung == ["at once", "last"]

    def test_one_that_fails_does_not_keep_the_others_from_ringing(self) -> None:
        loop, rung = Loop(), list[str]()
        alarms = Alarms(loop)

        def fail() -> None:
            raise ValueError("failed")

        alarms.set(1.0, fail)
        alarms.set(1.0, lambda: rung.append("other"))
        with pytest.raises(ValueError, match="failed"):
            loop.turn_to(1.0)
        loop.turn_to(1.0)
        assert rung == ["other"]

    def test_cancelled_alarms_do_not_pile_up(self) -> None:
        loop, rung = Loop(), list[int]()
        alarms = Alarms(loop)
        for number in range(10_000):
            alarms.cancel(alarms.set(100.0 + number, lambda: rung.append(0)))
            assert len(alarms) < 200
        alarms.set(1.0, lambda: rung.append(1))
        loop.turn_to(1e6)
        assert rung == [1]

    def test_ever_earlier_alarms_leave_no_timer_behind_that_would_wake_the_loop_for_nothing(self) -> None:
        loop, rung = Loop(), list[float]()
        alarms = Alarms(loop)
        for at in range(50, 0, -1):
            alarms.set(float(at), lambda: rung.append(loop.now))
        assert len(loop.timers) == 1
        loop.turn_to(40.0)
        assert len(loop.timers) == 1
        loop.turn_to(1e6)
        assert rung == [float(at) for at in range(1, 51)]
        assert loop.timers == []

    def test_a_loop_that_is_gone_is_not_kept_for_its_alarms(self) -> None:
        async def scenario() -> weakref.ref[asyncio.AbstractEventLoop]:
            loop = asyncio.get_running_loop()
            alarms_of(loop).set(loop.time() + 1000, gc.collect)
            assert alarms_of(loop) is alarms_of(loop)
            return weakref.ref(loop)

        loop = asyncio.run(scenario())
        gc.collect()
        assert loop() is None
