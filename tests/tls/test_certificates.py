from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from tls_pair import (
    DAY,
    NOW,
    Authority,
    Pair,
    client_config,
    localhost,
    new_client,
    new_server,
    root,
    run,
    sent,
    server_config,
    split,
)

from effort import counted
from fairway.tls import (
    AlertDescription,
    ClientConfig,
    Identity,
    Level,
    NamedGroup,
    ServerConfig,
    SignatureScheme,
    TlsAlert,
    development,
    limits,
    self_signed,
    self_signed_identity,
)
from fairway.tls.identity import IdentityTable
from fairway.tls.messages import Certificate, CertificateEntry, CertificateRequest, CertificateVerify
from fairway.tls.trust import system_store_path

CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH


def refused(client: ClientConfig | None, server: ServerConfig | None) -> TlsAlert:
    with pytest.raises(TlsAlert) as raised:
        run(client, server)
    return raised.value


def pem(identity: Identity) -> bytes:
    return b"".join(x509.load_der_x509_certificate(data).public_bytes(Encoding.PEM) for data in identity.chain)


def key_pem(identity: Identity) -> bytes:
    return identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class TestVerification:
    def test_a_chain_through_intermediates_is_followed(self) -> None:
        identity = Authority("second", parent=Authority("first", parent=root())).issue("localhost")
        assert len(identity.chain) == 3
        assert run(None, server_config(identity)).client_complete.peer_certificates == identity.chain

    def test_a_missing_intermediate_is_unknown_ca(self) -> None:
        identity = Authority("first", parent=root()).issue("localhost")
        alone = Identity(identity.chain[:1], identity.key)
        assert refused(None, server_config(alone)).alert is AlertDescription.UNKNOWN_CA

    def test_a_path_may_be_so_deep_and_no_deeper(self) -> None:
        authority = root()
        for depth in range(limits.MAX_CHAIN_DEPTH):
            authority = Authority(f"at depth {depth}", parent=authority)
        assert run(None, server_config(authority.issue("localhost"))).client_complete.alpn == "h3"
        deeper = Authority("too deep", parent=authority).issue("localhost")
        assert refused(None, server_config(deeper)).alert is AlertDescription.UNKNOWN_CA

    def test_a_maze_of_authorities_that_certify_each_other_is_left_soon(self) -> None:
        mazes = []
        for _ in range(limits.MAX_CHAIN_CERTIFICATES - 1):
            maze = Authority("maze")
            mazes.append(maze.certificate.public_bytes(Encoding.DER))
        leaf = maze.issue("localhost")
        server = server_config(Identity((*leaf.chain, *mazes), leaf.key))
        with counted(15_000):
            assert refused(None, server).alert is AlertDescription.UNKNOWN_CA

    @pytest.mark.parametrize("place", [0, 1])
    def test_an_rsa_key_that_is_too_long_is_refused(self, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "MAX_RSA_BITS", 1024)
        kinds = ("rsa", "p256") if place == 0 else ("p256", "rsa")
        identity = Authority(f"first {place}", key_type=kinds[1], parent=root()).issue("localhost", key_type=kinds[0])
        alert = refused(None, server_config(identity))
        assert alert.alert is AlertDescription.BAD_CERTIFICATE
        assert "too long" in alert.reason

    def test_a_name_of_a_kind_that_cannot_be_read_is_bad_certificate(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The library raises something of its own for it, after the path has been found."""
        edi_party_name = x509.UnrecognizedExtension(
            x509.SubjectAlternativeName.oid, bytes.fromhex("3007a505a1030c0161")
        )
        with pytest.raises(ValueError, match="names"):
            root().issue(usage=CLIENT_AUTH, more=edi_party_name)
        monkeypatch.setattr("fairway.tls.identity.dns_names", lambda _: ())
        identity = root().issue(usage=CLIENT_AUTH, more=edi_party_name)
        alert = refused(client_config(identity=identity), server_config(client_ca=[root().certificate]))
        assert alert.alert is AlertDescription.BAD_CERTIFICATE

    def test_another_authority_is_unknown_ca(self) -> None:
        identity = Authority("stranger").issue("localhost")
        assert refused(None, server_config(identity)).alert is AlertDescription.UNKNOWN_CA

    def test_an_authority_of_the_same_name_is_not_the_same(self) -> None:
        impostor = Authority("stranger")
        impostor.name = root().name
        assert refused(None, server_config(impostor.issue("localhost"))).alert is AlertDescription.UNKNOWN_CA

    @pytest.mark.parametrize("may_sign", [True, False])
    def test_an_authority_whose_key_has_another_use_is_none(self, may_sign: bool) -> None:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=may_sign,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        server = server_config(Authority(f"may sign {may_sign}", parent=root(), usage=usage).issue("localhost"))
        if may_sign:
            assert run(None, server).client_complete.alpn == "h3"
        else:
            assert refused(None, server).alert is AlertDescription.UNKNOWN_CA

    def test_a_leaf_cannot_certify_another(self) -> None:
        leaf = root().issue("localhost")
        forger = Authority("forger")
        forger.name = x509.load_der_x509_certificate(leaf.chain[0]).subject
        forger.key = leaf.key
        forged = forger.issue("other")
        identity = Identity(forged.chain + leaf.chain, forged.key)
        alert = refused(client_config("other"), server_config(identity)).alert
        assert alert in (AlertDescription.UNKNOWN_CA, AlertDescription.BAD_CERTIFICATE)

    @pytest.mark.parametrize("days", [(-30, -1), (1, 30)])
    def test_a_certificate_out_of_its_time_is_certificate_expired(self, days: tuple[int, int]) -> None:
        identity = root().issue("localhost", days=days)
        alert = refused(None, server_config(identity))
        assert alert.alert is AlertDescription.CERTIFICATE_EXPIRED

    def test_another_name_is_bad_certificate(self) -> None:
        alert = refused(client_config("elsewhere.example"), None)
        assert alert.alert is AlertDescription.BAD_CERTIFICATE
        assert "another name" in alert.reason

    @pytest.mark.parametrize("name", ["127.0.0.1", "::1"])
    def test_an_address_is_verified_and_not_sent_as_server_name(self, name: str) -> None:
        pair = run(client_config(name), server_config(root().issue("127.0.0.1", "::1")))
        assert pair.server_complete.server_name is None
        assert pair.client_complete.server_name == name
        assert refused(client_config(name), None).alert is AlertDescription.BAD_CERTIFICATE

    def test_a_certificate_for_clients_is_not_one_for_servers(self) -> None:
        identity = root().issue("localhost", usage=CLIENT_AUTH)
        assert refused(None, server_config(identity)).alert is AlertDescription.BAD_CERTIFICATE

    def test_a_client_may_trust_a_certificate_that_signs_itself(self) -> None:
        certificate, key = self_signed(["localhost"], not_before=NOW - DAY)
        identity = Identity((certificate.public_bytes(Encoding.DER),), key)
        assert run(client_config(ca=[certificate]), server_config(identity)).client_complete.alpn == "h3"
        assert refused(None, server_config(identity)).alert is AlertDescription.UNKNOWN_CA
        assert refused(client_config("other", ca=[certificate]), server_config(identity))

    def test_without_verification_any_certificate_will_do_but_not_any_signature(self) -> None:
        stranger = server_config(Authority("stranger").issue("other", days=(-2, -1)))
        config = ClientConfig(None, ("h3",), verify=False)
        assert run(config, stranger).client_complete.server_name is None
        flight = Flight(config, stranger)
        proof = CertificateVerify.decode(flight.messages[2][4:])
        broken = CertificateVerify(proof.scheme, proof.signature[:-1] + bytes((proof.signature[-1] ^ 1,)))
        assert flight.refused(2, broken.encode()) is AlertDescription.DECRYPT_ERROR

    def test_the_authorities_may_be_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "ca.pem"
        path.write_bytes(root().certificate.public_bytes(Encoding.PEM))
        for ca in (path, str(path)):
            assert run(client_config(ca=ca)).client_complete.alpn == "h3"

    def test_the_systems_store_is_the_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "ca.pem"
        path.write_bytes(root().certificate.public_bytes(Encoding.PEM))
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert system_store_path() == path
        assert run(client_config(ca=None)).client_complete.alpn == "h3"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
        with pytest.raises(FileNotFoundError):
            client_config(ca=None)


class Flight:
    """A server's flight to a client, message by message, for changing one."""

    def __init__(self, client: ClientConfig | None = None, server: ServerConfig | None = None) -> None:
        self.client = new_client(client)
        (_, hello), *_ = sent(self.client.start())
        (_, answer), (_, flight) = sent(new_server(server).receive(Level.INITIAL, hello))
        self.client.receive(Level.INITIAL, answer)
        self.messages = split(flight)

    def refused(self, index: int, message: bytes) -> AlertDescription:
        self.messages[index] = message
        with pytest.raises(TlsAlert) as raised:
            self.client.receive(Level.HANDSHAKE, b"".join(self.messages))
        return raised.value.alert


class TestCertificateMessages:
    def test_an_empty_chain_of_a_server_is_a_decode_error(self) -> None:
        assert Flight().refused(1, Certificate(b"", ()).encode()) is AlertDescription.DECODE_ERROR

    def test_a_context_of_a_server_is_refused(self) -> None:
        message = Certificate(b"x", (CertificateEntry(localhost().chain[0], {}),))
        assert Flight().refused(1, message.encode()) is AlertDescription.ILLEGAL_PARAMETER

    def test_what_is_no_certificate_is_bad_certificate(self) -> None:
        message = Certificate(b"", (CertificateEntry(b"not a certificate", {}),))
        assert Flight().refused(1, message.encode()) is AlertDescription.BAD_CERTIFICATE

    def test_an_extension_that_was_not_asked_for_is_refused(self) -> None:
        message = Certificate(b"", (CertificateEntry(localhost().chain[0], {5: b""}),))
        assert Flight().refused(1, message.encode()) is AlertDescription.UNSUPPORTED_EXTENSION

    def test_a_signature_by_another_key_is_a_decrypt_error(self) -> None:
        other = Flight(None, server_config(self_signed_identity(["localhost"])))
        assert Flight().refused(2, other.messages[2]) is AlertDescription.DECRYPT_ERROR

    def test_a_signature_over_another_transcript_is_a_decrypt_error(self) -> None:
        other = Flight(client_config(groups=(NamedGroup.X25519,)))
        assert Flight().refused(2, other.messages[2]) is AlertDescription.DECRYPT_ERROR

    @pytest.mark.parametrize(
        "scheme",
        [SignatureScheme.RSA_PKCS1_SHA256, SignatureScheme.ED25519, SignatureScheme.ECDSA_SECP384R1_SHA384, 0x0203, 0],
    )
    def test_a_scheme_that_does_not_fit_is_refused(self, scheme: int) -> None:
        flight = Flight()
        signature = CertificateVerify.decode(flight.messages[2][4:]).signature
        message = CertificateVerify(scheme, signature).encode()
        assert flight.refused(2, message) is AlertDescription.ILLEGAL_PARAMETER

    def test_a_pkcs_1_signature_is_not_for_handshakes(self) -> None:
        flight = Flight(None, server_config(root().issue("localhost", key_type="rsa")))
        message = CertificateVerify(SignatureScheme.RSA_PKCS1_SHA256, bytes(256)).encode()
        assert flight.refused(2, message) is AlertDescription.ILLEGAL_PARAMETER

    def test_a_finished_that_does_not_fit_is_a_decrypt_error(self) -> None:
        flight = Flight()
        finished = bytearray(flight.messages[3])
        finished[-1] ^= 1
        assert flight.refused(3, bytes(finished)) is AlertDescription.DECRYPT_ERROR


class TestServerNames:
    def test_the_identity_is_chosen_by_name(self) -> None:
        first, second = root().issue("one.example"), root().issue("two.example", "three.example")
        server = server_config(first, second)
        for name, identity in (("one.example", first), ("two.example", second), ("THREE.example", second)):
            pair = run(client_config(name), server)
            assert pair.client_complete.peer_certificates == identity.chain
            assert pair.server_complete.server_name == name.lower()

    def test_a_wildcard_stands_for_one_label_and_an_exact_name_goes_first(self) -> None:
        exact, wild, other = root().issue("a.example"), root().issue("*.example"), root().issue("other")
        table = IdentityTable((other, wild, exact))
        schemes = tuple(SignatureScheme)

        def chosen(name: str | None) -> Identity | None:
            found = table.select(name, schemes)
            return None if found is None else found[0]

        assert chosen("a.example") is exact
        assert chosen("b.example") is wild
        assert chosen("deep.b.example") is other
        assert chosen("example") is other
        assert chosen(None) is other

    def test_a_key_of_the_kind_that_the_client_verifies_is_chosen(self) -> None:
        ecdsa, rsa = root().issue("localhost"), root().issue("localhost", key_type="rsa")
        table = IdentityTable((ecdsa, rsa))
        assert table.select("localhost", tuple(SignatureScheme)) == (ecdsa, SignatureScheme.ECDSA_SECP256R1_SHA256)
        assert table.select("localhost", (0x0805,)) == (rsa, SignatureScheme.RSA_PSS_RSAE_SHA384)
        assert table.select("localhost", (0x0807,)) is None


class TestClientCertificates:
    def both(self, client: Identity | None, *, required: bool = True) -> Pair:
        server = server_config(client_ca=[root().certificate], require_client_certificate=required)
        return run(client_config(identity=client), server)

    @pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa", "ed25519"])
    def test_a_client_shows_who_it_is(self, kind: str) -> None:
        identity = root().issue("node-1", key_type=kind, usage=CLIENT_AUTH)
        pair = self.both(identity)
        assert pair.server_complete.peer_certificates == identity.chain
        assert pair.client_complete.peer_certificates == localhost().chain

    def test_it_must_show_that_the_key_is_its_own(self) -> None:
        client = new_client(client_config(identity=root().issue("node-1", usage=CLIENT_AUTH)))
        server = new_server(server_config(client_ca=[root().certificate]))
        answers = sent(server.receive(*sent(client.start())[0]))
        ((level, flight),) = [data for answer in answers for data in sent(client.receive(*answer))]
        certificate, proof, finished = split(flight)
        scheme, signature = proof[4:6], bytearray(proof[8:])
        signature[-1] ^= 1
        forged = proof[:4] + scheme + proof[6:8] + signature
        with pytest.raises(TlsAlert) as raised:
            server.receive(level, certificate + forged + finished)
        assert raised.value.alert is AlertDescription.DECRYPT_ERROR
        assert "signature" in raised.value.reason

    def test_its_certificate_needs_no_alternative_name(self) -> None:
        identity = root().issue(usage=CLIENT_AUTH)
        assert self.both(identity).server_complete.peer_certificates == identity.chain

    def test_a_required_certificate_that_is_not_shown_is_certificate_required(self) -> None:
        with pytest.raises(TlsAlert) as raised:
            self.both(None)
        assert raised.value.alert is AlertDescription.CERTIFICATE_REQUIRED

    def test_an_optional_certificate_may_be_missing(self) -> None:
        assert self.both(None, required=False).server_complete.peer_certificates == ()

    def test_an_optional_certificate_is_verified_if_it_is_shown(self) -> None:
        with pytest.raises(TlsAlert) as raised:
            self.both(Authority("stranger").issue("node-1", usage=CLIENT_AUTH), required=False)
        assert raised.value.alert is AlertDescription.UNKNOWN_CA

    def test_an_expired_one_is_certificate_expired(self) -> None:
        with pytest.raises(TlsAlert) as raised:
            self.both(root().issue("node-1", usage=CLIENT_AUTH, days=(-3, -2)))
        assert raised.value.alert is AlertDescription.CERTIFICATE_EXPIRED

    def test_a_servers_certificate_is_not_one_for_clients(self) -> None:
        with pytest.raises(TlsAlert) as raised:
            self.both(root().issue("node-1"))
        assert raised.value.alert is AlertDescription.BAD_CERTIFICATE

    def test_a_client_that_is_not_asked_says_nothing(self) -> None:
        pair = run(client_config(identity=root().issue("node-1", usage=CLIENT_AUTH)))
        assert pair.server_complete.peer_certificates == ()

    def test_a_client_whose_key_the_server_cannot_verify_shows_nothing(self) -> None:
        server = server_config(client_ca=[root().certificate])
        request = CertificateRequest(b"", {13: b"\x00\x02\x04\x03"}).encode()
        object.__setattr__(server, "certificate_request", request)
        for kind, shown in (("p256", 1), ("ed25519", 0)):
            identity = root().issue("node-1", key_type=kind, usage=CLIENT_AUTH)
            pair = run(client_config(identity=identity), server)
            assert len(pair.server_complete.peer_certificates) == shown

    def test_a_request_without_signature_algorithms_is_missing_extension(self) -> None:
        flight = Flight()
        flight.client.receive(Level.HANDSHAKE, flight.messages[0])
        with pytest.raises(TlsAlert) as raised:
            flight.client.receive(Level.HANDSHAKE, CertificateRequest(b"", {}).encode())
        assert raised.value.alert is AlertDescription.MISSING_EXTENSION

    def test_a_request_with_a_context_is_refused(self) -> None:
        flight = Flight()
        flight.client.receive(Level.HANDSHAKE, flight.messages[0])
        with pytest.raises(TlsAlert) as raised:
            flight.client.receive(Level.HANDSHAKE, CertificateRequest(b"x", {13: b"\x00\x02\x04\x03"}).encode())
        assert raised.value.alert is AlertDescription.ILLEGAL_PARAMETER


class TestIdentities:
    def test_an_identity_is_read_from_pem_and_from_files(self, tmp_path: Path) -> None:
        identity = Authority("first", parent=root()).issue("localhost")
        assert Identity.from_pem(pem(identity), key_pem(identity)).chain == identity.chain
        chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
        chain.write_bytes(pem(identity))
        encrypted = BestAvailableEncryption(b"secret")
        key.write_bytes(identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encrypted))
        assert Identity.from_files(chain, str(key), b"secret").names == ("localhost",)

    def test_a_key_of_another_certificate_is_a_value_error(self) -> None:
        with pytest.raises(ValueError, match="private key"):
            Identity(localhost().chain, development.generate_key("p256"))

    def test_an_empty_chain_is_a_value_error(self) -> None:
        with pytest.raises(ValueError, match="certificate"):
            Identity((), localhost().key)

    def test_the_key_stays_out_of_reprs(self) -> None:
        assert "key=" not in repr(localhost())


