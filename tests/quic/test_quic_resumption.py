"""Resumed connections: the store, the tickets in CRYPTO frames, loss on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from quic_pair import Pair, SimulatedPath

from fairway.quic import KnownServer, MemorySessionStore
from fairway.quic import events as ev

SERVER = ("localhost", 443, ("test",))


def resumed(pair: Pair) -> tuple[bool, bool]:
    """What both sides say of the connection."""
    (ours,), (theirs,) = pair.client.of(ev.HandshakeCompleted), pair.server.of(ev.HandshakeCompleted)
    assert isinstance(ours, ev.HandshakeCompleted)
    assert isinstance(theirs, ev.HandshakeCompleted)
    return ours.resumed, theirs.resumed


@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("retry", [False, True])
def test_a_returning_client_resumes_its_session(retry: bool, loss: float) -> None:
    store = MemorySessionStore()
    pair = Pair(server=KnownServer(store, SERVER), retry=retry, seed=1)
    assert resumed(pair) == (False, False)
    for visit in range(3):
        pair.run_for(5.0)
        path = SimulatedPath(loss=loss)
        pair = Pair(
            server=KnownServer(store, SERVER),
            endpoint=pair.endpoint,
            now=pair.now,
            seed=2 + visit,
            there=path,
            back=replace(path),
        )
        assert resumed(pair) == (True, True)


def test_who_was_shown_then_is_told_again() -> None:
    store = MemorySessionStore()
    first = Pair(server=KnownServer(store, SERVER))
    first.run_for(5.0)
    second = Pair(server=KnownServer(store, SERVER), endpoint=first.endpoint, now=first.now, seed=2)
    chains = [
        event.peer_certificates
        for pair in (first, second)
        for event in pair.client.of(ev.HandshakeCompleted)
        if isinstance(event, ev.HandshakeCompleted)
    ]
    assert chains[0] == chains[1] != ()


def test_another_server_is_not_taken_for_this_one() -> None:
    store = MemorySessionStore()
    first = Pair(server=KnownServer(store, SERVER))
    first.run_for(5.0)
    assert store.take_session(("localhost", 444, ("test",))) is None
    assert store.take_session(("localhost", 443, ("other",))) is None
    assert store.take_session(SERVER) is not None
