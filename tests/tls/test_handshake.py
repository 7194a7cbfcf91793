import pytest
from tls_pair import (
    CLIENT_PARAMETERS,
    NOW,
    SERVER_PARAMETERS,
    Pair,
    client_config,
    new_client,
    new_server,
    root,
    run,
    secrets,
    sent,
    server_config,
    split,
)

from fairway.tls import (
    SUPPORTED_GROUPS,
    AlertDescription,
    CipherSuite,
    CryptoData,
    Level,
    NamedGroup,
    NewSecret,
    PeerParameters,
    SessionTicket,
    TlsAlert,
    extensions,
    hkdf_expand_label,
    limits,
)
from fairway.tls.extensions import ExtensionType
from fairway.tls.messages import RETRY_RANDOM, TLS_1_3, ClientHello, NewSessionTicket, ServerHello

KINDS = ["p256", "p384", "p521", "rsa", "ed25519"]


def ticket(lifetime_s: int = 600, **extension: bytes) -> bytes:
    bodies = {int(ExtensionType[name.upper()]): body for name, body in extension.items()}
    return NewSessionTicket(lifetime_s, 7, b"\x00\x01", b"opaque", bodies).encode()


class TestAgreement:
    """Both sides end with the same secrets and the same view of what was agreed."""

    @staticmethod
    def check(pair: Pair) -> None:
        assert secrets(pair.client_events, sending=True) == secrets(pair.server_events, sending=False)
        assert secrets(pair.client_events, sending=False) == secrets(pair.server_events, sending=True)
        assert secrets(pair.client_events, sending=True).keys() == {Level.HANDSHAKE, Level.APPLICATION}
        assert PeerParameters(SERVER_PARAMETERS) in pair.client_events
        assert PeerParameters(CLIENT_PARAMETERS) in pair.server_events
        ours, theirs = pair.client_complete, pair.server_complete
        assert (ours.alpn, ours.cipher_suite, ours.group) == (theirs.alpn, theirs.cipher_suite, theirs.group)
        assert not ours.resumed
        assert not theirs.resumed

    @pytest.mark.parametrize("group", sorted(SUPPORTED_GROUPS))
    def test_with_each_group(self, group: NamedGroup) -> None:
        pair = run(client_config(groups=(group,)))
        self.check(pair)
        assert pair.client_complete.group == group

    @pytest.mark.parametrize("suite", list(CipherSuite))
    def test_with_each_cipher_suite(self, suite: CipherSuite) -> None:
        pair = run(client_config(cipher_suites=(suite,)))
        self.check(pair)
        assert pair.server_complete.cipher_suite is suite
        assert {len(secret) for secret in secrets(pair.client_events, sending=True).values()} == {suite.hash_length}

    @pytest.mark.parametrize("kind", KINDS)
    def test_with_each_signature(self, kind: str) -> None:
        identity = root().issue("localhost", key_type=kind)
        pair = run(None, server_config(identity))
        self.check(pair)
        assert pair.client_complete.peer_certificates == identity.chain

    @pytest.mark.parametrize("suite", list(CipherSuite))
    @pytest.mark.parametrize("group", sorted(SUPPORTED_GROUPS))
    def test_after_a_retry_to_each_group(self, group: NamedGroup, suite: CipherSuite) -> None:
        groups = (*(other for other in sorted(SUPPORTED_GROUPS) if other != group), group)
        client = client_config(groups=groups, key_shares=groups[:1])
        pair = run(client, server_config(groups=(group,), cipher_suites=(suite,)))
        self.check(pair)
        assert pair.client_complete.group == group
        assert len(sent(pair.client_events)) == 3  # two ClientHellos and the Finished

    def test_after_a_retry_from_no_share_at_all(self) -> None:
        pair = run(client_config(key_shares=()))
        self.check(pair)
        assert len(sent(pair.client_events)) == 3

    def test_when_every_byte_comes_alone(self) -> None:
        self.check(run(step=1))

    def test_the_server_prefers_its_own_order_among_the_shares_sent(self) -> None:
        client = client_config(groups=(NamedGroup.X25519, NamedGroup.SECP256R1), key_shares=(NamedGroup.SECP256R1,))
        pair = run(client, server_config(groups=(NamedGroup.X25519, NamedGroup.SECP256R1)))
        assert pair.server_complete.group == NamedGroup.SECP256R1  # rather than a retry for X25519

    def test_the_hybrid_share_shares_its_x25519_key_with_the_plain_one(self) -> None:
        if NamedGroup.X25519MLKEM768 not in SUPPORTED_GROUPS:
            pytest.skip("no ML-KEM here")
        (_, data), *_ = sent(new_client().start())
        shares = extensions.decode_key_shares(ClientHello.decode(data[4:]).extensions[ExtensionType.KEY_SHARE])
        assert list(shares) == [NamedGroup.X25519MLKEM768, NamedGroup.X25519]
        assert len(shares[NamedGroup.X25519MLKEM768]) == 1184 + 32
        assert shares[NamedGroup.X25519MLKEM768].endswith(shares[NamedGroup.X25519])


