"""Handshakes with the peer's words changed at random: whatever comes, a session goes on or raises `TlsAlert`, soon."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fuzzing import fuzz, mutate, mutation
from hypothesis import given
from hypothesis import strategies as st

from effort import counted
from fairway.tls import (
    ClientConfig,
    ClientSession,
    CryptoData,
    Event,
    Identity,
    Level,
    NamedGroup,
    ServerConfig,
    ServerSession,
    Session,
    TlsAlert,
    self_signed,
)

MAX_STEPS = 20_000  # of one session, whatever it is fed
NOW = datetime(2026, 6, 1, tzinfo=UTC)
GROUPS = (NamedGroup.X25519, NamedGroup.SECP256R1)

Flight = tuple[Level, bytes]


class Seeded:
    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._count = 0

    def __call__(self, length: int) -> bytes:
        self._count += 1
        return hashlib.shake_128(f"{self._seed} {self._count}".encode()).digest(length)


@cache
def identity() -> tuple[x509.Certificate, Identity]:
    certificate, key = self_signed(["localhost"], not_before=NOW - timedelta(days=1))
    return certificate, Identity((certificate.public_bytes(Encoding.DER),), key)


@cache
def client_config(retry: bool) -> ClientConfig:
    certificate, who = identity()
    shares = () if retry else GROUPS[:1]
    return ClientConfig("localhost", ("h3",), ca=[certificate], identity=who, groups=GROUPS, key_shares=shares)


@cache
def server_config() -> ServerConfig:
    certificate, who = identity()
    return ServerConfig((who,), ("h3",), client_ca=[certificate], groups=GROUPS)


def new_client(retry: bool) -> tuple[ClientSession, list[Flight]]:
    client = ClientSession(client_config(retry), b"client", random=Seeded("client"), now=lambda: NOW)
    return client, sent(client.start())


def new_server() -> ServerSession:
    return ServerSession(server_config(), b"server", random=Seeded("server"), now=lambda: NOW)


def sent(events: list[Event]) -> list[Flight]:
    return [(event.level, event.data) for event in events if isinstance(event, CryptoData)]


def answers(session: Session, flights: list[Flight]) -> list[Flight]:
    return [answer for flight in flights for answer in sent(session.receive(*flight))]


@cache
def server_flights(retry: bool) -> list[Flight]:
    """What a server says to `new_client(retry)`: seeds make it fit each such client."""
    client, hello = new_client(retry)
    server = new_server()
    flights = answers(server, hello)
    if retry:
        flights += answers(server, answers(client, flights))
    return flights


def prepared_client(retry: bool) -> tuple[Session, list[Flight]]:
    return new_client(retry)[0], server_flights(retry)


def prepared_server(retry: bool) -> tuple[Session, list[Flight]]:
    """A server that has sent its flight, and what the client answers; with `retry` one that has heard nothing."""
    client, hello = new_client(False)
    server = new_server()
    if retry:
        return server, hello
    return server, answers(client, answers(server, hello))


def feed(session: Session, flights: list[Flight], step: int) -> None:
    with counted(MAX_STEPS):
        try:
            for level, data in flights:
                for at in range(0, len(data), step):
                    session.receive(level, data[at : at + step])
        except TlsAlert as alert:
            assert alert.reason and alert.section  # noqa: PT017, PT018 - whether it is raised is for the input to say


@pytest.mark.parametrize("prepared", [prepared_client, prepared_server])
@pytest.mark.parametrize("retry", [False, True])
@given(
    mutations=st.lists(mutation, min_size=1, max_size=3),
    which=st.integers(0, 3),
    step=st.sampled_from([1 << 20, 100, 7]),
)
@fuzz
def test_changed_messages(
    prepared: Callable[[bool], tuple[Session, list[Flight]]],
    retry: bool,
    mutations: list[tuple[str, int, int, int]],
    which: int,
    step: int,
) -> None:
    session, flights = prepared(retry)
    flights = list(flights)
    level, data = flights[which % len(flights)]
    for change in mutations:
        data = mutate(data, *change)
    flights[which % len(flights)] = (level, data)
    feed(session, flights, step)


@pytest.mark.parametrize("prepared", [prepared_client, prepared_server])
@given(flights=st.lists(st.tuples(st.sampled_from(list(Level)), st.binary(max_size=300)), max_size=5))
@fuzz
def test_any_bytes(
    prepared: Callable[[bool], tuple[Session, list[Flight]]], flights: list[tuple[Level, bytes]]
) -> None:
    session, _ = prepared(True)
    feed(session, flights, 1 << 20)


@pytest.mark.parametrize("kind", [1, 2, 4, 8, 11, 13, 15, 20])
@given(body=st.binary(max_size=300), taken=st.integers(0, 4))
@fuzz
def test_any_body_in_any_state_of_the_client(kind: int, body: bytes, taken: int) -> None:
    session, flights = prepared_client(False)
    messages = [(level, message) for level, data in flights for message in split(data)]
    feed(session, messages[:taken], 1 << 20)
    level = messages[min(taken, len(messages) - 1)][0]
    feed(session, [(level, bytes((kind,)) + len(body).to_bytes(3, "big") + body)], 1 << 20)


def split(data: bytes) -> list[bytes]:
    messages = []
    while data:
        length = 4 + int.from_bytes(data[1:4], "big")
        messages.append(data[:length])
        data = data[length:]
    return messages


@given(mutations=st.lists(mutation, min_size=1, max_size=4))
@fuzz
def test_changed_certificates(mutations: list[tuple[str, int, int, int]]) -> None:
    """The certificate alone is changed, so that its own parser is what meets the change."""
    session, flights = prepared_client(False)
    (first, answer), (second, flight) = flights
    messages = split(flight)
    index = next(i for i, message in enumerate(messages) if message[0] == 11)
    certificate = identity()[1].chain[0]
    for change in mutations:
        certificate = mutate(certificate, *change)
    entry = len(certificate).to_bytes(3, "big") + certificate + b"\x00\x00"
    body = b"\x00" + len(entry).to_bytes(3, "big") + entry
    messages[index] = bytes((11,)) + len(body).to_bytes(3, "big") + body
    feed(session, [(first, answer), (second, b"".join(messages))], 1 << 20)


def test_what_is_not_changed_completes() -> None:
    """The fuzzing begins from handshakes that work."""
    for retry in (False, True):
        client, flights = prepared_client(retry)
        assert len(answers(client, flights)) == (2 if retry else 1)
    server, flights = prepared_server(False)
    assert "Complete" in [type(event).__name__ for flight in flights for event in server.receive(*flight)]
