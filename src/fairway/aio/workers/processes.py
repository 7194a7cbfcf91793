"""The processes of the workers: forked, listened to, told to end, reaped."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from fairway.aio.workers.control import Control, Said, Word
from fairway.aio.workers.signals import default_in_worker


class Stage(Enum):
    """What a worker is at."""

    STARTING = "starting its application"
    READY = "waiting for the others of its generation"
    SERVING = "serving"
    LEAVING = "ending what was begun"


@dataclass(slots=True, eq=False)
class Generation:
    """Workers that were started together, each with a number of its own, and those that followed one that died."""

    numbers: list[int]
    failures: dict[int, int] = field(default_factory=dict)
    """How often in a row a number's worker died soon."""
    due: dict[int, float] = field(default_factory=dict)
    """When a number's worker is to be started again."""


@dataclass(slots=True, eq=False)
class Worker:
    """A process."""

    pid: int
    number: int
    generation: Generation
    control: Control
    began: float
    stage: Stage = Stage.STARTING
    deadline: float | None = None
    """When it is killed."""
    told: bool = False
    """True if it said why it failed."""

    def leave(self, word: Word, patience_s: float) -> None:
        """Tell it to go; it is killed if it takes longer."""
        self.control.say(word)
        self.stage = Stage.LEAVING
        self.deadline = time.monotonic() + patience_s

    def kill(self) -> None:
        """End it at once."""
        self.deadline = None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Processes:
    """Those that run. `heard` is called with what one of them says; `owner` is an end that they have no use for."""

    def __init__(
        self, selector: selectors.BaseSelector, heard: Callable[[Worker, Said], None], owner: Control | None
    ) -> None:
        self._selector = selector
        self._heard = heard
        self._owner = owner
        self.all: list[Worker] = []

    def of(self, generation: Generation) -> list[Worker]:
        """Those of a generation."""
        return [worker for worker in self.all if worker.generation is generation]

    def start(self, number: int, generation: Generation, work: Callable[[Control], int]) -> None:
        """Fork one that does `work`, with its end of the control socket, and ends with the status that it gives."""
        ours, theirs = Control.pair()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if not pid:
            self._become_worker(work, theirs, ours)
        theirs.close()
        ours.socket.setblocking(False)
        worker = Worker(pid, number, generation, ours, time.monotonic())
        self.all.append(worker)
        self._selector.register(ours.socket, selectors.EVENT_READ, lambda: self._hear(worker))

    def _become_worker(self, work: Callable[[Control], int], control: Control, other_end: Control) -> None:
        """The child's side of a fork. Does not return."""
        status = 1
        try:
            default_in_worker()
            self._selector.close()
            for end in (other_end, self._owner, *(worker.control for worker in self.all)):
                if end is not None:
                    end.close()
            status = work(control)
        finally:
            logging.shutdown()
            os._exit(status)

    def _hear(self, worker: Worker) -> None:
        try:
            said = worker.control.hear()
        except BlockingIOError:
            return
        if said is None:
            self._selector.unregister(worker.control.socket)  # it ends: `reap` sees it
        else:
            self._heard(worker, said)

    def reap(self) -> list[tuple[Worker, int]]:
        """Those that have ended, with their exit status; their last words are heard first."""
        ended: list[tuple[Worker, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if not pid:
                return ended
            for worker in [worker for worker in self.all if worker.pid == pid]:
                self._bury(worker)
                ended.append((worker, os.waitstatus_to_exitcode(status)))

    def _bury(self, worker: Worker) -> None:
        with contextlib.suppress(BlockingIOError):
            while (said := worker.control.hear()) is not None:
                self._heard(worker, said)
        self.all.remove(worker)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.control.socket)
        worker.control.close()

    def deadlines(self) -> list[float]:
        """When `kill_late` has something to do."""
        return [worker.deadline for worker in self.all if worker.deadline is not None]

    def kill_late(self, now: float) -> None:
        """End those who had to be gone by now."""
        for worker in self.all:
            if worker.deadline is not None and worker.deadline <= now:
                worker.kill()