class TestEvents:
    def test_keys_come_with_the_messages_that_need_them(self) -> None:
        pair = run()
        shape = [
            (type(event).__name__, event.level, event.sending) if isinstance(event, NewSecret) else type(event).__name__
            for event in pair.server_events
        ]
        assert shape == [
            "PeerParameters",
            "CryptoData",
            ("NewSecret", Level.HANDSHAKE, True),
            ("NewSecret", Level.HANDSHAKE, False),
            "CryptoData",
            ("NewSecret", Level.APPLICATION, True),
            ("NewSecret", Level.APPLICATION, False),
            "Complete",
            "CryptoData",  # a ticket
        ]
        assert [level for level, _ in sent(pair.server_events)] == [
            Level.INITIAL,
            Level.HANDSHAKE,
            Level.APPLICATION,
        ]
        assert [level for level, _ in sent(pair.client_events)] == [Level.INITIAL, Level.HANDSHAKE]

    def test_the_server_may_not_read_application_data_before_the_client_is_finished(self) -> None:
        server = new_server()
        (_, hello), *_ = sent(new_client().start())
        events = server.receive(Level.INITIAL, hello)
        assert not any(
            isinstance(event, NewSecret) and event.level is Level.APPLICATION and not event.sending for event in events
        )

    def test_the_server_may_choose_its_parameters_by_the_clients(self) -> None:
        asked: list[bytes] = []

        def parameters(theirs: bytes) -> bytes:
            asked.append(theirs)
            return b"for you"

        server = new_server()
        server = type(server)(server_config(), parameters, random=bytes, now=lambda: NOW)
        pair = Pair(new_client(client_config(key_shares=())), server).run()
        assert asked == [CLIENT_PARAMETERS]
        assert PeerParameters(b"for you") in pair.client_events

    def test_the_key_log_has_the_lines_of_the_nss_format(self) -> None:
        ours: list[str] = []
        theirs: list[str] = []
        pair = run(client_config(keylog=ours.append), server_config(keylog=theirs.append))
        assert ours == theirs
        assert [line.split()[0] for line in ours] == [
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            "CLIENT_TRAFFIC_SECRET_0",
            "SERVER_TRAFFIC_SECRET_0",
            "EXPORTER_SECRET",
        ]
        (_, hello), *_ = sent(pair.client_events)
        secret = secrets(pair.client_events, sending=True)[Level.APPLICATION]
        assert ours[2].split()[1:] == [hello[6:38].hex(), secret.hex()]

    def test_secrets_stay_out_of_reprs(self) -> None:
        pair = run()
        for event in pair.client_events:
            if isinstance(event, NewSecret):
                assert repr(event.secret) not in repr(event)

    def test_a_client_is_started_once(self) -> None:
        client = new_client()
        client.start()
        with pytest.raises(RuntimeError):
            client.start()


