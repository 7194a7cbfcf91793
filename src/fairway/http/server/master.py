"""The master of several worker processes: starts them, starts them again, replaces them, stops them.

It keeps the sockets and never imports the application. Each worker slot has a UDP socket of its own; the kernel spreads
clients over them by address and port (SO_REUSEPORT), and their number never changes, so neither a crash nor a reload
moves a client to another. On a reload a new worker takes over its slot's socket; datagrams of connections that it does
not know go through a relay to the old one, which ends what was begun.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from fairway.aio.relay import Relay
from fairway.http.server.control import Control, Said, Word

BACKOFF_S = 0.2
BACKOFF_CAP_S = 10.0
STEADY_S = 10.0
"""A worker that ran so long and then died is started again at once."""

LATE_S = 4.0
"""How much longer than its grace a worker gets before it is killed."""

RELEASE_S = 2.0
"""How long an old worker may take to leave its socket."""

_log = logging.getLogger("fairway.server")

Work = Callable[[int, Control, socket.socket | None], int]
"""What a worker does: its slot, its end of the control socket, the relay to the worker before it; an exit status."""


class StartError(Exception):
    """The workers cannot start: one says why."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend


class Stage(Enum):
    """What a worker is at."""

    STARTING = "starting its application"
    READY = "waiting for the socket"
    SERVING = "serving"
    LEAVING = "ending what was begun"


@dataclass(slots=True, eq=False)
class Worker:
    """A process."""

    pid: int
    slot: int
    control: Control
    began: float
    stage: Stage = Stage.STARTING
    before: Worker | None = None
    """Whom it replaces."""
    relay: socket.socket | None = None
    """The end of the relay that the one before is to read."""
    deadline: float | None = None
    """When it is killed, or its predecessor no longer waited for."""
    told: bool = False
    """True if it said why it failed."""


