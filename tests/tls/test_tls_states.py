"""Every message in every state, at every level: what the table says is legal, all else is an alert."""

from __future__ import annotations

import contextlib
from functools import cache

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from tls_pair import Pair, client_config, new_client, new_server, root, sent, server_config, split

from effort import allocated
from fairway.tls import (
    AlertDescription,
    ClientConfig,
    ClientSession,
    Level,
    ServerConfig,
    ServerSession,
    TlsAlert,
    limits,
)
from fairway.tls.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Finished,
    HandshakeType,
    NewSessionTicket,
    ServerHello,
)

T = HandshakeType
INITIAL, HANDSHAKE, APPLICATION = Level.INITIAL, Level.HANDSHAKE, Level.APPLICATION

# One message of each kind that parses. What is legal may still be refused, for what it says.
SPECIMENS: dict[HandshakeType, bytes] = {
    T.CLIENT_HELLO: ClientHello(bytes(32), b"", (0x1301,), {}).encode(),
    T.SERVER_HELLO: ServerHello(bytes(32), b"", 0x1301, {}).encode(),
    T.NEW_SESSION_TICKET: NewSessionTicket(1, 2, b"3", b"4", {}).encode(),
    T.END_OF_EARLY_DATA: bytes((T.END_OF_EARLY_DATA, 0, 0, 0)),
    T.ENCRYPTED_EXTENSIONS: EncryptedExtensions({}).encode(),
    T.CERTIFICATE: Certificate(b"", ()).encode(),
    T.CERTIFICATE_REQUEST: CertificateRequest(b"", {}).encode(),
    T.CERTIFICATE_VERIFY: CertificateVerify(0x0403, b"x").encode(),
    T.FINISHED: Finished(bytes(32)).encode(),
    T.KEY_UPDATE: bytes((T.KEY_UPDATE, 0, 0, 1, 0)),
}

# The states by how many of the peer's messages were taken, with the level and the legal messages of each.
CLIENT_STATES: list[tuple[Level, set[HandshakeType]]] = [
    (INITIAL, {T.SERVER_HELLO}),
    (HANDSHAKE, {T.ENCRYPTED_EXTENSIONS}),
    (HANDSHAKE, {T.CERTIFICATE_REQUEST, T.CERTIFICATE}),
    (HANDSHAKE, {T.CERTIFICATE}),
    (HANDSHAKE, {T.CERTIFICATE_VERIFY}),
    (HANDSHAKE, {T.FINISHED}),
    (APPLICATION, {T.NEW_SESSION_TICKET}),
]
SERVER_STATES: list[tuple[Level, set[HandshakeType]]] = [
    (INITIAL, {T.CLIENT_HELLO}),
    (HANDSHAKE, {T.CERTIFICATE}),
    (HANDSHAKE, {T.CERTIFICATE_VERIFY}),
    (HANDSHAKE, {T.FINISHED}),
    (APPLICATION, set()),
]
CASES = [
    *[("client", index, level, legal) for index, (level, legal) in enumerate(CLIENT_STATES)],
    *[("server", index, level, legal) for index, (level, legal) in enumerate(SERVER_STATES)],
]


@cache
def configs() -> tuple[ClientConfig, ServerConfig]:
    """Both show certificates, so that every state comes by."""
    client = client_config(identity=root().issue("node", usage=ExtendedKeyUsageOID.CLIENT_AUTH))
    return client, server_config(client_ca=[root().certificate])


@cache
def recorded() -> tuple[list[tuple[Level, bytes]], list[tuple[Level, bytes]]]:
    """What the client and what the server said in a handshake, message by message; seeds make it fit every client."""
    client, server = configs()
    pair = Pair(new_client(client), new_server(server)).run()
    return (
        [(level, message) for level, data in sent(pair.client_events) for message in split(data)],
        [(level, message) for level, data in sent(pair.server_events) for message in split(data)],
    )


def advanced(role: str, index: int) -> tuple[ClientSession | ServerSession, list[tuple[Level, bytes]]]:
    """A session that has taken `index` messages, and those that its peer still has."""
    if role == "client":
        client = new_client(configs()[0])
        client.start()
        messages = recorded()[1]
        for level, message in messages[:index]:
            client.receive(level, message)
        return client, messages[index:]
    server, client = new_server(configs()[1]), new_client(configs()[0])
    (level, hello), *_ = sent(client.start())
    if index == 0:
        return server, [(level, hello)]
    # The server's own randomness in signatures makes each transcript new: the client must answer this one.
    answers = sent(server.receive(level, hello))
    messages = [
        (level, message)
        for answer in answers
        for level, data in sent(client.receive(*answer))
        for message in split(data)
    ]
    for level, message in messages[: index - 1]:
        server.receive(level, message)
    return server, messages[index - 1 :]