class TestProtocols:
    def test_the_servers_order_decides(self) -> None:
        pair = run(client_config(alpn=("a", "h3")), server_config(alpn=("h3", "a")))
        assert pair.client_complete.alpn == "h3"
        assert pair.server_complete.alpn == "h3"

    @pytest.mark.parametrize("alpn", [("other",), ()])
    def test_nothing_in_common_is_no_application_protocol(self, alpn: tuple[str, ...]) -> None:
        with pytest.raises(TlsAlert) as raised:
            run(client_config(alpn=alpn))
        assert raised.value.alert is AlertDescription.NO_APPLICATION_PROTOCOL
        assert raised.value.section == "RFC 9001 section 8.1"

    def test_a_server_that_chooses_none_is_refused(self) -> None:
        with pytest.raises(TlsAlert) as raised:
            run(None, server_config(alpn=()))
        assert raised.value.alert is AlertDescription.NO_APPLICATION_PROTOCOL

    def test_both_may_do_without(self) -> None:
        assert run(client_config(alpn=()), server_config(alpn=())).client_complete.alpn is None


class TestNoAgreement:
    def test_no_common_cipher_suite_is_handshake_failure(self) -> None:
        with pytest.raises(TlsAlert) as raised:
            run(
                client_config(cipher_suites=(CipherSuite.AES_128_GCM_SHA256,)),
                server_config(cipher_suites=(CipherSuite.CHACHA20_POLY1305_SHA256,)),
            )
        assert raised.value.alert is AlertDescription.HANDSHAKE_FAILURE

    def test_no_common_group_is_handshake_failure(self) -> None:
        with pytest.raises(TlsAlert) as raised:
            run(client_config(groups=(NamedGroup.X25519,)), server_config(groups=(NamedGroup.SECP256R1,)))
        assert raised.value.alert is AlertDescription.HANDSHAKE_FAILURE


def retry_of(group: int | None = NamedGroup.SECP256R1, cookie: bytes = b"", suite: int = 0x1301) -> bytes:
    bodies: dict[int, bytes] = {ExtensionType.SUPPORTED_VERSIONS: extensions.encode_code(TLS_1_3)}
    if group is not None:
        bodies[ExtensionType.KEY_SHARE] = extensions.encode_code(group)
    if cookie:
        bodies[ExtensionType.COOKIE] = extensions.encode_cookie(cookie)
    return ServerHello(RETRY_RANDOM, b"", suite, bodies).encode()


