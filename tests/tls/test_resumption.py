"""Resumption and early data (RFC 8446 sections 2.2, 2.3, 4.2.10, 4.2.11, 4.6.1 and 8)."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_pair import (
    CLIENT_PARAMETERS,
    NOW,
    SERVER_PARAMETERS,
    Authority,
    Pair,
    Seeded,
    client_config,
    localhost,
    root,
    secrets,
    sent,
    server_config,
)

from fairway.tls import (
    AlertDescription,
    CipherSuite,
    ClientConfig,
    ClientSession,
    EarlyData,
    Level,
    NamedGroup,
    SealingKeys,
    ServerConfig,
    ServerSession,
    SessionTicket,
    StrikeRegister,
    TicketContext,
    Tickets,
    TlsAlert,
)
from fairway.tls.extensions import decode_pre_shared_keys, encode_pre_shared_key
from fairway.tls.messages import HandshakeType
from fairway.tls.tickets import Ticket
from fairway.wire import WireError

CONTEXT = b"context"


def visit(
    client: ClientConfig,
    server: ServerConfig,
    ticket: SessionTicket | None = None,
    *,
    now: datetime = NOW,
    seed: str = "",
    early_data: bool = False,
    context: bytes = CONTEXT,
    client_now: datetime | None = None,
    tickets: bool = True,
) -> Pair:
    """One handshake."""
    pair = Pair(
        ClientSession(
            client,
            CLIENT_PARAMETERS,
            random=Seeded("client" + seed),
            now=lambda: client_now or now,
            ticket=ticket,
            early_data=early_data,
            tickets=tickets,
        ),
        ServerSession(
            server,
            SERVER_PARAMETERS,
            random=Seeded("server" + seed),
            now=lambda: now,
            context=TicketContext(early=context),
        ),
    )
    return pair.run()


def ticket_of(pair: Pair) -> SessionTicket:
    (ticket,) = [event for event in pair.client_events if isinstance(event, SessionTicket)]
    return ticket


def kinds(pair: Pair) -> list[int]:
    """The server's handshake messages."""
    flight = b"".join(data for level, data in sent(pair.server_events) if level is Level.HANDSHAKE)
    found = []
    while flight:
        found.append(flight[0])
        flight = flight[4 + int.from_bytes(flight[1:4], "big") :]
    return found


