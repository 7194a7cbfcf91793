"""Those who want into a network, or back into it, or to stay: what tokens, renewals and revocations stand up to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fairway.net.enrolment import (
    Authority,
    Block,
    Granted,
    JoinRequest,
    Membership,
    RenewRequest,
    Token,
    permit_of,
    request,
)
from fairway.net.enrolment import authority as authority_room
from fairway.net.enrolment.authority import MAX_CERTIFICATES
from fairway.net.enrolment.certificate import host_name, new_key
from fairway.net.enrolment.revocation import MAX_ENTRIES
from fairway.net.model.errors import FairwayError, UsageError

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.create("first", [Block(ip_network("10.0.0.0/16"))], NOW, 7946)
    authority.enrol("first", request(new_key(), "first"), NOW)
    return authority


def question(token: Token, node: str, key: Any) -> JoinRequest:
    signing = request(key, node)
    return JoinRequest(node, token.number, token.proof(node, signing), signing)


def renewed(authority: Authority, granted: Granted, key: Any) -> Granted:
    permit = permit_of(granted.certificate)
    return authority.renew(permit, RenewRequest(request(key, permit.node)), NOW)


class TestAToken:
    def test_gives_one_name_and_one_block_however_often_its_holder_asks(self, authority: Authority) -> None:
        token, key = authority.token(NOW), new_key()
        authority.admit(question(token, "greedy", key), NOW)
        for number in range(3):
            with pytest.raises(UsageError, match="the token is for greedy"):
                authority.admit(question(token, f"greedy{number}", key), NOW)
        assert [node.name for node in authority.nodes()] == ["first", "greedy"]

    def test_does_not_let_a_revoked_node_back_in_within_its_hour(self, authority: Authority) -> None:
        token, key = authority.token(NOW), new_key()
        authority.admit(question(token, "bad", key), NOW)
        authority.revoke("bad", NOW)
        for node in ("bad", "worse"):
            with pytest.raises(UsageError, match="not known"):
                authority.admit(question(token, node, key), NOW + timedelta(minutes=1))

    def test_is_of_no_use_to_the_member_that_was_asked_in_the_authoritys_place(self, authority: Authority) -> None:
        """Whatever the member changes of what it was told, to join itself, does not stand up."""
        honest, own = question(authority.token(NOW), "honest", new_key()), new_key()
        attempts = [
            replace(honest, request=request(own, "honest")),
            replace(honest, node="mallory"),
            replace(honest, node="mallory", request=request(own, "mallory")),
        ]
        for attempt in attempts:
            with pytest.raises(UsageError, match="not known"):
                authority.admit(attempt, NOW)
        assert permit_of(authority.admit(honest, NOW).certificate).node == "honest"


class TestTokensWithoutNumber:
    def test_are_not_made_until_some_have_expired(self, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(authority_room, "MAX_TOKENS", 20)
        for _ in range(20):
            authority.token(NOW)
        with pytest.raises(FairwayError, match="there are 20 tokens already"):
            authority.token(NOW)
        authority.token(NOW + timedelta(days=2))


class TestARequest:
    def test_longer_than_any_is_not_parsed(self, authority: Authority) -> None:
        token = authority.token(NOW)
        names = x509.SubjectAlternativeName([x509.DNSName(f"{number}.example.test") for number in range(500)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, False)
        asked = builder.sign(new_key(), hashes.SHA256()).public_bytes(Encoding.DER)
        with pytest.raises(UsageError, match="too long"):
            authority.admit(JoinRequest("second", token.number, token.proof("second", asked), asked), NOW)

    def test_cannot_bring_names_rights_or_extensions_into_the_certificate(self, authority: Authority) -> None:
        key, token = new_key(), authority.token(NOW)
        names: list[x509.GeneralName] = [
            x509.DNSName(host_name("first")),
            x509.UniformResourceIdentifier("fairway:node/first"),
            x509.UniformResourceIdentifier("fairway:block/0.0.0.0/0"),
        ]
        asked = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "first")]))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )
        granted = authority.admit(JoinRequest("second", token.number, token.proof("second", asked), asked), NOW)
        issued = x509.load_der_x509_certificate(granted.certificate)
        assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        permit = permit_of(granted.certificate)
        assert (permit.node, permit.blocks) == ("second", (ip_network("10.0.1.0/24"),))
        assert issued.subject.rfc4514_string() == "CN=second"


class TestAMemberThatRenewsAgainAndAgain:
    def test_is_stopped_while_all_its_certificates_can_still_be_revoked(self, authority: Authority) -> None:
        granted = authority.admit(question(authority.token(NOW), "bad", new_key()), NOW)
        serials = {permit_of(granted.certificate).serial}
        for _ in range(MAX_CERTIFICATES - 1):
            serials.add(permit_of(renewed(authority, granted, new_key()).certificate).serial)
        with pytest.raises(FairwayError, match="valid certificates"):
            renewed(authority, granted, new_key())
        assert len(serials) == MAX_CERTIFICATES
        assert authority.revoke("bad", NOW).serials == serials

    def test_with_one_key_as_its_answers_were_lost_is_helped_each_time(self, authority: Authority) -> None:
        granted, key = authority.admit(question(authority.token(NOW), "unlucky", new_key()), NOW), new_key()
        serials = {permit_of(renewed(authority, granted, key).certificate).serial for _ in range(50)}
        assert len(serials) == 1
        assert serials < authority.revoke("unlucky", NOW).serials


class TestAMemberThatAnswersARenewal:
    """Whom a node asks for its next certificate is found by addresses: any member may be there."""

    def test_cannot_make_itself_the_authority(self, authority: Authority, tmp_path: Path) -> None:
        membership, key = Membership(tmp_path / "honest"), new_key()
        membership.accept(authority.admit(question(authority.token(NOW), "honest", key), NOW), key, "honest", NOW)
        rogue = Authority(tmp_path / "rogue")
        rogue.create("first", [Block(ip_network("10.0.0.0/16"))], NOW, 7946)
        forged = rogue.enrol("honest", request(key, "honest"), NOW)
        with pytest.raises(FairwayError, match="another authority than the network's"):
            membership.accept(replace(forged, network=membership.network().as_json()), key, "honest", NOW)
        assert membership.credentials().authority == authority.certificate


class TestAFullListOfTheRevoked:
    NODES = MAX_ENTRIES // MAX_CERTIFICATES

    @pytest.fixture
    def full(self, authority: Authority) -> Authority:
        """Nodes that renewed as often as they may were revoked, until no place is left."""
        for number in range(self.NODES):
            granted = authority.admit(question(authority.token(NOW), f"gone{number}", new_key()), NOW)
            for _ in range(MAX_CERTIFICATES - 1):
                renewed(authority, granted, new_key())
            authority.revoke(f"gone{number}", NOW)
        return authority

    def test_bars_who_is_revoked_next_and_forgives_nobody(self, full: Authority) -> None:
        key = new_key()
        granted = full.admit(question(full.token(NOW), "bad", key), NOW)
        others = full.token(NOW)
        before = full.revocations(NOW)
        assert before is not None
        assert len(before.serials) == MAX_ENTRIES
        with pytest.raises(FairwayError, match="the list of revoked certificates is full: bad renews no more"):
            full.revoke("bad", NOW)
        with pytest.raises(UsageError, match="is revoked"):
            renewed(full, granted, new_key())
        with pytest.raises(UsageError, match="there is a node bad already"):
            full.admit(question(others, "bad", new_key()), NOW)
        after = full.revocations(NOW)
        assert after is not None
        assert after.serials == before.serials
        assert permit_of(full.admit(question(others, "good", new_key()), NOW).certificate).node == "good"

        later = NOW + timedelta(days=29, hours=23)
        with pytest.raises(FairwayError, match="is full"):
            full.revoke("bad", later)
        soon = NOW + timedelta(days=30, seconds=1)
        assert full.revoke("bad", soon).serials == frozenset()  # it has ended as the others have

    def test_revokes_who_was_barred_when_there_is_room(self, full: Authority) -> None:
        full.admit(question(full.token(NOW + timedelta(days=10)), "bad", new_key()), NOW + timedelta(days=10))
        with pytest.raises(FairwayError, match="is full"):
            full.revoke("bad", NOW + timedelta(days=10))
        room = full.revoke("bad", NOW + timedelta(days=31))
        assert len(room.serials) == 1
        assert "bad" not in [node.name for node in full.nodes()]
