"""The master of several worker processes: starts them, starts them again, replaces them, stops them.

It keeps the sockets and never imports the application. Workers come in generations. At a reload a whole new generation
starts on sockets of its own; once all of it is ready the kernel gives it the newcomers, and the one before ends what it
has begun on the sockets that it has. If one of the new generation cannot start, all of it goes and nothing has changed.
"""

from __future__ import annotations

import logging
import selectors
import signal
import time
from collections.abc import Callable

from fairway.aio.workers.control import Control, Said, Word
from fairway.aio.workers.duty import LINGER_S, Patience
from fairway.aio.workers.group import Group, Place
from fairway.aio.workers.processes import Generation, Processes, Stage, Worker
from fairway.aio.workers.shared import Shared
from fairway.aio.workers.signals import caught

BACKOFF_S = 0.2
BACKOFF_CAP_S = 10.0
STEADY_S = 10.0
"""A worker that ran so long and then died is started again at once."""

LATE_S = 4.0
"""How much longer than it may take a worker gets before it is killed."""

_log = logging.getLogger("fairway.server")

Work = Callable[[Place, Control], int]
"""What a worker does: where it stands, its end of the control socket; an exit status."""


class StartError(Exception):
    """The workers cannot start: one says why."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend


class Master:
    """Runs until it is told to stop, by a signal or by its `owner`, or until that is gone."""

    def __init__(
        self,
        count: int,
        group: Group,
        work: Work,
        *,
        patience: Patience,
        on_started: Callable[[], None] = lambda: None,
        changed: Callable[[], bool] | None = None,
        poll_s: float = 0.5,
        owner: Control | None = None,
    ) -> None:
        self._count = count
        self._group = group
        self._shared = Shared()
        self._work = work
        self._patience = patience
        self._on_started = on_started
        self._changed = changed
        self._poll_s = poll_s
        self._owner = owner
        self._selector = selectors.DefaultSelector()
        self._workers = Processes(self._selector, self._hear, owner)
        self._free: list[list[int]] = []
        """Numbers of generations that are over."""
        self._current: Generation | None = None
        self._next: Generation | None = None
        self._started = False
        self._stopping = False
        self._failed: StartError | None = None

    def run(self) -> None:
        """Start the workers and keep them running until SIGINT or SIGTERM; `StartError` if they cannot start."""
        if self._owner is not None:
            self._selector.register(self._owner.socket, selectors.EVENT_READ, self._hear_owner)
        with caught(self._selector) as signals:
            self._begin()
            while self._workers.all or (self._pauses() and not self._stopping):
                for key, _ in self._selector.select(self._timeout()):
                    key.data()
                for worker, code in self._workers.reap():
                    self._ended(worker, code)
                while signals:
                    self._act_on(signals.pop(0))
                self._tick(time.monotonic())
        if self._failed is not None:
            raise self._failed

    def _generations(self) -> list[Generation]:
        return [generation for generation in (self._current, self._next) if generation is not None]

    def _pauses(self) -> list[float]:
        """When workers that died are to be started again."""
        return [when for generation in self._generations() for when in generation.due.values()]

    def _timeout(self) -> float:
        soonest = min([*self._workers.deadlines(), *self._pauses()], default=None)
        wait = 60.0 if soonest is None else max(soonest - time.monotonic(), 0.0)
        return min(wait, self._poll_s) if self._changed is not None else wait

    def _tick(self, now: float) -> None:
        for generation in self._generations():
            for number, when in list(generation.due.items()):
                if when <= now:
                    del generation.due[number]
                    self._start_again(number, generation)
        self._workers.kill_late(now)
        if self._changed is not None and self._started and self._changed():
            self.reload()

    # What it is told

    def _act_on(self, number: int) -> None:
        if number == signal.SIGHUP:
            self.reload()
        elif number != signal.SIGCHLD:
            self.stop()

    def _hear_owner(self) -> None:
        assert self._owner is not None
        said = self._owner.hear()
        if said is None:
            self._selector.unregister(self._owner.socket)
        if said is None or said.word is Word.STOP:
            self.stop()
        elif said.word is Word.RELOAD:
            self.reload()

    def reload(self) -> None:
        """Start a new generation, instead of one that is not ready yet; the one before goes when it is."""
        if self._stopping or not self._started:
            return
        _log.info("reloading: new workers start")
        if self._next is not None:
            self._abandon(self._next)
        self._shared.renew()
        self._begin()

    def stop(self) -> None:
        """Tell everyone to end; told again, kill them."""
        for worker in self._workers.all:
            if self._stopping:
                worker.kill()
            else:
                worker.leave(Word.STOP, self._patience.stop_s + LATE_S)
        self._stopping = True
        for generation in self._generations():
            generation.due.clear()

    # Generations

    def _begin(self) -> None:
        try:
            numbers = self._free.pop() if self._free else self._group.grow(self._count)
            if self._current is None:
                self._group.steer(numbers, ())  # nobody reads yet: what comes waits in the sockets
            self._next = Generation(numbers)
            for number in numbers:
                self._start(number, self._next)
        except OSError as error:
            failed = StartError(f"{self._count} workers cannot start: {error.strerror or error}")
            if self._current is None:
                self._failed = failed
                self.stop()
                return
            _log.error("the workers stay as they are: %s", failed)
            if self._next is not None:
                self._abandon(self._next)

    def _switch(self, generation: Generation) -> None:
        """All of it is ready: it takes the newcomers from the next datagram on."""
        before, self._current, self._next = self._current, generation, None
        for worker in self._workers.of(generation):
            self._let_in(worker)
        self._steer()
        if before is not None:
            before.due.clear()
            for worker in self._workers.of(before):
                worker.leave(Word.DRAIN, LINGER_S + self._patience.drain_s + LATE_S)
            self._release(before)
        if not self._started:
            self._started = True
            self._on_started()

    def _abandon(self, generation: Generation) -> None:
        """It cannot start: the one before stays."""
        self._next = None
        for worker in self._workers.of(generation):
            worker.leave(Word.STOP, LATE_S)
        self._release(generation)

    def _release(self, generation: Generation) -> None:
        """Its numbers are free once none of its workers is left."""
        if generation not in self._generations() and not self._workers.of(generation):
            self._free.append(generation.numbers)

    def _steer(self) -> None:
        """Newcomers to those of the current generation who serve; what belongs to somebody who runs, to him."""
        if self._current is None:
            return
        running = [w.number for w in self._workers.all if w.stage in (Stage.SERVING, Stage.LEAVING)]
        serving = [w.number for w in self._workers.of(self._current) if w.stage is Stage.SERVING]
        try:
            self._group.steer(serving or self._current.numbers, running)
        except (OSError, ValueError) as error:  # no memory, or far too many gaps: the program before still fits most
            _log.error("packets are steered as before: %s", error)

    # Workers

    def _start(self, number: int, generation: Generation) -> None:
        def work(control: Control) -> int:
            return self._work(self._group.take(number, self._shared), control)

        self._workers.start(number, generation, work)

    def _start_again(self, number: int, generation: Generation) -> None:
        try:
            self._start(number, generation)
        except OSError as error:
            _log.error("a worker cannot be started: %s", error.strerror or error)
            generation.due[number] = time.monotonic() + BACKOFF_CAP_S

    def _hear(self, worker: Worker, said: Said) -> None:
        if said.word is Word.FAILED:
            self._start_failed(worker, said)
        elif said.word is Word.READY and worker.stage is Stage.STARTING:
            worker.stage = Stage.READY
            generation = worker.generation
            if generation is self._current:  # it follows one that died
                self._let_in(worker)
                self._steer()
            elif sum(w.stage is Stage.READY for w in self._workers.of(generation)) == len(generation.numbers):
                self._switch(generation)

    def _let_in(self, worker: Worker) -> None:
        worker.stage = Stage.SERVING
        worker.began = time.monotonic()
        self._shared.note(worker.number, True)
        worker.control.say(Word.GO)

    def _start_failed(self, worker: Worker, said: Said) -> None:
        worker.told = True
        if self._started:
            kept = "; the old workers stay" if worker.generation is self._next else ""
            _log.error("worker %d did not start%s: %s", worker.pid, kept, said.message)
        elif self._failed is None:
            self._failed = StartError(said.message, said.mend)

    def _ended(self, worker: Worker, code: int) -> None:
        self._shared.note(worker.number, False)
        self._steer()  # who comes with its connection IDs is told by another that they are gone
        if self._stopping or worker.stage is Stage.LEAVING:
            self._release(worker.generation)
            return
        if not worker.told:
            _log.error("worker %d ended unexpectedly, with status %d", worker.pid, code)
        if not self._started:
            self._failed = self._failed or StartError(f"a worker ended while it started, with status {code}")
            self.stop()
        elif worker.generation is self._next:
            self._abandon(worker.generation)
        else:
            self._start_later(worker)

    def _start_later(self, worker: Worker) -> None:
        now = time.monotonic()
        generation = worker.generation
        steady = worker.stage is Stage.SERVING and now - worker.began > STEADY_S
        failures = 0 if steady else generation.failures.get(worker.number, 0) + 1
        generation.failures[worker.number] = failures
        wait = 0.0 if not failures else min(BACKOFF_S * 2 ** min(failures - 1, 10), BACKOFF_CAP_S)
        generation.due[worker.number] = now + wait