@pytest.mark.parametrize(("role", "index", "level", "legal"), CASES)
@pytest.mark.parametrize("kind", list(SPECIMENS))
def test_a_message_that_the_state_does_not_take_is_unexpected(
    role: str, index: int, level: Level, legal: set[HandshakeType], kind: HandshakeType
) -> None:
    session, _ = advanced(role, index)
    if kind in legal:
        with contextlib.suppress(TlsAlert):
            session.receive(level, SPECIMENS[kind])
        return
    with pytest.raises(TlsAlert) as raised:
        session.receive(level, SPECIMENS[kind])
    assert raised.value.alert is AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize(("role", "index", "level", "legal"), CASES)
def test_the_right_message_is_taken_at_its_level_alone(
    role: str, index: int, level: Level, legal: set[HandshakeType]
) -> None:
    for other in Level:
        session, waiting = advanced(role, index)
        if not waiting:
            return
        (right, message), *_ = waiting
        assert right is level
        assert message[0] in legal
        if other is level:
            session.receive(level, message)
        else:
            with pytest.raises(TlsAlert) as raised:
                session.receive(other, message)
            assert raised.value.alert is AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize(("role", "index", "level", "legal"), CASES)
def test_a_message_of_an_unknown_type_is_unexpected_at_its_first_byte(
    role: str, index: int, level: Level, legal: set[HandshakeType]
) -> None:
    session, _ = advanced(role, index)
    with pytest.raises(TlsAlert) as raised:
        session.receive(level, b"\xfe")
    assert raised.value.alert is AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize(("role", "index", "level", "legal"), CASES)
def test_a_message_that_is_too_long_is_refused_at_its_header(
    role: str, index: int, level: Level, legal: set[HandshakeType]
) -> None:
    for kind in legal:
        session, _ = advanced(role, index)
        with pytest.raises(TlsAlert) as raised:
            session.receive(level, bytes((kind,)) + b"\x01\x00\x01")
        assert raised.value.alert is AlertDescription.DECODE_ERROR
        assert raised.value.section == "fairway.tls.limits"


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_message_may_not_go_on_past_a_change_of_keys(role: str) -> None:
    session, waiting = advanced(role, 0)
    with pytest.raises(TlsAlert) as raised:
        session.receive(INITIAL, waiting[0][1] + b"\x08")
    assert raised.value.alert is AlertDescription.UNEXPECTED_MESSAGE


def test_a_message_begun_at_one_level_cannot_end_at_another() -> None:
    session, waiting = advanced("client", 0)
    session.receive(INITIAL, waiting[0][1][:10])
    with pytest.raises(TlsAlert) as raised:
        session.receive(HANDSHAKE, waiting[0][1][10:])
    assert raised.value.alert is AlertDescription.UNEXPECTED_MESSAGE


def test_a_client_that_was_not_started_takes_nothing() -> None:
    with pytest.raises(TlsAlert) as raised:
        new_client().receive(INITIAL, SPECIMENS[T.SERVER_HELLO])
    assert raised.value.alert is AlertDescription.UNEXPECTED_MESSAGE


def test_a_session_that_failed_fails_again_the_same_way() -> None:
    session, waiting = advanced("client", 0)
    with pytest.raises(TlsAlert) as first:
        session.receive(INITIAL, b"\xfe")
    with pytest.raises(TlsAlert) as second:
        session.receive(*waiting[0])
    assert second.value is first.value


def test_nothing_at_all_changes_nothing() -> None:
    session, waiting = advanced("client", 0)
    assert session.receive(INITIAL, b"") == []
    assert session.receive(*waiting[0])


@given(cuts=st.lists(st.integers(1, 400), max_size=12))
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    session, waiting = advanced("client", 1)
    data = b"".join(message for level, message in waiting if level is HANDSHAKE)
    events = []
    for cut in cuts:
        events += session.receive(HANDSHAKE, data[:cut])
        data = data[cut:]
    events += session.receive(HANDSHAKE, memoryview(data))
    whole, waiting = advanced("client", 1)
    flight = b"".join(message for level, message in waiting if level is HANDSHAKE)
    shape = [type(event) for event in whole.receive(HANDSHAKE, flight)]
    assert [type(event) for event in events] == shape


def test_single_bytes_of_a_long_message_are_kept_without_being_copied_each_time() -> None:
    session, _ = advanced("client", 2)
    session.receive(HANDSHAKE, bytes((T.CERTIFICATE,)) + limits.MAX_CERTIFICATE_MESSAGE_BYTES.to_bytes(3, "big"))
    times = limits.MAX_CERTIFICATE_MESSAGE_BYTES - 1
    taken = allocated(lambda: session.receive(HANDSHAKE, b"\x00"), times)
    assert taken < 200 * times, f"{taken:,} bytes"  # a copy each would be 2 GB
    with pytest.raises(TlsAlert):
        session.receive(HANDSHAKE, b"\x00")