class TestResumption:
    @pytest.mark.parametrize("suite", CipherSuite)
    def test_both_sides_agree_and_nobody_shows_a_certificate(self, suite: CipherSuite) -> None:
        client, server = client_config(cipher_suites=(suite,)), server_config()
        first = visit(client, server)
        assert not first.client_complete.resumed
        second = visit(client, server, ticket_of(first), seed="2")
        assert second.client_complete.resumed
        assert second.server_complete.resumed
        assert kinds(second) == [HandshakeType.ENCRYPTED_EXTENSIONS, HandshakeType.FINISHED]
        assert secrets(second.client_events, True) == secrets(second.server_events, False)
        assert secrets(second.client_events, False) == secrets(second.server_events, True)
        assert second.client_complete.peer_certificates == first.client_complete.peer_certificates != ()

    def test_who_would_not_keep_a_ticket_gets_none(self) -> None:
        first = visit(client_config(), server_config())
        assert ticket_of(first)
        second = visit(client_config(), server_config(), tickets=False)
        assert not [event for event in second.client_events if isinstance(event, SessionTicket)]
        assert not [data for level, data in sent(second.server_events) if level is Level.APPLICATION]

    def test_from_ticket_to_ticket(self) -> None:
        client, server = client_config(), server_config()
        pair = visit(client, server)
        for turn in range(3):
            pair = visit(client, server, ticket_of(pair), seed=str(turn))
            assert pair.client_complete.resumed

    def test_after_a_hello_retry_request(self) -> None:
        client = client_config(key_shares=())
        server = server_config()
        first = visit(client, server)
        second = visit(client, server, ticket_of(first), seed="2")
        assert second.client_complete.resumed
        assert len([1 for level, _ in sent(second.client_events) if level is Level.INITIAL]) == 2

    def test_a_retry_for_another_hash_goes_on_without(self) -> None:
        suites = (CipherSuite.AES_256_GCM_SHA384, CipherSuite.AES_128_GCM_SHA256)
        keys = [b"k" * 32]
        first = visit(client_config(), server_config(cipher_suites=suites[1:], tickets=Tickets(SealingKeys(keys))))
        server = server_config(cipher_suites=suites, groups=(NamedGroup.SECP384R1,), tickets=Tickets(SealingKeys(keys)))
        second = visit(client_config(), server, ticket_of(first), seed="2")
        assert second.client_complete.cipher_suite is CipherSuite.AES_256_GCM_SHA384
        assert not second.client_complete.resumed

    def test_a_client_is_who_it_was(self) -> None:
        authority = Authority("clients")
        identity = authority.issue("somebody", usage=localhost_usage())
        client = client_config(identity=identity)
        server = server_config(client_ca=[authority.certificate], require_client_certificate=True)
        first = visit(client, server)
        second = visit(client, server, ticket_of(first), seed="2")
        assert second.server_complete.resumed
        assert second.server_complete.peer_certificates == identity.chain

    @pytest.mark.parametrize(
        "change", ["keys lost", "expired", "other name", "suite gone", "none issued", "certificate required"]
    )
    def test_a_server_that_does_not_take_a_ticket_goes_on_without(self, change: str) -> None:
        client, server, now = client_config(), server_config(), NOW
        ticket = ticket_of(visit(client, server))
        if change == "keys lost":
            server = server_config()
        elif change == "expired":
            now += timedelta(days=1, seconds=1)
            ticket = replace(ticket, lifetime_s=604_800)
        elif change == "other name":
            client = client_config("other")
            ticket = replace(ticket, server_name="other", peer_certificates=root().issue("other").chain)
            server = server_config(root().issue("other", "localhost"), tickets=server.tickets)
        elif change == "suite gone":
            server = server_config(cipher_suites=(CipherSuite.CHACHA20_POLY1305_SHA256,), tickets=server.tickets)
        elif change == "none issued":
            server = server_config(tickets=None)
        else:
            server = server_config(client_ca=[root().certificate], tickets=server.tickets)
            server = replace(server, require_client_certificate=True)
            with pytest.raises(TlsAlert) as error:
                visit(client, server, ticket)
            assert error.value.alert == AlertDescription.CERTIFICATE_REQUIRED
            return
        second = visit(client, server, ticket, now=now, seed="2")
        assert not second.client_complete.resumed
        assert HandshakeType.CERTIFICATE in kinds(second)

    @pytest.mark.parametrize("change", ["expired", "name", "trust", "certificate expired", "identity", "alpn"])
    def test_a_client_that_wants_another_server_does_not_offer_it(self, change: str) -> None:
        client, server, now = client_config(), server_config(), NOW
        ticket = ticket_of(visit(client, server))
        if change == "expired":
            now += timedelta(days=2)
        elif change == "name":
            ticket = replace(ticket, server_name="other")
        elif change == "trust":
            ticket = ticket_of(visit(replace(client, verify=False), server_config(Authority("x").issue("localhost"))))
        elif change == "certificate expired":
            now += timedelta(days=40)
            ticket = replace(ticket, received_at=now, lifetime_s=604_800)
        elif change == "identity":
            client = client_config(identity=localhost())
        else:
            client = client_config(alpn=("other",))
        session = ClientSession(
            client, CLIENT_PARAMETERS, random=Seeded("2"), now=lambda: now, ticket=ticket, early_data=True
        )
        ((_, hello),) = sent(session.start())
        assert ticket.ticket not in hello

    def test_who_has_not_the_tickets_key_is_refused(self) -> None:
        client, server = client_config(), server_config()
        ticket = replace(ticket_of(visit(client, server)), secret=bytes(32))
        with pytest.raises(TlsAlert) as error:
            visit(client, server, ticket, seed="2")
        assert error.value.alert == AlertDescription.DECRYPT_ERROR

    def test_a_binder_covers_the_whole_hello(self) -> None:
        client, server = client_config(), server_config()
        ticket = ticket_of(visit(client, server))
        session = ClientSession(client, CLIENT_PARAMETERS, random=Seeded("2"), now=lambda: NOW, ticket=ticket)
        ((level, hello),) = sent(session.start())
        for at in (10, len(hello) - 1):
            changed = hello[:at] + bytes((hello[at] ^ 1,)) + hello[at + 1 :]
            victim = ServerSession(server, SERVER_PARAMETERS, random=Seeded("s"), now=lambda: NOW)
            with pytest.raises(TlsAlert) as error:
                victim.receive(level, changed)
            assert error.value.alert == AlertDescription.DECRYPT_ERROR


def localhost_usage():  # type: ignore[no-untyped-def]
    from cryptography.x509.oid import ExtendedKeyUsageOID

    return ExtendedKeyUsageOID.CLIENT_AUTH


def early_server(**changes: object) -> ServerConfig:
    return server_config(tickets=Tickets(early_data=True, **changes))  # type: ignore[arg-type]


def judged(pair: Pair) -> bool:
    (event,) = [event for event in pair.client_events if isinstance(event, EarlyData)]
    told = [event for event in pair.server_events if isinstance(event, EarlyData)]
    assert len(told) == event.accepted
    return event.accepted