class Master:
    """Runs until it is told to stop."""

    def __init__(
        self,
        count: int,
        work: Work,
        *,
        grace_s: float,
        on_started: Callable[[], None] = lambda: None,
        changed: Callable[[], bool] | None = None,
        poll_s: float = 0.5,
    ) -> None:
        self._count = count
        self._work = work
        self._grace_s = grace_s
        self._on_started = on_started
        self._changed = changed
        self._poll_s = poll_s
        self._workers: list[Worker] = []
        self._failures = [0] * count
        self._due: dict[int, float] = {}
        """When a slot's worker is to be started again."""
        self._selector = selectors.DefaultSelector()
        self._started = False
        self._stopping = False
        self._failed: StartError | None = None
        self._signals: list[int] = []

    def run(self) -> None:
        """Start the workers and keep them running until SIGINT or SIGTERM; `StartError` if they cannot start."""
        for slot in range(self._count):
            self._start(slot, None)
        with self._signals_caught():
            while self._workers or (self._due and not self._stopping):
                self._turn()
        if self._failed is not None:
            raise self._failed

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._timeout()):
            if isinstance(key.data, Worker):
                self._hear(key.data)
            else:
                with contextlib.suppress(BlockingIOError):
                    key.data.recv(4096)
        self._reap()
        signals, self._signals = self._signals, []
        for number in signals:
            if number == signal.SIGHUP:
                self.reload()
            elif number != signal.SIGCHLD:
                self.stop()
        self._tick(time.monotonic())

    def _timeout(self) -> float:
        times = [worker.deadline for worker in self._workers if worker.deadline is not None]
        soonest = min([*times, *self._due.values()], default=None)
        wait = 60.0 if soonest is None else max(soonest - time.monotonic(), 0.0)
        return min(wait, self._poll_s) if self._changed is not None else wait

    @contextlib.contextmanager
    def _signals_caught(self) -> Iterator[None]:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._selector.register(reader, selectors.EVENT_READ, reader)
        wakeup = signal.set_wakeup_fd(writer.fileno())
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
        before = [signal.signal(number, lambda caught, _: self._signals.append(caught)) for number in numbers]
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
            reader.close()
            writer.close()

    # What it is told

    def reload(self) -> None:
        """Start a new worker for each slot; each old one goes when its successor is ready."""
        if self._stopping:
            return
        _log.info("reloading: new workers start")
        for worker in [w for w in self._workers if w.stage is Stage.SERVING]:
            if not any(other.before is worker for other in self._workers):
                self._start(worker.slot, worker)

    def stop(self) -> None:
        """Tell everyone to end; told again, kill them."""
        now = time.monotonic()
        for worker in self._workers:
            if self._stopping:
                _kill(worker)
                continue
            worker.control.say(Word.STOP)
            worker.stage = Stage.LEAVING
            worker.deadline = now + self._grace_s + LATE_S
        self._stopping = True
        self._due.clear()

    # Workers

    def _start(self, slot: int, before: Worker | None) -> None:
        ours, theirs = Control.pair()
        relay_near = relay_far = None
        if before is not None:
            relay_near, relay_far = Relay.pair()
        pid = os.fork()
        if not pid:
            self._become_worker(slot, theirs, relay_near, (ours, relay_far))
        theirs.close()
        if relay_near is not None:
            relay_near.close()
        ours.socket.setblocking(False)
        worker = Worker(pid, slot, ours, time.monotonic(), before=before, relay=relay_far)
        self._workers.append(worker)
        self._selector.register(ours.socket, selectors.EVENT_READ, worker)

    def _become_worker(
        self,
        slot: int,
        control: Control,
        relay: socket.socket | None,
        others: tuple[Control | socket.socket | None, ...],
    ) -> None:
        """The child's side of a fork. Does not return."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            kin = [end for worker in self._workers for end in (worker.control, worker.relay)]
            for other in (*others, *kin):
                if other is not None:
                    other.close()
            status = self._work(slot, control, relay)
        finally:
            logging.shutdown()
            os._exit(status)

    def _hear(self, worker: Worker) -> None:
        try:
            said = worker.control.hear()
        except BlockingIOError:
            return
        if said is None:
            self._selector.unregister(worker.control.socket)  # it ends: `_reap` sees it
            return
        if said.word is Word.FAILED:
            self._start_failed(worker, said)
        elif said.word is Word.READY and not self._stopping:
            self._ready(worker)
        elif said.word is Word.RELEASED:
            for successor in self._workers:
                if successor.before is worker:
                    self._let_in(successor)

    def _ready(self, worker: Worker) -> None:
        worker.stage = Stage.READY
        before = worker.before
        if before is None or before not in self._workers or worker.relay is None:
            self._let_in(worker)
            return
        before.control.say(Word.DRAIN, descriptor=worker.relay.fileno())
        before.stage = Stage.LEAVING
        before.deadline = time.monotonic() + self._grace_s + LATE_S
        worker.deadline = time.monotonic() + RELEASE_S
        worker.relay.close()
        worker.relay = None

    def _let_in(self, worker: Worker) -> None:
        if worker.stage is not Stage.READY:
            return
        worker.control.say(Word.GO)
        worker.stage = Stage.SERVING
        worker.before = None
        worker.deadline = None
        worker.began = time.monotonic()
        serving = [w for w in self._workers if w.stage is Stage.SERVING]
        if not self._started and len(serving) == self._count:
            self._started = True
            self._on_started()

    def _start_failed(self, worker: Worker, said: Said) -> None:
        worker.told = True
        if self._started:
            kept = "; the old worker stays" if worker.before is not None else ""
            _log.error("worker %d did not start%s: %s", worker.pid, kept, said.message)
        elif self._failed is None:
            self._failed = StartError(said.message, said.mend)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for worker in [w for w in self._workers if w.pid == pid]:
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: Worker, code: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while (said := worker.control.hear()) is not None:  # its last words
                if said.word is Word.FAILED:
                    self._start_failed(worker, said)
        self._workers.remove(worker)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.control.socket)
        worker.control.close()
        if worker.relay is not None:
            worker.relay.close()
        for successor in self._workers:
            if successor.before is worker:
                self._let_in(successor)
                successor.before = None
        if worker.stage is Stage.LEAVING or self._stopping:
            return
        if not self._started:
            self._failed = self._failed or StartError(f"a worker ended while it started, with status {code}")
            self.stop()
            return
        replaced = any(w.slot == worker.slot and w.stage is not Stage.LEAVING for w in self._workers)
        if not worker.told:
            _log.error("worker %d ended unexpectedly, with status %d", worker.pid, code)
        if not replaced:
            self._again(worker)

    def _again(self, worker: Worker) -> None:
        now = time.monotonic()
        steady = worker.stage is Stage.SERVING and now - worker.began > STEADY_S
        failures = self._failures[worker.slot] = 0 if steady else self._failures[worker.slot] + 1
        wait = 0.0 if not failures else min(BACKOFF_S * 2 ** min(failures - 1, 10), BACKOFF_CAP_S)
        self._due[worker.slot] = now + wait

    def _tick(self, now: float) -> None:
        for slot, when in list(self._due.items()):
            if when <= now:
                del self._due[slot]
                self._start(slot, None)
        for worker in self._workers:
            if worker.deadline is not None and worker.deadline <= now:
                worker.deadline = None
                if worker.stage is Stage.LEAVING:
                    _kill(worker)
                elif worker.stage is Stage.READY:
                    self._let_in(worker)
        if self._changed is not None and self._started and self._changed():
            self.reload()


def _kill(worker: Worker) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker.pid, signal.SIGKILL)
