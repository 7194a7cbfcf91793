"""What a `Trust` remembers of the chains that it judged."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tls_pair import DAY, NOW, Authority, localhost, root

from fairway.tls import AlertDescription, Identity, TlsAlert, limits, trust
from fairway.tls.trust import Trust, server_subject, trust_in

LOCALHOST = server_subject("localhost")
SECOND = timedelta(seconds=1)


class Judged:
    """Counts the chains that were parsed and judged, not remembered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        original = trust.parse_chain

        def parse(chain: tuple[bytes, ...]) -> object:
            self.count += 1
            return original(chain)

        monkeypatch.setattr(trust, "parse_chain", parse)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Judged:
    return Judged(monkeypatch)


def refused(by: Trust, identity: Identity, name: str = "localhost", now: datetime = NOW) -> AlertDescription:
    with pytest.raises(TlsAlert) as raised:
        by.server_key(identity.chain, server_subject(name), now)
    return raised.value.alert


def ours() -> Trust:
    return Trust([root().certificate])


class TestVerdicts:
    def test_the_same_chain_for_the_same_name_is_judged_once(self, judged: Judged) -> None:
        by = ours()
        first = by.server_key(localhost().chain, LOCALHOST, NOW)
        again = by.server_key(tuple(bytes(bytearray(data)) for data in localhost().chain), LOCALHOST, NOW + SECOND)
        assert first == again == localhost().key.public_key()
        assert judged.count == 1

    def test_another_name_is_another_question(self, judged: Judged) -> None:
        by, identity = ours(), root().issue("one.example", "two.example")
        for name in ("one.example", "two.example"):
            by.server_key(identity.chain, server_subject(name), NOW)
        assert judged.count == 2
        assert refused(by, identity, "three.example") is AlertDescription.BAD_CERTIFICATE

    def test_an_address_is_not_the_name_that_reads_like_it(self) -> None:
        by, identity = ours(), root().issue("127.0.0.1")
        by.server_key(identity.chain, server_subject("127.0.0.1"), NOW)
        assert refused(by, root().issue("localhost"), "127.0.0.1") is AlertDescription.BAD_CERTIFICATE

    def test_another_chain_with_the_same_leaf_is_another_question(self) -> None:
        by, identity = ours(), Authority("middle", parent=root()).issue("localhost")
        by.server_key(identity.chain, LOCALHOST, NOW)
        assert refused(by, Identity(identity.chain[:1], identity.key)) is AlertDescription.UNKNOWN_CA

    def test_what_one_trusts_another_does_not(self) -> None:
        ours().server_key(localhost().chain, LOCALHOST, NOW)
        assert refused(Trust([Authority("stranger").certificate]), localhost()) is AlertDescription.UNKNOWN_CA

    def test_a_client_is_no_server_and_a_server_no_client(self) -> None:
        by = ours()
        by.server_key(localhost().chain, LOCALHOST, NOW)
        with pytest.raises(TlsAlert):
            by.client_key(localhost().chain, NOW)

    def test_a_refusal_is_not_remembered(self, judged: Judged) -> None:
        by, identity = ours(), root().issue("localhost", days=(1, 30))
        assert refused(by, identity) is AlertDescription.CERTIFICATE_EXPIRED
        by.server_key(identity.chain, LOCALHOST, NOW + 2 * DAY)
        assert judged.count == 2

    @pytest.mark.parametrize("outside", [30 * DAY + SECOND, -DAY - SECOND])
    def test_validity_is_looked_at_every_time(self, outside: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "VERDICT_LIFETIME_S", 1e9)
        by = ours()
        by.server_key(localhost().chain, LOCALHOST, NOW)
        assert refused(by, localhost(), now=NOW + outside) is AlertDescription.CERTIFICATE_EXPIRED

    def test_an_authoritys_end_ends_the_verdict_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "VERDICT_LIFETIME_S", 1e9)
        by, identity = ours(), root().issue("localhost", days=(-1, 800))
        by.server_key(identity.chain, LOCALHOST, NOW)
        with pytest.raises(TlsAlert):
            by.server_key(identity.chain, LOCALHOST, NOW + 400 * DAY)

    @pytest.mark.parametrize("later_s", [limits.VERDICT_LIFETIME_S + 1, -1])
    def test_it_is_judged_anew_after_a_while_and_when_the_clock_goes_back(self, later_s: int, judged: Judged) -> None:
        by = ours()
        by.server_key(localhost().chain, LOCALHOST, NOW)
        by.server_key(localhost().chain, LOCALHOST, NOW + later_s * SECOND)
        assert judged.count == 2

    def test_only_so_many_are_remembered(self, judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "MAX_VERDICTS", 2)
        by = ours()
        identities = [root().issue("localhost") for _ in range(3)]
        for identity in (*identities, identities[2], identities[1]):
            by.server_key(identity.chain, LOCALHOST, NOW)
        assert judged.count == 3
        by.server_key(identities[0].chain, LOCALHOST, NOW)
        assert judged.count == 4

    def test_a_long_chain_is_not_remembered(self, judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "MAX_REMEMBERED_CHAIN_BYTES", 100)
        by = ours()
        for _ in range(2):
            by.server_key(localhost().chain, LOCALHOST, NOW)
        assert judged.count == 2


class TestFiles:
    def test_a_file_of_authorities_is_loaded_again_when_it_changes(self, tmp_path: Path) -> None:
        path = tmp_path / "ca.pem"
        path.write_bytes(root().certificate.public_bytes(Encoding.PEM))
        before = trust_in(path)
        assert trust_in(str(path)) is before
        before.server_key(localhost().chain, LOCALHOST, NOW)
        path.write_bytes(Authority("stranger").certificate.public_bytes(Encoding.PEM))
        after = trust_in(path)
        assert after is not before
        assert refused(after, localhost()) is AlertDescription.UNKNOWN_CA
