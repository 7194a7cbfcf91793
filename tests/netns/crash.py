"""A child process that is killed, by SIGKILL, at its n-th chance: before each operation, around each commit."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator

from fairway.net.host.store import Store
from fairway.net.kernel import Kernel


def run_and_kill(work: Callable[[], object], chance: int) -> bool:
    """Do `work` in a child that is killed at its `chance`-th chance; False if it finished before that."""
    child = os.fork()
    if child == 0:
        try:
            _arm(chance)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return False


def _arm(chance: int) -> None:
    left = chance

    def maybe_die() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    execute = Kernel.execute
    transaction = Store.transaction

    def one_by_one(self: Kernel, operations):
        failures = []
        for operation in operations:
            maybe_die()
            failures += execute(self, [operation])
        return failures

    @contextlib.contextmanager
    def dying(self: Store, **options: bool) -> Iterator[object]:
        maybe_die()
        with transaction(self, **options) as database:
            yield database
        maybe_die()

    Kernel.execute = one_by_one  # type: ignore[method-assign]
    Store.transaction = dying  # type: ignore[method-assign]