class TestRetry:
    def test_a_cookie_is_echoed_and_the_rest_stays(self) -> None:
        client = new_client()
        (_, first), *_ = sent(client.start())
        (_, second), *_ = sent(client.receive(Level.INITIAL, retry_of(cookie=b"biscuit")))
        before, after = ClientHello.decode(first[4:]), ClientHello.decode(second[4:])
        assert after.extensions[ExtensionType.COOKIE] == extensions.encode_cookie(b"biscuit")
        shares = extensions.decode_key_shares(after.extensions[ExtensionType.KEY_SHARE])
        assert list(shares) == [NamedGroup.SECP256R1]
        assert after.random == before.random
        changed = {ExtensionType.COOKIE, ExtensionType.KEY_SHARE}
        assert {k: v for k, v in after.extensions.items() if k not in changed} == {
            k: v for k, v in before.extensions.items() if k not in changed
        }

    def test_a_cookie_alone_keeps_the_shares(self) -> None:
        client = new_client()
        (_, first), *_ = sent(client.start())
        (_, second), *_ = sent(client.receive(Level.INITIAL, retry_of(None, cookie=b"biscuit")))
        kind = ExtensionType.KEY_SHARE
        assert ClientHello.decode(first[4:]).extensions[kind] == ClientHello.decode(second[4:]).extensions[kind]

    @pytest.mark.parametrize(
        ("retry", "alert"),
        [
            (retry_of(None), AlertDescription.ILLEGAL_PARAMETER),  # changes nothing
            (retry_of(NamedGroup.X25519), AlertDescription.ILLEGAL_PARAMETER),  # was sent
            (retry_of(0x0101), AlertDescription.ILLEGAL_PARAMETER),  # was not offered
            (retry_of(suite=0x1304), AlertDescription.ILLEGAL_PARAMETER),
        ],
    )
    def test_a_senseless_retry_is_refused(self, retry: bytes, alert: AlertDescription) -> None:
        client = new_client()
        client.start()
        with pytest.raises(TlsAlert) as raised:
            client.receive(Level.INITIAL, retry)
        assert raised.value.alert is alert

    def test_a_second_retry_is_unexpected(self) -> None:
        client = new_client()
        client.start()
        client.receive(Level.INITIAL, retry_of())
        with pytest.raises(TlsAlert) as raised:
            client.receive(Level.INITIAL, retry_of(NamedGroup.SECP384R1))
        assert raised.value.alert is AlertDescription.UNEXPECTED_MESSAGE

    def test_the_suite_may_not_change_after_a_retry(self) -> None:
        client, server = new_client(client_config(key_shares=())), new_server()
        (_, hello), *_ = sent(client.start())
        (_, retry), *_ = sent(server.receive(Level.INITIAL, hello))
        (_, hello), *_ = sent(client.receive(Level.INITIAL, retry))
        (_, answer), *_ = sent(server.receive(Level.INITIAL, hello))
        decoded = ServerHello.decode(answer[4:])
        changed = ServerHello(decoded.random, b"", CipherSuite.AES_256_GCM_SHA384, decoded.extensions)
        with pytest.raises(TlsAlert) as raised:
            client.receive(Level.INITIAL, changed.encode())
        assert raised.value.alert is AlertDescription.ILLEGAL_PARAMETER

    def test_the_second_client_hello_may_add_padding_and_what_is_unknown(self) -> None:
        client, server = new_client(client_config(key_shares=())), new_server()
        (_, hello), *_ = sent(client.start())
        (_, retry), *_ = sent(server.receive(Level.INITIAL, hello))
        (_, hello), *_ = sent(client.receive(Level.INITIAL, retry))
        second = ClientHello.decode(hello[4:])
        bodies = {**second.extensions, 0x2A2A: b"x", ExtensionType.PADDING: bytes(100)}
        events = server.receive(Level.INITIAL, ClientHello(second.random, b"", second.cipher_suites, bodies).encode())
        assert len(sent(events)) == 2

    @pytest.mark.parametrize("change", ["random", "suites", "server_name", "share"])
    def test_the_second_client_hello_may_change_nothing_else(self, change: str) -> None:
        client, server = new_client(client_config(key_shares=())), new_server()
        (_, hello), *_ = sent(client.start())
        (_, retry), *_ = sent(server.receive(Level.INITIAL, hello))
        (_, hello), *_ = sent(client.receive(Level.INITIAL, retry))
        second = ClientHello.decode(hello[4:])
        random, suites, bodies = second.random, second.cipher_suites, dict(second.extensions)
        if change == "random":
            random = bytes(32)
        elif change == "suites":
            suites = suites[::-1]
        elif change == "server_name":
            bodies[ExtensionType.SERVER_NAME] = extensions.encode_server_name("elsewhere")
        else:
            bodies[ExtensionType.KEY_SHARE] = extensions.encode_key_shares([(NamedGroup.SECP256R1, b"\x04" * 65)])
        with pytest.raises(TlsAlert) as raised:
            server.receive(Level.INITIAL, ClientHello(random, b"", suites, bodies).encode())
        assert raised.value.alert is AlertDescription.ILLEGAL_PARAMETER