class TestDevelopment:
    @pytest.mark.parametrize("key_type", development.KEY_TYPES)
    def test_a_certificate_on_the_spot_serves_whoever_was_given_it(self, key_type: str) -> None:
        certificate, key = self_signed(["localhost", "*.test", "127.0.0.1"], key_type, not_before=NOW - timedelta(1))
        identity = Identity((certificate.public_bytes(Encoding.DER),), key)
        for name in ("localhost", "a.test", "127.0.0.1"):
            assert run(client_config(name, ca=[certificate]), server_config(identity)).client_complete.alpn == "h3"

    def test_it_needs_a_name_and_a_known_kind_of_key(self) -> None:
        with pytest.raises(ValueError, match="name"):
            self_signed([])
        with pytest.raises(ValueError, match="key type"):
            self_signed(["localhost"], "dsa")


class TestConfigurations:
    @pytest.mark.parametrize(
        "changes",
        [
            {"alpn": ("",)},
            {"alpn": ("x" * 256,)},
            {"cipher_suites": ()},
            {"groups": ()},
            {"groups": (NamedGroup.X25519,), "key_shares": (NamedGroup.SECP256R1,)},
        ],
    )
    def test_what_cannot_work_is_a_value_error_at_once(self, changes: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"protocol|suite|group"):
            client_config(**changes)  # type: ignore[arg-type]

    def test_a_server_to_verify_needs_a_name(self) -> None:
        with pytest.raises(ValueError, match="name"):
            client_config(None)

    def test_a_server_needs_an_identity(self) -> None:
        with pytest.raises(ValueError, match="identity"):
            ServerConfig((), ("h3",))

    def test_client_certificates_cannot_be_required_of_nobody(self) -> None:
        with pytest.raises(ValueError, match="client_ca"):
            server_config(require_client_certificate=True)
