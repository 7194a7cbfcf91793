"""Ends links while the caller goes on: the kernel takes 20 ms for one, most of it waiting for its own readers."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field

from fairway.net.host.store import Store
from fairway.net.kernel import Kernel


@dataclass(frozen=True, slots=True)
class _Task:
    pod: str
    link: str
    index: int
    guard: int
    ended: threading.Event = field(default_factory=threading.Event)
    forgotten: threading.Event = field(default_factory=threading.Event)


_MOST = 16  # threads; the kernel's waits for its readers overlap, its work does not


class Reaper:
    """Threads, begun as there are links to end: the kernel waits for many in the time that it waits for one.

    A link is known by its index and its chain in our table by its handle, which are never used twice: a pod that has
    the name by now keeps its own.
    """

    def __init__(self, home: str, store: Store) -> None:
        self._home = home
        self._store = store
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._pending: dict[str, _Task] = {}
        self._remembered: dict[str, _Task] = {}  # longer than they are pending: until the state file says so too
        self._guard = threading.Lock()  # of these
        self._threads: list[threading.Thread] = []

    def end(self, pod: str, link: str, index: int, guard: int) -> None:
        """End the link with that index, then its chain, then forget the pod; 0: it is gone. Returns at once."""
        task = _Task(pod, link, index, guard)
        with self._guard:
            self._pending[pod] = self._remembered[pod] = task
            busy = len(self._pending)
        if len(self._threads) < min(busy, _MOST):
            self._threads.append(threading.Thread(target=self._run, name="fairway-reaper"))
            self._threads[-1].start()
        self._tasks.put(task)

    def wait(self, pod: str) -> None:
        """Return when the link of that pod, if it is being ended, has ended."""
        with self._guard:
            task = self._pending.get(pod)
        if task is not None:
            task.ended.wait()

    def wait_forgotten(self, pod: str) -> None:
        """Return when that pod, if its link is being ended, is forgotten too: its address is free.

        Not under the store's lock, which forgetting takes.
        """
        with self._guard:
            task = self._remembered.get(pod)
        if task is not None:
            task.forgotten.wait()

    def is_ending(self, pod: str) -> bool:
        """Whether the link of that pod is being ended."""
        with self._guard:
            return pod in self._pending

    def close(self) -> None:
        """Return when everything has ended."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _run(self) -> None:
        kernel = Kernel(self._home)
        try:
            while (task := self._tasks.get()) is not None:
                try:
                    kernel.end_link(task.index)
                    kernel.end_guard(task.link, task.guard)
                finally:
                    with self._guard:
                        if self._pending.get(task.pod) is task:
                            del self._pending[task.pod]
                    task.ended.set()
                try:
                    # What another process has added under the same name meanwhile is in no state of being removed.
                    self._store.forget_removed(task.pod)
                finally:
                    with self._guard:
                        if self._remembered.get(task.pod) is task:
                            del self._remembered[task.pod]
                    task.forgotten.set()
        finally:
            kernel.close()