class TestTickets:
    @staticmethod
    def established() -> Pair:
        return run()

    def test_a_ticket_is_handed_on_with_its_secret(self) -> None:
        pair = self.established()
        (event,) = pair.client.receive(Level.APPLICATION, ticket(early_data=b"\xff" * 4))
        assert isinstance(event, SessionTicket)
        assert (event.ticket, event.lifetime_s, event.age_add_ms, event.early_data) == (b"opaque", 600, 7, True)
        assert (event.alpn, event.server_name, event.received_at) == ("h3", "localhost", NOW)
        assert len(event.secret) == 32
        assert event.secret.hex() not in repr(event)

    def test_tickets_with_another_nonce_have_another_secret(self) -> None:
        pair = self.established()
        one, two = (
            pair.client.receive(Level.APPLICATION, NewSessionTicket(1, 0, nonce, b"t", {}).encode())[0]
            for nonce in (b"1", b"2")
        )
        assert isinstance(one, SessionTicket)
        assert isinstance(two, SessionTicket)
        assert one.secret != two.secret
        assert hkdf_expand_label("sha256", bytes(32), "resumption", b"1", 32) != one.secret

    def test_a_ticket_that_is_not_to_be_used_is_dropped(self) -> None:
        assert self.established().client.receive(Level.APPLICATION, ticket(0)) == []

    def test_only_so_many_tickets_are_handed_on(self) -> None:
        client = self.established().client
        events = [event for _ in range(40) for event in client.receive(Level.APPLICATION, ticket())]
        assert len(events) == limits.MAX_SESSION_TICKETS - 1  # the server has sent one already

    @pytest.mark.parametrize(
        "message", [ticket(limits.MAX_TICKET_LIFETIME_S + 1), ticket(early_data=b"\x00\x00\xff\xff")]
    )
    def test_a_ticket_against_the_rules_is_refused(self, message: bytes) -> None:
        with pytest.raises(TlsAlert) as raised:
            self.established().client.receive(Level.APPLICATION, message)
        assert raised.value.alert is AlertDescription.ILLEGAL_PARAMETER

    def test_a_server_takes_no_message_once_it_is_complete(self) -> None:
        with pytest.raises(TlsAlert) as raised:
            self.established().server.receive(Level.APPLICATION, ticket())
        assert raised.value.alert is AlertDescription.UNEXPECTED_MESSAGE


class TestBrowsers:
    def test_unknown_values_and_extensions_are_passed_over(self) -> None:
        """What RFC 8701 has clients send to see whether servers mind."""
        client, server = new_client(), new_server()
        (_, data), *_ = sent(client.start())
        hello = ClientHello.decode(data[4:])
        bodies: dict[int, bytes] = {0x2A2A: b"", **hello.extensions}
        groups = extensions.decode_codes(bodies[ExtensionType.SUPPORTED_GROUPS])
        shares = extensions.decode_key_shares(bodies[ExtensionType.KEY_SHARE])
        bodies[ExtensionType.SUPPORTED_GROUPS] = extensions.encode_codes((0x4A4A, *groups))
        bodies[ExtensionType.KEY_SHARE] = extensions.encode_key_shares([(0x4A4A, b"\x00"), *shares.items()])
        bodies[ExtensionType.SUPPORTED_VERSIONS] = extensions.encode_versions((0x6A6A, TLS_1_3, 0x0303))
        bodies[ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION] = extensions.encode_protocols([b"\x3a\x3a", b"h3"])
        bodies[0xFE0D] = bytes(300)  # encrypted client hello
        bodies[0x8A8A] = b"\x00"
        changed = ClientHello(hello.random, b"", (0x0A0A, *hello.cipher_suites), bodies)
        events = server.receive(Level.INITIAL, changed.encode())
        assert [level for level, _ in sent(events)] == [Level.INITIAL, Level.HANDSHAKE]

    def test_an_answer_that_was_not_asked_for_is_refused(self) -> None:
        client, server = new_client(), new_server()
        (_, hello), *_ = sent(client.start())
        (_, answer), *_ = sent(server.receive(Level.INITIAL, hello))
        decoded = ServerHello.decode(answer[4:])
        changed = ServerHello(decoded.random, b"", decoded.cipher_suite, {**decoded.extensions, 0x2A2A: b""})
        with pytest.raises(TlsAlert) as raised:
            client.receive(Level.INITIAL, changed.encode())
        assert raised.value.alert is AlertDescription.UNSUPPORTED_EXTENSION

    def test_the_flights_are_the_messages_of_the_rfc_in_order(self) -> None:
        pair = run()
        messages = [(int(level), message[0]) for level, data in sent(pair.server_events) for message in split(data)]
        assert messages == [(0, 2), (2, 8), (2, 11), (2, 15), (2, 20), (3, 4)]
        assert isinstance(pair.client_events[0], CryptoData)
