"""The register of what may be used once, shared by processes (attack 23)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fairway.aio.workers.strikes import SharedStrikes
from fairway.tls import StrikeRegister

WINDOW_S = 20.0


def in_processes(count: int, work: Callable[[], int]) -> list[int]:
    """What `work` gives in so many processes that begin at once."""
    begin_reader, begin_writer = os.pipe()
    result_reader, result_writer = os.pipe()
    children = []
    for _ in range(count):
        if not (child := os.fork()):
            os.read(begin_reader, 1)
            os.write(result_writer, work().to_bytes(4, "big"))
            os._exit(0)
        children.append(child)
    os.write(begin_writer, bytes(count))
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    results = os.read(result_reader, 4 * count)
    for end in (begin_reader, begin_writer, result_reader, result_writer):
        os.close(end)
    return [int.from_bytes(results[at : at + 4], "big") for at in range(0, 4 * count, 4)]


class TestOnce:
    @given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 30)), max_size=60))
    def test_it_never_takes_what_a_register_in_memory_would_refuse_within_the_window(
        self, uses: list[tuple[int, float]]
    ) -> None:
        register = SharedStrikes(1 << 10, b"secret")
        now, taken = 1_750_000_000.0, dict[bytes, float]()
        for index, later in uses:
            now += later
            identifier = bytes((index,)) * 32
            if register.strike(identifier, now, WINDOW_S):
                assert now - taken.get(identifier, 0.0) > WINDOW_S
                taken[identifier] = now
            else:
                assert now - taken[identifier] <= WINDOW_S + 2
        register.close()

    def test_of_several_processes_only_one_gets_it(self) -> None:
        register = SharedStrikes(1 << 12, b"secret")
        identifiers = [index.to_bytes(4, "big") for index in range(500)]
        won = in_processes(4, lambda: sum(register.strike(one, 1e9, WINDOW_S) for one in identifiers))
        # Where two came at the same moment both may have been refused: rarely, and that is no harm.
        assert 0.8 * len(identifiers) <= sum(won) <= len(identifiers)
        for one in identifiers:
            register.strike(one, 1e9, WINDOW_S)  # those that nobody got
        assert not any(register.strike(one, 1e9, WINDOW_S) for one in identifiers)
        register.close()

    def test_a_process_that_is_killed_leaves_no_lock(self) -> None:
        register = SharedStrikes(64, b"secret")
        reader, writer = os.pipe()
        if not (child := os.fork()):
            while True:
                register.strike(os.urandom(8), 1e9, WINDOW_S)
                os.write(writer, b"x")
        os.read(reader, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        later = 1e9 + 2 * WINDOW_S
        assert register.strike(b"after it", later, WINDOW_S)
        for end in (reader, writer):
            os.close(end)
        register.close()


class TestBounds:
    def test_a_full_register_refuses_and_has_room_again_after_the_window(self) -> None:
        register = SharedStrikes(256, b"secret")
        taken = sum(register.strike(os.urandom(16), 1e9, WINDOW_S) for _ in range(5000))
        assert 200 <= taken <= 256
        assert not register.strike(b"one more", 1e9 + WINDOW_S, WINDOW_S)
        assert register.strike(b"one more", 1e9 + WINDOW_S + 2, WINDOW_S)
        register.close()

    def test_nobody_can_aim_at_one_place(self) -> None:
        """What fills one place of a register does not fill it of another: the place depends on the secret."""
        first, second = SharedStrikes(1 << 12, b"one"), SharedStrikes(1 << 12, b"two")
        tried = [os.urandom(16) for _ in range(20_000)]
        refused = [one for one in tried if not first.strike(one, 1e9, WINDOW_S)]
        assert refused
        assert sum(second.strike(one, 1e9, WINDOW_S) for one in refused[:1000]) > 950
        first.close()
        second.close()

    def test_a_clock_that_is_set_back_refuses_rather_than_forgets(self) -> None:
        register, other = SharedStrikes(1 << 10, b"secret"), StrikeRegister()
        for strikes in (register, other):
            assert strikes.strike(b"once", 1e9, WINDOW_S)
            assert not strikes.strike(b"once", 1e9 - 3600, WINDOW_S)
        register.close()
