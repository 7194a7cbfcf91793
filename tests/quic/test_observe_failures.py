"""An observer that fails is taken off; the connection and the other observers go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observed import Logs, check_schema, core
from quic_pair import Pair, SimulatedPath

from fairway.quic import events as ev
from fairway.quic.observe import DropReason, Observer

METHODS = [name for name, value in vars(Observer).items() if callable(value) and not name.startswith("_")]


class Failing(Observer):
    """Counts what it is told, and raises when it is told of one kind for the n-th time."""

    def __init__(self, method: str, after: int = 0) -> None:
        self.calls = 0
        self.left = after

        def fail(*_: Any) -> None:
            self.calls += 1
            self.left -= 1
            if self.left < 0:
                raise RuntimeError(f"no more of {method}")

        setattr(self, method, fail)


def transfer(pair: Pair) -> None:
    """Something of everything: losses, duplicates, an acknowledgement too late, the end."""
    client = core(pair.client.core)
    stream_id = client.open_stream()
    assert stream_id is not None
    client.write(stream_id, bytes(120_000), end=True)
    pair.run(lambda: stream_id in pair.server.ended)
    assert bytes(pair.server.received[stream_id]) == bytes(120_000)
    client.close(pair.now, 0, "all is said")
    pair.run_for(2.0)
    (closed,) = pair.client.of(ev.ConnectionTerminated)
    assert isinstance(closed, ev.ConnectionTerminated)
    assert closed.closing.clean
    assert pair.client.events[-1] is closed


def path() -> SimulatedPath:
    return SimulatedPath(delay=0.01, jitter=0.01, loss=0.02, duplication=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_an_observer_that_raises_is_taken_off_and_the_connection_goes_on(method: str) -> None:
    failing, logs = Failing(method), Logs()
    pair = Pair(observe_client=lambda: (failing, *logs.observe()), there=path(), back=path(), seed=2)
    transfer(pair)
    assert failing.calls == 1
    (failed,) = pair.client.of(ev.ObserverFailed)
    assert isinstance(failed, ev.ObserverFailed)
    assert failed.observer is failing
    assert str(failed.error) == f"no more of {method}"
    check_schema(logs.records("client"))
    assert logs.events("client", "connection_closed")  # the other observer was told all


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(METHODS), st.integers(0, 40)), min_size=1, max_size=4),
    st.integers(0, 5),
)
def test_whatever_fails_whenever_the_transfer_ends_well(plan: list[tuple[str, int]], seed: int) -> None:
    def observe() -> list[Observer]:
        return [Failing(method, after) for method, after in plan]

    transfer(Pair(observe_client=observe, observe_server=observe, there=path(), back=path(), seed=seed))


def test_an_observer_of_nothing_changes_nothing() -> None:
    pair = Pair(observe_client=lambda: (Observer(),), observe_server=lambda: (Observer(),))
    transfer(pair)
    assert not pair.client.of(ev.ObserverFailed)


def test_an_observer_is_told_of_everything_that_there_is_to_tell() -> None:
    told: dict[str, int] = dict.fromkeys(METHODS, 0)

    class Counting(Observer):
        pass

    def counted(name: str) -> Callable[..., None]:
        def count(self: Observer, *_: Any) -> None:
            told[name] += 1

        return count

    for name in METHODS:
        setattr(Counting, name, counted(name))
    transfer(Pair(observe_client=lambda: (Counting(),), there=path(), back=path(), seed=2))
    assert min(told.values()) > 0, told
    assert told["started"] == told["handshake_completed"] == told["closed"] == 1


def test_reasons_of_drops_are_words_of_qlog() -> None:
    assert {reason.value for reason in DropReason} <= {
        "internal_error", "rejected", "unsupported", "invalid", "duplicate", "connection_unknown",
        "decryption_failure", "key_unavailable", "general",
    }  # fmt: skip
