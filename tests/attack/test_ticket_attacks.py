"""Tickets used where they were not given: under another name, for another protocol, by another client, with more.

RFC 8446 sections 4.2.10, 4.2.11 and 4.6.1, RFC 9001 section 4.6. The client does not look whether a ticket fits.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from tls_pair import (
    CLIENT_PARAMETERS,
    NOW,
    SERVER_PARAMETERS,
    Authority,
    Pair,
    Seeded,
    client_config,
    root,
    server_config,
)

from fairway.tls import (
    AlertDescription,
    ClientConfig,
    ClientSession,
    EarlyData,
    Identity,
    SealingKeys,
    ServerConfig,
    ServerSession,
    SessionTicket,
    StrikeRegister,
    TicketContext,
    Tickets,
    TlsAlert,
)
from fairway.tls.key_schedule import Transcript
from fairway.wire import Writer

CONTEXT = TicketContext(b"1", b"terms")
ALPN = ("h3", "pay")


def visit(
    client: ClientConfig, server: ServerConfig, ticket: SessionTicket | None = None, *, context: TicketContext = CONTEXT
) -> Pair:
    """One handshake, with early data if there is a ticket."""

    def now() -> datetime:
        return NOW

    seed = "2" if ticket is not None else "1"
    return Pair(
        ClientSession(client, CLIENT_PARAMETERS, random=Seeded("c" + seed), now=now, ticket=ticket, early_data=True),
        ServerSession(server, SERVER_PARAMETERS, random=Seeded("s" + seed), now=now, context=context),
    ).run()


def ticket_of(pair: Pair, client: ClientConfig) -> SessionTicket:
    """The ticket, made to seem fit for what `client` asks for next."""
    (ticket,) = [event for event in pair.client_events if isinstance(event, SessionTicket)]
    return replace(
        ticket,
        server_name=client.server_name,
        alpn=client.alpn[0],
        peer_certificates=root().issue(client.server_name or "").chain,
        identity=client.identity_name,
    )


def heard_early(pair: Pair) -> bool:
    """Whether the server takes early data: it has the secret that opens it."""
    return any(isinstance(event, EarlyData) for event in pair.server_events)


@pytest.fixture
def server() -> ServerConfig:
    """Of two names, each with an identity of its own, and two protocols."""
    identities = (root().issue("shop.test"), root().issue("bank.test"))
    return server_config(*identities, alpn=ALPN, tickets=Tickets(early_data=True))


class TestATicket:
    def test_under_its_own_name_for_its_own_protocol_is_good_with_early_data(self, server: ServerConfig) -> None:
        client = client_config("shop.test", alpn=("h3",))
        pair = visit(client, server, ticket_of(visit(client, server), client))
        assert pair.server_complete.resumed
        assert heard_early(pair)

    @pytest.mark.parametrize("name", ["bank.test", "x.shop.test", "shop.test.bank.test"])
    def test_under_another_name_is_no_session_and_no_early_data(self, server: ServerConfig, name: str) -> None:
        first = visit(client_config("shop.test", alpn=("h3",)), server)
        elsewhere = client_config(name, alpn=("h3",), ca=None, verify=False)
        pair = visit(elsewhere, server, ticket_of(first, elsewhere))
        assert not pair.server_complete.resumed
        assert not heard_early(pair)
        assert pair.server_complete.server_name == name

    def test_without_a_name_is_no_session(self, server: ServerConfig) -> None:
        first = visit(client_config("shop.test", alpn=("h3",)), server)
        nobody = client_config(None, alpn=("h3",), ca=None, verify=False)
        (ticket,) = [event for event in first.client_events if isinstance(event, SessionTicket)]
        pair = visit(nobody, server, replace(ticket, server_name=None))
        assert not pair.server_complete.resumed
        assert not heard_early(pair)

    @pytest.mark.parametrize("offered", [("pay",), ("pay", "h3")])
    def test_of_another_protocol_brings_no_early_data(self, server: ServerConfig, offered: tuple[str, ...]) -> None:
        first = visit(client_config("shop.test", alpn=("h3",)), server)
        other = client_config("shop.test", alpn=offered)
        served = replace(server, alpn=("pay", "h3"))
        pair = visit(other, served, ticket_of(first, other))
        assert pair.server_complete.alpn == "pay"
        assert not heard_early(pair)

    @pytest.mark.parametrize("context", [TicketContext(b"1", b"others"), TicketContext(b"2", b"terms")])
    def test_of_other_terms_or_another_version_brings_no_early_data(
        self, server: ServerConfig, context: TicketContext
    ) -> None:
        client = client_config("shop.test", alpn=("h3",))
        pair = visit(client, server, ticket_of(visit(client, server), client), context=context)
        assert pair.server_complete.resumed is (context.session == CONTEXT.session)
        assert not heard_early(pair)


class TestATicketOfAClientThatShowedACertificate:
    @pytest.fixture
    def clients(self) -> Authority:
        return Authority("clients")

    @pytest.fixture
    def identity(self, clients: Authority) -> Identity:
        return clients.issue("somebody", usage=ExtendedKeyUsageOID.CLIENT_AUTH)

    @pytest.fixture
    def guarded(self, server: ServerConfig, clients: Authority) -> ServerConfig:
        return replace(server, client_ca=[clients.certificate], require_client_certificate=True)

    def test_says_who_it_is_again_under_its_own_name_only(self, guarded: ServerConfig, identity: Identity) -> None:
        client = client_config("shop.test", alpn=("h3",), identity=identity)
        first = visit(client, guarded)
        pair = visit(client, guarded, ticket_of(first, client))
        assert pair.server_complete.resumed
        assert pair.server_complete.peer_certificates == identity.chain
        stolen = client_config("bank.test", alpn=("h3",))
        with pytest.raises(TlsAlert) as error:
            visit(stolen, guarded, ticket_of(first, stolen))
        assert error.value.alert is AlertDescription.CERTIFICATE_REQUIRED

    def test_is_no_session_where_its_authority_is_trusted_no_more(
        self, guarded: ServerConfig, identity: Identity
    ) -> None:
        client = client_config("shop.test", alpn=("h3",), identity=identity)
        first = visit(client, guarded)
        others = replace(guarded, client_ca=[Authority("others").certificate])
        with pytest.raises(TlsAlert):
            visit(client, others, ticket_of(first, client))

    def test_is_no_session_where_nobody_shows_any(
        self, guarded: ServerConfig, server: ServerConfig, identity: Identity
    ) -> None:
        client = client_config("shop.test", alpn=("h3",), identity=identity)
        pair = visit(client, server, ticket_of(visit(client, guarded), client))
        assert not pair.server_complete.resumed
        assert pair.server_complete.peer_certificates == ()

    def test_that_showed_none_does_not_come_in_where_one_is_needed(
        self, guarded: ServerConfig, server: ServerConfig
    ) -> None:
        client = client_config("shop.test", alpn=("h3",))
        first = visit(client, server)
        with pytest.raises(TlsAlert) as error:
            visit(client, guarded, ticket_of(first, client))
        assert error.value.alert is AlertDescription.CERTIFICATE_REQUIRED


class TestWhatTicketsMayCost:
    def test_tickets_by_the_hundred_in_one_hello_are_not_all_tried(self) -> None:
        tried = 0

        class Counting(SealingKeys):
            def open(self, box: bytes, context: bytes) -> bytes | None:
                nonlocal tried
                tried += 1
                return super().open(box, context)

        identities, binders = Writer(), Writer()
        for number in range(200):
            identities.vector16(bytes((number,)) * 60).u32(0)
            binders.vector8(bytes(32))
        offer = Writer().vector16(identities.finish()).vector16(binders.finish()).finish()
        assert Tickets(Counting()).resume(offer, b"", Transcript(), lambda ticket: True, NOW) is None
        assert tried == 4

    def test_a_long_chain_of_a_client_is_not_carried_about_in_a_ticket(self, server: ServerConfig) -> None:
        clients = Authority("clients")
        names = [f"{number}.{'n' * 40}.test" for number in range(100)]
        client = client_config(
            "shop.test", alpn=("h3",), identity=clients.issue(*names, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        )
        pair = visit(client, replace(server, client_ca=[clients.certificate], require_client_certificate=True))
        assert sum(map(len, pair.server_complete.peer_certificates)) > 4_096
        assert not any(isinstance(event, SessionTicket) for event in pair.client_events)

    def test_uses_without_number_fill_a_register_which_then_takes_nothing(self) -> None:
        register = StrikeRegister()
        assert sum(register.strike(use.to_bytes(4, "big"), 1000.0, 10.0) for use in range(110_000)) == 100_000
