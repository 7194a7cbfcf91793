"""Who may join a network, as what, and for how long; what is kept on disk, and how."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from fairway.net.enrolment import (
    ANY_NODE,
    Authority,
    Block,
    Granted,
    JoinRequest,
    Membership,
    Refused,
    RenewRequest,
    RevocationList,
    Token,
    decode_answer,
    decode_question,
    encode,
    host_name,
    permit_of,
    request,
)
from fairway.net.enrolment.blocks import free_block
from fairway.net.enrolment.certificate import new_key
from fairway.net.model.errors import FairwayError, UsageError
from fairway.tls.trust import Trust, server_subject

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
POOL = ip_network("10.0.0.0/16")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path / "first")
    authority.create("node01", [Block(POOL)], NOW, 7946)
    authority.enrol("node01", request(new_key(), "node01"), NOW)
    return authority


def _join(authority: Authority, node: str, token: Token, key: object = None, now: datetime = NOW) -> Granted:
    signing = request(key or new_key(), node)  # type: ignore[arg-type]
    return authority.admit(JoinRequest(node, token.number, token.proof(node, signing), signing), now)


class TestTheCertificate:
    def test_it_names_the_node_and_what_it_may_announce(self, authority: Authority) -> None:
        permit = permit_of(_join(authority, "node02", authority.token(NOW)).certificate)
        assert (permit.node, permit.blocks, permit.pools) == ("node02", (ip_network("10.0.1.0/24"),), (POOL,))

    def test_it_stands_up_to_the_judgement_of_tls_on_both_sides(self, authority: Authority) -> None:
        granted = _join(authority, "node02", authority.token(NOW))
        trust = Trust([authority.certificate])
        chain = (granted.certificate, granted.authority)
        for name in (ANY_NODE, host_name("node02")):
            trust.server_key(chain, server_subject(name), NOW)
        trust.client_key(chain, NOW)

    def test_it_ends_after_thirty_days_and_is_to_be_renewed_after_twenty(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        key = new_key()
        credentials = Membership(tmp_path / "second").accept(
            _join(authority, "node02", authority.token(NOW), key), key, "node02", NOW
        )
        assert credentials.expires == NOW + timedelta(days=30)
        assert credentials.renew_at == NOW + timedelta(days=20)

    def test_a_certificate_of_another_kind_is_no_nodes(self, authority: Authority) -> None:
        with pytest.raises(FairwayError, match="not a node's"):
            permit_of(_join(authority, "node02", authority.token(NOW)).authority)

    def test_a_request_with_another_kind_of_key_or_a_foreign_signature_is_refused(self, authority: Authority) -> None:
        token = authority.token(NOW)
        good = bytearray(request(new_key(), "node02"))
        good[-5] ^= 1
        for data in (bytes(good), b"nonsense", bytes(20_000), _ed25519_request()):
            with pytest.raises(UsageError, match="certificate request is not valid"):
                authority.admit(JoinRequest("node02", token.number, token.proof("node02", data), data), NOW)
        _join(authority, "node02", token)  # none of that has used the token up


def _ed25519_request() -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.DER)


class TestTokens:
    def test_a_token_lets_one_host_join_once(self, authority: Authority) -> None:
        token = authority.token(NOW)
        _join(authority, "node02", token)
        with pytest.raises(UsageError, match="has been used"):
            _join(authority, "node03", token)

    def test_the_same_key_may_ask_again_when_the_answer_was_lost(self, authority: Authority) -> None:
        token, key = authority.token(NOW), new_key()
        first, second = (_join(authority, "node02", token, key) for _ in range(2))
        assert permit_of(first.certificate).blocks == permit_of(second.certificate).blocks

    def test_a_token_expires(self, authority: Authority) -> None:
        token = authority.token(NOW, lifetime=timedelta(minutes=5))
        with pytest.raises(UsageError, match="has expired"):
            _join(authority, "node02", token, now=NOW + timedelta(minutes=6))

    def test_a_token_with_another_secret_is_not_known(self, authority: Authority) -> None:
        token = authority.token(NOW)
        with pytest.raises(UsageError, match="not known here"):
            _join(authority, "node02", replace(token, secret=bytes(16)))

    def test_a_token_may_be_for_one_name_and_given_blocks(self, authority: Authority) -> None:
        token = authority.token(NOW, node="node07", blocks=[ip_network("10.0.7.0/25")], mobile=False)
        with pytest.raises(UsageError, match="for node07, not for node02"):
            _join(authority, "node02", token)
        permit = permit_of(_join(authority, "node07", token).certificate)
        assert (permit.blocks, permit.pools) == ((ip_network("10.0.7.0/25"),), ())

    def test_the_secret_is_not_on_disk(self, authority: Authority) -> None:
        token = authority.token(NOW)
        for path in authority.directory.iterdir():
            content = path.read_bytes()
            assert token.secret not in content
            assert token.secret.hex().encode() not in content

    @given(st.binary(min_size=32, max_size=32), st.binary(min_size=8, max_size=8), st.binary(min_size=16, max_size=16))
    def test_a_token_is_text_and_back(self, fingerprint: bytes, number: bytes, secret: bytes) -> None:
        token = Token(fingerprint, number, secret)
        assert Token.parse(str(token)) == token

    @given(st.text())
    def test_any_other_text_is_a_usage_error(self, text: str) -> None:
        for wrong in (text, "fairway1-" + text):
            with pytest.raises(UsageError, match="that is no token"):
                Token.parse(wrong)


class TestNamesAndBlocks:
    def test_every_node_gets_a_block_of_its_own(self, authority: Authority) -> None:
        granted = [_join(authority, f"node{number:02}", authority.token(NOW)) for number in range(2, 12)]
        blocks = [block for each in granted for block in permit_of(each.certificate).blocks]
        assert blocks == [ip_network(f"10.0.{number}.0/24") for number in range(1, 11)]

    def test_both_ip_versions_get_one(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        authority.create("node01", [Block(POOL, 26), Block(ip_network("fd00::/48"))], NOW, 7946)
        permit = permit_of(authority.enrol("node01", request(new_key(), "node01"), NOW).certificate)
        assert permit.blocks == (ip_network("10.0.0.0/26"), ip_network("fd00::/64"))

    def test_a_name_that_is_in_use_is_refused(self, authority: Authority) -> None:
        _join(authority, "node02", authority.token(NOW))
        with pytest.raises(UsageError, match="there is a node node02 already"):
            _join(authority, "node02", authority.token(NOW))

    def test_a_node_that_comes_back_after_its_certificate_expired_has_its_blocks_again(
        self, authority: Authority
    ) -> None:
        first = permit_of(_join(authority, "node02", authority.token(NOW)).certificate)
        later = NOW + timedelta(days=60)
        again = permit_of(_join(authority, "node02", authority.token(later), now=later).certificate)
        assert again.blocks == first.blocks

    def test_blocks_that_overlap_or_lie_outside_are_refused(self, authority: Authority) -> None:
        with pytest.raises(UsageError, match="which node01 has"):
            authority.token(NOW, blocks=[ip_network("10.0.0.128/25")])
        with pytest.raises(UsageError, match="not in the network's pools"):
            authority.token(NOW, blocks=[ip_network("10.1.0.0/24")])

    def test_when_every_block_is_taken_it_says_so(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        authority.create("node01", [Block(ip_network("10.0.0.0/24"), 25)], NOW, 7946)
        authority.enrol("node01", request(new_key(), "node01"), NOW)
        _join(authority, "node02", authority.token(NOW))
        with pytest.raises(FairwayError, match="every block"):
            _join(authority, "node03", authority.token(NOW))

    @given(st.sets(st.integers(0, 15)))
    def test_a_free_block_overlaps_no_other(self, taken: set[int]) -> None:
        pool = Block(ip_network("10.0.0.0/20"), 24)
        others = [ip_network(f"10.0.{number}.0/24") for number in taken]
        block = free_block(pool, others)
        if len(taken) == 16:
            assert block is None
        else:
            assert block is not None
            assert block.subnet_of(pool.network)  # type: ignore[arg-type]
            assert not any(block.overlaps(other) for other in others)


class TestRenewal:
    def test_a_node_renews_by_the_certificate_that_it_has(self, authority: Authority) -> None:
        permit = permit_of(_join(authority, "node02", authority.token(NOW)).certificate)
        later = NOW + timedelta(days=20)
        renewed = permit_of(authority.renew(permit, RenewRequest(request(new_key(), "x")), later).certificate)
        assert (renewed.node, renewed.blocks) == (permit.node, permit.blocks)
        assert renewed.serial != permit.serial

    def test_a_revoked_node_does_not(self, authority: Authority) -> None:
        permit = permit_of(_join(authority, "node02", authority.token(NOW)).certificate)
        authority.revoke("node02", NOW)
        with pytest.raises(UsageError, match="revoked"):
            authority.renew(permit, RenewRequest(request(new_key(), "node02")), NOW)


class TestRevocation:
    def test_the_list_has_every_certificate_of_the_node(self, authority: Authority) -> None:
        token, key = authority.token(NOW), new_key()
        serials = {permit_of(_join(authority, "node02", token, key).certificate).serial for _ in range(2)}
        revoked = authority.revoke("node02", NOW)
        assert revoked.serials == serials
        assert RevocationList.verify(revoked.signed, authority.certificate) == revoked

    def test_lists_are_numbered_and_let_go_what_has_expired(self, authority: Authority) -> None:
        for number in (2, 3):
            _join(authority, f"node0{number}", authority.token(NOW))
        assert authority.revocations(NOW) is None
        assert authority.revoke("node02", NOW).number == 1
        assert authority.revoke("node03", NOW).number == 2
        later = authority.revocations(NOW + timedelta(days=31))
        assert later is not None
        assert later.serials == frozenset()

    def test_a_list_of_another_authority_is_not_taken(self, authority: Authority, tmp_path: Path) -> None:
        other = Authority(tmp_path / "other")
        other.create("node01", [Block(POOL)], NOW, 7946)
        _join(other, "node02", other.token(NOW))
        with pytest.raises(FairwayError, match="not signed by this network's authority"):
            RevocationList.verify(other.revoke("node02", NOW).signed, authority.certificate)

    def test_a_list_of_the_greatest_size_fits_into_a_message(self, authority: Authority) -> None:
        key = authority._key()
        full = RevocationList.sign(authority.certificate, key, 1, range(1 << 158, (1 << 158) + 400), NOW)
        assert len(full.signed) <= 16_000

    def test_the_block_of_a_revoked_node_is_free(self, authority: Authority) -> None:
        _join(authority, "node02", authority.token(NOW))
        authority.revoke("node02", NOW)
        permit = permit_of(_join(authority, "node03", authority.token(NOW)).certificate)
        assert permit.blocks == (ip_network("10.0.1.0/24"),)

    def test_the_authority_does_not_revoke_itself(self, authority: Authority) -> None:
        with pytest.raises(UsageError, match="the network's authority itself"):
            authority.revoke("node01", NOW)


class TestOnDisk:
    def test_secrets_are_their_owners_alone(self, authority: Authority, tmp_path: Path) -> None:
        membership, key = Membership(tmp_path / "second"), None
        key = membership.pending_key()
        pending = membership.directory / "joining.key"
        assert stat.S_IMODE(pending.stat().st_mode) == 0o600
        membership.accept(_join(authority, "node02", authority.token(NOW), key), key, "node02", NOW)
        assert not pending.exists()
        for path in (membership.directory, authority.directory):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        for path in (
            membership.directory / "node.pem",
            authority.directory / "key.pem",
            authority.directory / "authority.db",
        ):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_the_key_stays_the_same_until_it_is_used(self, tmp_path: Path) -> None:
        membership = Membership(tmp_path)
        assert membership.pending_key().private_numbers() == membership.pending_key().private_numbers()

    def test_a_host_that_joined_knows_its_network_after_a_restart(self, authority: Authority, tmp_path: Path) -> None:
        membership = Membership(tmp_path / "second")
        assert not membership.joined
        key = membership.pending_key()
        credentials = membership.accept(_join(authority, "node02", authority.token(NOW), key), key, "node02", NOW)
        again = Membership(tmp_path / "second")
        assert again.joined
        assert again.network() == authority.network()
        assert again.credentials().permit == credentials.permit
        assert again.credentials().chain == credentials.chain

    def test_what_a_host_belongs_to_is_said_where_it_belongs_to_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="belongs to no network"):
            Membership(tmp_path).network()

    def test_a_certificate_for_another_key_is_not_accepted(self, authority: Authority, tmp_path: Path) -> None:
        granted = _join(authority, "node02", authority.token(NOW))
        with pytest.raises(FairwayError, match="another key"):
            Membership(tmp_path / "x").accept(granted, new_key(), "node02", NOW)

    def test_a_certificate_of_another_authority_is_not_accepted(self, authority: Authority, tmp_path: Path) -> None:
        other = Authority(tmp_path / "other")
        other.create("node01", [Block(POOL)], NOW, 7946)
        key = new_key()
        granted = _join(authority, "node02", authority.token(NOW), key)
        forged = replace(granted, authority=_join(other, "node02", other.token(NOW)).authority)
        with pytest.raises(FairwayError, match="not valid"):
            Membership(tmp_path / "x").accept(forged, key, "node02", NOW)

    def test_a_host_of_one_network_does_not_slip_into_another(self, authority: Authority, tmp_path: Path) -> None:
        membership, key = Membership(tmp_path / "second"), new_key()
        membership.accept(_join(authority, "node02", authority.token(NOW), key), key, "node02", NOW)
        other = Authority(tmp_path / "other")
        other.create("node01", [Block(POOL)], NOW, 7946)
        with pytest.raises(UsageError, match="belongs to another network"):
            membership.accept(_join(other, "node02", other.token(NOW), key), key, "node02", NOW)

    def test_a_write_that_fails_leaves_what_was_there(
        self, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        membership, key = Membership(tmp_path / "second"), new_key()
        membership.accept(_join(authority, "node02", authority.token(NOW), key), key, "node02", NOW)
        before = membership.credentials().permit

        def full(descriptor: int) -> None:
            raise OSError(28, os.strerror(28))

        permit = before
        renewed = authority.renew(permit, RenewRequest(request(key, "node02")), NOW)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(FairwayError, match="No space left"):
            membership.accept(renewed, key, "node02", NOW)
        assert membership.credentials().permit == before
        assert not [path for path in membership.directory.iterdir() if path.name.startswith(".")]

    def test_an_authority_that_was_cut_off_while_it_began_can_begin_again(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        authority.create("node01", [Block(POOL)], NOW, 7946)
        authority.close()
        (authority.directory / "certificate.pem").unlink()
        again = Authority(tmp_path)
        assert not again.here
        network = again.create("node01", [Block(POOL)], NOW, 7946)
        assert again.network() == network

    def test_on_another_host_the_authority_says_where_to_go(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="not on this host"):
            Authority(tmp_path).token(NOW)


class TestMessages:
    @pytest.mark.parametrize("message", [JoinRequest("node02", b"1", b"2", b"3"), RenewRequest(b"3")])
    def test_questions_round_trip(self, message: JoinRequest | RenewRequest) -> None:
        assert decode_question(encode(message)) == message

    @pytest.mark.parametrize("message", [Granted(b"1", b"2", "{}", b"3"), Refused("no", "do", ("h:1",)), Refused("no")])
    def test_answers_round_trip(self, message: Granted | Refused) -> None:
        assert decode_answer(encode(message)) == message

    @given(st.binary(max_size=100))
    def test_anything_else_is_an_error_that_says_so(self, data: bytes) -> None:
        for decode in (decode_question, decode_answer):
            with pytest.raises(FairwayError):
                decode(data)

    @pytest.mark.parametrize(
        "data",
        [
            b'{"kind": "join", "node": "UPPER", "number": "", "proof": "", "request": ""}',
            b'{"kind": "join", "node": 1, "number": "", "proof": "", "request": ""}',
            b'{"kind": "join", "more": 1}',
            b'{"kind": "granted", "certificate": "", "authority": "", "network": ""}',
            b"[" * 50_000,
        ],
    )
    def test_a_question_with_wrong_fields_is_refused(self, data: bytes) -> None:
        with pytest.raises(FairwayError):
            decode_question(data)
