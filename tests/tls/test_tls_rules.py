"""Hellos and extensions that parse but break a rule, one rule a case."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec
from tls_pair import client_config, new_client, new_server, sent, server_config

from fairway.tls import (
    SUPPORTED_GROUPS,
    AlertDescription,
    Level,
    NamedGroup,
    TlsAlert,
    extensions,
    self_signed,
    signatures,
)
from fairway.tls import messages as m
from fairway.tls.extensions import ExtensionType as E
from fairway.tls.key_exchange import offer, respond

A = AlertDescription
Bodies = dict[int, bytes]


def client_hello() -> m.ClientHello:
    (_, data), *_ = sent(new_client().start())
    return m.ClientHello.decode(data[4:])


def changed(change: Callable[[Bodies], object]) -> bytes:
    """A ClientHello with its extensions changed."""
    hello = client_hello()
    bodies = dict(hello.extensions)
    change(bodies)
    return m.ClientHello(hello.random, b"", hello.cipher_suites, bodies).encode()


def put(kind: int, body: bytes) -> Callable[[Bodies], object]:
    return lambda bodies: bodies.__setitem__(kind, body)


def without(kind: int) -> Callable[[Bodies], object]:
    return lambda bodies: bodies.pop(kind)


class TestClientHello:
    @pytest.mark.parametrize(
        ("change", "alert"),
        [
            (without(E.SUPPORTED_VERSIONS), A.PROTOCOL_VERSION),
            (put(E.SUPPORTED_VERSIONS, extensions.encode_versions((0x0303,))), A.PROTOCOL_VERSION),
            (without(E.SUPPORTED_GROUPS), A.MISSING_EXTENSION),
            (without(E.KEY_SHARE), A.MISSING_EXTENSION),
            (without(E.SIGNATURE_ALGORITHMS), A.MISSING_EXTENSION),
            (without(E.QUIC_TRANSPORT_PARAMETERS), A.MISSING_EXTENSION),
            (without(E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION), A.NO_APPLICATION_PROTOCOL),
            (put(E.OID_FILTERS, b""), A.ILLEGAL_PARAMETER),
            (put(E.KEY_SHARE, extensions.encode_key_shares([(0x0019, b"x")])), A.ILLEGAL_PARAMETER),
            (put(E.SIGNATURE_ALGORITHMS, extensions.encode_codes((0x0807,))), A.HANDSHAKE_FAILURE),
            (put(E.SIGNATURE_ALGORITHMS, b"\x00\x00"), A.DECODE_ERROR),
            (put(E.SERVER_NAME, b""), A.DECODE_ERROR),
            (put(E.SERVER_NAME, b"\x00\x04\x00\x00\x01\x00"), A.ILLEGAL_PARAMETER),
            (put(E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, b"\x00\x01\x00"), A.DECODE_ERROR),
        ],
    )
    def test_breaking_a_rule_is_an_alert(self, change: Callable[[Bodies], object], alert: AlertDescription) -> None:
        with pytest.raises(TlsAlert) as raised:
            new_server().receive(Level.INITIAL, changed(change))
        assert raised.value.alert is alert

    def test_a_session_id_is_refused(self) -> None:
        hello = client_hello()
        message = m.ClientHello(hello.random, b"x", hello.cipher_suites, hello.extensions).encode()
        with pytest.raises(TlsAlert) as raised:
            new_server().receive(Level.INITIAL, message)
        assert raised.value.section == "RFC 9001 section 8.4"

    def test_a_pre_shared_key_needs_a_mode(self) -> None:
        def change(bodies: Bodies) -> None:
            del bodies[E.PSK_KEY_EXCHANGE_MODES]
            bodies[E.PRE_SHARED_KEY] = b"any"

        with pytest.raises(TlsAlert) as raised:
            new_server().receive(Level.INITIAL, changed(change))
        assert raised.value.alert is A.MISSING_EXTENSION

    def test_a_pre_shared_key_that_nobody_knows_leads_to_a_full_handshake(self) -> None:
        unknown = extensions.encode_pre_shared_key(b"any", 0, bytes(32))
        events = new_server().receive(Level.INITIAL, changed(put(E.PRE_SHARED_KEY, unknown)))
        assert len(sent(events)) == 2

    @pytest.mark.parametrize("group", sorted(SUPPORTED_GROUPS))
    def test_a_share_that_is_not_valid_is_an_illegal_parameter(self, group: NamedGroup) -> None:
        for share in (b"\x00", bytes(32), bytes(65), b"\x04" * 65, b"\x02" * 97, b"\x04" * 97, b"\xff" * 1216):
            message = changed(put(E.KEY_SHARE, extensions.encode_key_shares([(group, share)])))
            with pytest.raises(TlsAlert) as raised:
                new_server().receive(Level.INITIAL, message)
            assert raised.value.alert is A.ILLEGAL_PARAMETER


def answer(random: bytes = b"r" * 32, session_id: bytes = b"", suite: int = 0x1301, **extension: bytes | None) -> bytes:
    bodies: Bodies = {
        E.SUPPORTED_VERSIONS: extensions.encode_code(m.TLS_1_3),
        E.KEY_SHARE: extensions.encode_key_share(NamedGroup.X25519, b"\x09" + bytes(31)),
    }
    for name, body in extension.items():
        if body is None:
            del bodies[E[name.upper()]]
        else:
            bodies[E[name.upper()]] = body
    return m.ServerHello(random, session_id, suite, bodies).encode()


class TestServerHello:
    def test_the_answer_that_the_cases_change_is_taken(self) -> None:
        client = new_client()
        client.start()
        assert client.receive(Level.INITIAL, answer())

    @pytest.mark.parametrize(
        ("message", "alert"),
        [
            (answer(supported_versions=None), A.MISSING_EXTENSION),
            (answer(supported_versions=b"\x03\x03"), A.ILLEGAL_PARAMETER),
            (answer(session_id=b"x"), A.ILLEGAL_PARAMETER),
            (answer(suite=0x1304), A.ILLEGAL_PARAMETER),
            (answer(key_share=None), A.MISSING_EXTENSION),
            (answer(key_share=extensions.encode_key_share(NamedGroup.SECP384R1, b"x")), A.ILLEGAL_PARAMETER),
            (answer(key_share=extensions.encode_key_share(NamedGroup.X25519, bytes(32))), A.ILLEGAL_PARAMETER),
            (answer(key_share=b"\x00"), A.DECODE_ERROR),
            (answer(server_name=b""), A.ILLEGAL_PARAMETER),
            (answer(pre_shared_key=b"\x00\x00"), A.UNSUPPORTED_EXTENSION),
        ],
    )
    def test_breaking_a_rule_is_an_alert(self, message: bytes, alert: AlertDescription) -> None:
        client = new_client()
        client.start()
        with pytest.raises(TlsAlert) as raised:
            client.receive(Level.INITIAL, message)
        assert raised.value.alert is alert

    @pytest.mark.parametrize("group", sorted(SUPPORTED_GROUPS))
    def test_a_share_that_is_not_valid_is_an_illegal_parameter(self, group: NamedGroup) -> None:
        half = offer((group,), lambda length: b"\x07" * length)[group]
        for share in (b"", bytes(32), bytes(65), b"\x04" * 65, b"\x04" * 97, bytes(1120), bytes(1088) + b"\x09" * 5):
            with pytest.raises(TlsAlert) as raised:
                half.finish(share)
            assert raised.value.alert is A.ILLEGAL_PARAMETER


class TestEncryptedExtensions:
    @pytest.mark.parametrize(
        ("bodies", "alert"),
        [
            ({}, A.MISSING_EXTENSION),
            ({E.QUIC_TRANSPORT_PARAMETERS: b"x"}, A.NO_APPLICATION_PROTOCOL),
            ({E.QUIC_TRANSPORT_PARAMETERS: b"x", E.SERVER_NAME: b"x"}, A.ILLEGAL_PARAMETER),
            ({E.QUIC_TRANSPORT_PARAMETERS: b"x", E.KEY_SHARE: b"x"}, A.ILLEGAL_PARAMETER),
            ({E.QUIC_TRANSPORT_PARAMETERS: b"x", E.EARLY_DATA: b""}, A.UNSUPPORTED_EXTENSION),
            ({E.QUIC_TRANSPORT_PARAMETERS: b"x", 0x2A2A: b""}, A.UNSUPPORTED_EXTENSION),
            ({E.QUIC_TRANSPORT_PARAMETERS: b"x", 16: extensions.encode_protocols((b"h2",))}, A.ILLEGAL_PARAMETER),
            ({E.QUIC_TRANSPORT_PARAMETERS: b"x", 16: extensions.encode_protocols((b"h3", b"h2"))}, A.ILLEGAL_PARAMETER),
        ],
    )
    def test_breaking_a_rule_is_an_alert(self, bodies: Bodies, alert: AlertDescription) -> None:
        client = new_client()
        client.start()
        client.receive(Level.INITIAL, answer())
        with pytest.raises(TlsAlert) as raised:
            client.receive(Level.HANDSHAKE, m.EncryptedExtensions(bodies).encode())
        assert raised.value.alert is alert

    def test_what_was_offered_may_be_answered(self) -> None:
        bodies = {
            E.SERVER_NAME: b"",
            E.SUPPORTED_GROUPS: extensions.encode_codes((29,)),
            E.QUIC_TRANSPORT_PARAMETERS: b"x",
            E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION: extensions.encode_protocols((b"h3",)),
        }
        client = new_client()
        client.start()
        client.receive(Level.INITIAL, answer())
        assert client.receive(Level.HANDSHAKE, m.EncryptedExtensions(bodies).encode())


class TestClientCertificateMessage:
    @pytest.mark.parametrize(
        ("certificate", "alert"),
        [
            (m.Certificate(b"x", ()), A.ILLEGAL_PARAMETER),
            (m.Certificate(b"", (m.CertificateEntry(b"x", {5: b""}),)), A.UNSUPPORTED_EXTENSION),
            (m.Certificate(b"", (m.CertificateEntry(b"x", {}),)), A.BAD_CERTIFICATE),
        ],
    )
    def test_breaking_a_rule_is_an_alert(self, certificate: m.Certificate, alert: AlertDescription) -> None:
        authority, _ = self_signed(["authority"])
        server = new_server(server_config(client_ca=[authority]))
        (_, hello), *_ = sent(new_client().start())
        server.receive(Level.INITIAL, hello)
        with pytest.raises(TlsAlert) as raised:
            server.receive(Level.HANDSHAKE, certificate.encode())
        assert raised.value.alert is alert


class TestKeys:
    def test_a_key_of_a_kind_not_in_use_is_unsupported_certificate(self) -> None:
        class Odd:
            def public_key(self) -> object:
                return dsa.generate_private_key(1024).public_key()

        class Broken:
            def public_key(self) -> object:
                raise ValueError("no")

        for certificate in (Odd(), Broken()):
            with pytest.raises(TlsAlert) as raised:
                signatures.public_key(certificate)  # type: ignore[arg-type]
            assert raised.value.alert is A.UNSUPPORTED_CERTIFICATE

    def test_a_key_that_cannot_sign_a_handshake_is_a_value_error(self) -> None:
        for key in (ec.generate_private_key(ec.SECP256K1()), dsa.generate_private_key(1024)):
            with pytest.raises(ValueError, match="scheme"):
                signatures.schemes_of(key)  # type: ignore[arg-type]

    @pytest.mark.parametrize("group", [NamedGroup.SECP256R1, NamedGroup.SECP384R1])
    def test_points_are_uncompressed(self, group: NamedGroup) -> None:
        half = offer((group,), lambda length: b"\x05" * length)[group]
        middle = 1 + len(half.share) // 2
        compressed = bytes((2 + (half.share[-1] & 1),)) + half.share[1:middle]
        hybrid = bytes((6 + (half.share[-1] & 1),)) + half.share[1:]
        for share in (compressed, hybrid):
            with pytest.raises(TlsAlert) as raised:
                half.finish(share)
            assert raised.value.alert is A.ILLEGAL_PARAMETER
        assert half.finish(half.share)

    def test_the_same_secret_comes_out_on_both_sides_for_every_group(self) -> None:
        for group in SUPPORTED_GROUPS:
            half = offer((group,), lambda n: b"\x05" * n)[group]
            share, secret = respond(group, half.share, lambda n: b"\x06" * n)
            assert half.finish(share) == secret


def test_an_alert_says_what_why_and_by_which_rule() -> None:
    with pytest.raises(TlsAlert) as raised:
        new_client(client_config()).receive(Level.INITIAL, b"\x01")
    assert (
        str(raised.value)
        == "unexpected_message: message client_hello is not expected in NotStarted (RFC 8446 section 4)"
    )
