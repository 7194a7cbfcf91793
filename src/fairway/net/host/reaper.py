"""Ends links while the caller goes on: the kernel takes 20 ms for one, most of it waiting for its own readers."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from fairway.net.kernel import Kernel


@dataclass(frozen=True, slots=True)
class _Task:
    pod: str
    link: str
    index: int
    guard: int
    ended: threading.Event = field(default_factory=threading.Event)


class Reaper:
    """A thread, begun with the first link to end.

    A link is known by its index and its chain in our table by its handle, which are never used twice: a pod that has
    the name by now keeps its own. `forget` is told the pod's name behind that, in the thread.
    """

    def __init__(self, home: str, forget: Callable[[str], None]) -> None:
        self._home = home
        self._forget = forget
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._pending: dict[str, _Task] = {}
        self._guard = threading.Lock()  # of what is pending
        self._thread: threading.Thread | None = None

    def end(self, pod: str, link: str, index: int, guard: int) -> None:
        """End the link with that index, then its chain, then forget the pod; 0: it is gone. Returns at once."""
        task = _Task(pod, link, index, guard)
        with self._guard:
            self._pending[pod] = task
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="fairway-reaper")
            self._thread.start()
        self._tasks.put(task)

    def wait(self, pod: str) -> None:
        """Return when the link of that pod, if it is being ended, has ended."""
        with self._guard:
            task = self._pending.get(pod)
        if task is not None:
            task.ended.wait()

    def is_ending(self, pod: str) -> bool:
        """Whether the link of that pod is being ended."""
        with self._guard:
            return pod in self._pending

    def close(self) -> None:
        """Return when everything has ended."""
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join()
            self._thread = None

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
                # What another process has added under the same name meanwhile is not in the state of being removed.
                self._forget(task.pod)
        finally:
            kernel.close()