class TestEarlyData:
    def test_both_sides_have_the_same_early_secret(self) -> None:
        client, server = client_config(), early_server()
        ticket = ticket_of(visit(client, server))
        assert ticket.early_data
        pair = visit(client, server, ticket, seed="2", early_data=True)
        assert judged(pair)
        ours = secrets(pair.client_events, True)[Level.EARLY]
        assert secrets(pair.server_events, False)[Level.EARLY] == ours

    def test_a_server_that_takes_none_says_so_in_its_ticket(self) -> None:
        client, server = client_config(), server_config()
        ticket = ticket_of(visit(client, server))
        assert not ticket.early_data
        pair = visit(client, server, ticket, seed="2", early_data=True)
        assert not any(isinstance(event, EarlyData) for event in pair.client_events)

    @pytest.mark.parametrize("change", ["context", "no context", "age", "alpn", "not resumed", "retry", "off"])
    def test_it_is_rejected_and_the_handshake_goes_on(self, change: str) -> None:
        client, server = client_config(alpn=("h3", "other")), early_server()
        ticket = ticket_of(visit(client, server))
        context, client_now = CONTEXT, NOW
        if change == "context":
            context = b"other"
        elif change == "no context":
            context = b""
        elif change == "age":
            client_now = NOW + timedelta(seconds=11)
        elif change == "alpn":
            server = server_config(alpn=("other", "h3"), tickets=server.tickets)
        elif change == "not resumed":
            server = early_server()
        elif change == "retry":
            client = replace(client, key_shares=())
        else:
            assert server.tickets is not None
            server.tickets.early_data = False
        pair = visit(client, server, ticket, seed="2", early_data=True, context=context, client_now=client_now)
        assert not judged(pair)
        assert pair.client_complete.resumed is (change != "not resumed")

    def test_the_same_hello_is_taken_once(self) -> None:
        client, server = client_config(), early_server()
        ticket = ticket_of(visit(client, server))
        session = ClientSession(
            client, CLIENT_PARAMETERS, random=Seeded("2"), now=lambda: NOW, ticket=ticket, early_data=True
        )
        ((level, hello),) = sent(session.start())
        taken = []
        for turn in range(3):
            victim = ServerSession(
                server,
                SERVER_PARAMETERS,
                random=Seeded(f"s{turn}"),
                now=lambda: NOW,
                context=TicketContext(early=CONTEXT),
            )
            taken.append(Level.EARLY in secrets(victim.receive(level, hello), False))
        assert taken == [True, False, False]

    def test_and_not_at_all_when_it_is_old(self) -> None:
        client, server = client_config(), early_server()
        ticket = ticket_of(visit(client, server))
        pair = visit(client, server, ticket, seed="2", early_data=True, now=NOW + timedelta(seconds=30), client_now=NOW)
        assert not judged(pair)


class TestStrikes:
    def test_one_use_within_the_window(self) -> None:
        register = StrikeRegister()
        assert [register.strike(b"a", at, 10.0) for at in (0, 5, 9.9, 10, 19, 40)] == [
            True, False, False, False, False, True,
        ]  # fmt: skip

    def test_a_full_register_takes_nothing_and_forgets_nothing(self) -> None:
        register = StrikeRegister(most=100)
        assert sum(register.strike(index.to_bytes(4, "big"), 1000.0, 10.0) for index in range(1000)) == 100
        assert not register.strike(bytes(4), 1001.0, 10.0)
        assert len(register) <= 200

    @given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 8)), max_size=60))
    def test_nothing_is_struck_twice_within_a_window(self, uses: list[tuple[int, float]]) -> None:
        register, now, last = StrikeRegister(), 0.0, dict[int, float]()
        for name, later in uses:
            now += later
            if register.strike(bytes((name,)), now, 10.0):
                assert now - last.get(name, -100.0) >= 10.0
                last[name] = now


texts = st.text(max_size=20).filter(bool)


class TestTickets:
    @given(
        st.builds(
            Ticket,
            st.sampled_from(CipherSuite),
            st.binary(min_size=1, max_size=48),
            st.integers(0, 1 << 50),
            st.integers(0, (1 << 32) - 1),
            st.none() | texts,
            st.none() | texts,
            st.lists(st.binary(min_size=1, max_size=50), max_size=3).map(tuple),
            st.builds(TicketContext, st.binary(max_size=40), st.binary(max_size=40)),
        )
    )
    def test_a_ticket_is_read_as_it_was_written(self, ticket: Ticket) -> None:
        assert Ticket.decode(ticket.encode()) == ticket

    @given(st.binary(max_size=200))
    def test_anything_else_is_a_ticket_or_a_typed_error(self, content: bytes) -> None:
        with contextlib.suppress(WireError):
            Ticket.decode(content)

    @given(st.binary(max_size=200))
    def test_any_offer_is_read_or_refused(self, body: bytes) -> None:
        try:
            identities, binders = decode_pre_shared_keys(body)
        except (WireError, TlsAlert):
            return
        assert len(identities) == len(binders) > 0

    @given(st.binary(min_size=1, max_size=300), st.integers(0, (1 << 32) - 1), st.binary(min_size=32, max_size=48))
    def test_an_offer_is_read_as_it_was_written(self, ticket: bytes, age: int, binder: bytes) -> None:
        body = encode_pre_shared_key(ticket, age, binder)
        assert decode_pre_shared_keys(body) == ([(ticket, age)], [binder])

    def test_a_lifetime_is_at_most_seven_days(self) -> None:
        with pytest.raises(ValueError, match="604800"):
            Tickets(lifetime_s=604_801)
