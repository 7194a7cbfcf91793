"""Ends links while the caller goes on: the kernel takes a while for one, and not much longer for many at once.

So what has gathered meanwhile is ended together.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from fairway.net.kernel import Kernel
from fairway.net.model.errors import FairwayError

_TOGETHER = 64  # links ended as one: the kernel holds up every other change meanwhile


@dataclass(frozen=True, slots=True)
class _Task:
    pod: str
    link: str
    index: int
    guard: int
    ended: threading.Event = field(default_factory=threading.Event)
    told: list[Callable[[], None]] = field(default_factory=list)


class Reaper:
    """A thread, begun with the first link to end.

    A link is known by its index and its chain in our table by its handle, which are never used twice: a pod that has
    the name by now keeps its own. `forget` is told the pods' names behind that, in the thread.
    """

    def __init__(self, home: str, forget: Callable[[list[str]], None]) -> None:
        self._home = home
        self._forget = forget
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._pending: dict[str, _Task] = {}
        self._guard = threading.Lock()  # of what is pending, and who is to be told
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
        """Return when the link of that pod, if it is being ended, has ended, and its addresses are free.

        Not under the store's lock, which forgetting the pod takes.
        """
        with self._guard:
            task = self._pending.get(pod)
        if task is not None:
            task.ended.wait()

    def when_ended(self, pod: str, tell: Callable[[], None]) -> None:
        """Call `tell`, from some thread, when `wait` would return; at once if the link is not being ended."""
        with self._guard:
            task = self._pending.get(pod)
            if task is not None:
                task.told.append(tell)
        if task is None:
            tell()

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
            while tasks := self._gathered():
                try:
                    kernel.end_links([task.index for task in tasks if task.index])
                    for task in tasks:
                        kernel.filter.end_guard(task.link, task.guard)
                    # What another process has added under the same name meanwhile is in no state of being removed.
                    with contextlib.suppress(FairwayError):  # a full disk, say: the next repair forgets them
                        self._forget([task.pod for task in tasks])
                finally:
                    self._tell(tasks)
        finally:
            kernel.close()

    def _gathered(self) -> list[_Task]:
        """What there is to do, at least one task; none when all is done."""
        tasks: list[_Task] = []
        while len(tasks) < _TOGETHER:
            try:
                task = self._tasks.get(block=not tasks)
            except queue.Empty:
                break
            if task is None:
                if tasks:
                    self._tasks.put(None)
                break
            tasks.append(task)
        return tasks

    def _tell(self, tasks: list[_Task]) -> None:
        with self._guard:
            for task in tasks:
                if self._pending.get(task.pod) is task:
                    del self._pending[task.pod]
                task.ended.set()
        for task in tasks:
            for tell in task.told:
                tell()
