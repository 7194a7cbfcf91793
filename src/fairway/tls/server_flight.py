"""What a client makes of the server's flight, EncryptedExtensions to Finished, and of the tickets after it.

One class a state, as in `client`, whose `ExpectServerHello` leads here. Who the server is is settled on the way: its
certificates are judged by `trust`, its key by the signature over the transcript.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fairway.tls import extensions, limits, signatures
from fairway.tls.alerts import AlertDescription, TlsAlert
from fairway.tls.cipher_suites import CipherSuite
from fairway.tls.config import ClientConfig
from fairway.tls.events import Complete, EarlyData, Level, PeerParameters, SessionTicket
from fairway.tls.extensions import Extensions, ExtensionType
from fairway.tls.handshake import Handshake, State, check_offered, illegal, require
from fairway.tls.identity import Identity
from fairway.tls.key_exchange import NamedGroup
from fairway.tls.key_schedule import KeySchedule, finished_mac, hkdf_expand_label
from fairway.tls.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    EncryptedExtensions,
    Finished,
    HandshakeType,
    NewSessionTicket,
)
from fairway.tls.signatures import CLIENT_CONTEXT, SERVER_CONTEXT, SignatureScheme
from fairway.tls.tickets import QUIC_EARLY_DATA
from fairway.tls.trust import parse_chain

_NO_CERTIFICATE = Certificate(b"", ()).encode()

_IN_ENCRYPTED_EXTENSIONS = frozenset(
    (
        ExtensionType.SERVER_NAME,
        ExtensionType.SUPPORTED_GROUPS,
        ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION,
        ExtensionType.QUIC_TRANSPORT_PARAMETERS,
    )
)


@dataclass(slots=True)
class AgreedKeys:
    """What ServerHello settled."""

    schedule: KeySchedule
    suite: CipherSuite
    group: NamedGroup
    client_secret: bytes
    server_secret: bytes
    resumed: SessionTicket | None


@dataclass(slots=True)
class ExpectEncryptedExtensions:
    """ServerHello is in."""

    handshake: Handshake
    config: ClientConfig
    offered: Extensions
    keys: AgreedKeys
    early: bool

    level: ClassVar[Level] = Level.HANDSHAKE
    accepts: ClassVar[Mapping[int, int]] = {HandshakeType.ENCRYPTED_EXTENSIONS: limits.MAX_ENCRYPTED_EXTENSIONS_BYTES}

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """EncryptedExtensions."""
        received = EncryptedExtensions.decode(body).extensions
        self.handshake.transcript.add(message)
        legal = _IN_ENCRYPTED_EXTENSIONS & self.offered.keys()
        if self.early:
            legal |= {ExtensionType.EARLY_DATA}
        check_offered(received, legal, self.offered, "RFC 8446 section 4.3.1")
        if received.get(ExtensionType.SERVER_NAME):
            raise illegal("the server's server_name is not empty", "RFC 6066 section 3")
        parameters = require(received, ExtensionType.QUIC_TRANSPORT_PARAMETERS, "RFC 9001 section 8.2")
        alpn = self._protocol(received.get(ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION))
        if self.early:
            self._judge_early_data(ExtensionType.EARLY_DATA in received, alpn)
        self.handshake.events.append(PeerParameters(parameters))
        resumed = self.keys.resumed
        if resumed is not None:
            return ExpectFinished(self.handshake, self.config, self.keys, alpn, None, resumed.peer_certificates)
        return ExpectCertificateRequest(self.handshake, self.config, self.keys, alpn)

    def _judge_early_data(self, accepted: bool, alpn: str | None) -> None:
        """Early data belongs to the session as it was (RFC 8446 section 4.2.10)."""
        ticket = self.keys.resumed
        if accepted and (ticket is None or ticket.cipher_suite != self.keys.suite or ticket.alpn != alpn):
            raise illegal("early data is accepted for another session", "RFC 8446 section 4.2.10")
        self.handshake.events.append(EarlyData(accepted))

    def _protocol(self, body: bytes | None) -> str | None:
        if body is None:
            if self.config.alpn:
                raise TlsAlert(
                    AlertDescription.NO_APPLICATION_PROTOCOL, "the server chose no protocol", "RFC 9001 section 8.1"
                )
            return None
        chosen = extensions.decode_protocols(body)
        for protocol in self.config.alpn:
            if chosen == (protocol.encode("utf-8"),):
                return protocol
        raise illegal("the server's protocol was not offered", "RFC 7301 section 3.1")


@dataclass(slots=True)
class ExpectCertificateRequest:
    """EncryptedExtensions is in; the server may ask for a certificate before it shows its own."""

    handshake: Handshake
    config: ClientConfig
    keys: AgreedKeys
    alpn: str | None

    level: ClassVar[Level] = Level.HANDSHAKE
    accepts: ClassVar[Mapping[int, int]] = {
        HandshakeType.CERTIFICATE_REQUEST: limits.MAX_CERTIFICATE_REQUEST_BYTES,
        HandshakeType.CERTIFICATE: limits.MAX_CERTIFICATE_MESSAGE_BYTES,
    }

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """CertificateRequest, or Certificate at once."""
        if kind == HandshakeType.CERTIFICATE:
            following = ExpectCertificate(self.handshake, self.config, self.keys, self.alpn, None)
            return following.handle(kind, body, message)
        request = CertificateRequest.decode(body)
        self.handshake.transcript.add(message)
        if request.context:
            raise illegal("the context of a CertificateRequest is not empty", "RFC 8446 section 4.3.2")
        schemes = require(request.extensions, ExtensionType.SIGNATURE_ALGORITHMS, "RFC 8446 section 4.3.2")
        answer = Answer(self.config.identity, extensions.decode_codes(schemes))
        return ExpectCertificate(self.handshake, self.config, self.keys, self.alpn, answer)


@dataclass(slots=True)
class Answer:
    """What the client has for a CertificateRequest: who it is, if anybody, and the schemes that the server takes."""

    identity: Identity | None
    schemes: tuple[int, ...]

    @property
    def scheme(self) -> SignatureScheme | None:
        """The scheme to sign with; None if the client must do without a certificate."""
        if self.identity is None:
            return None
        return next((scheme for scheme in self.identity.schemes if scheme in self.schemes), None)


@dataclass(slots=True)
class ExpectCertificate:
    """The server is to show its certificate; `answer` is what it asked of ours, if it did."""

    handshake: Handshake
    config: ClientConfig
    keys: AgreedKeys
    alpn: str | None
    answer: Answer | None

    level: ClassVar[Level] = Level.HANDSHAKE
    accepts: ClassVar[Mapping[int, int]] = {HandshakeType.CERTIFICATE: limits.MAX_CERTIFICATE_MESSAGE_BYTES}

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """Certificate."""
        certificate = Certificate.decode(body)
        self.handshake.transcript.add(message)
        if certificate.context:
            raise illegal("the context of the server's Certificate is not empty", "RFC 8446 section 4.4.2")
        if not certificate.entries:
            raise TlsAlert(AlertDescription.DECODE_ERROR, "the server shows no certificate", "RFC 8446 section 4.4.2.4")
        for entry in certificate.entries:
            check_offered(entry.extensions, frozenset(), self.config.fixed_extensions, "RFC 8446 section 4.4.2")
        data = tuple(entry.data for entry in certificate.entries)
        config = self.config
        if config.trust is not None and config.subject is not None:
            key = config.trust.server_key(data, config.subject, self.handshake.now())
        else:
            key = signatures.public_key(parse_chain(data[:1])[0])
        return ExpectCertificateVerify(self.handshake, self.config, self.keys, self.alpn, self.answer, data, key)


@dataclass(slots=True)
class ExpectCertificateVerify:
    """The server's chain is good; now it must show that the key is its own."""

    handshake: Handshake
    config: ClientConfig
    keys: AgreedKeys
    alpn: str | None
    answer: Answer | None
    chain: tuple[bytes, ...]
    key: signatures.PublicKey

    level: ClassVar[Level] = Level.HANDSHAKE
    accepts: ClassVar[Mapping[int, int]] = {HandshakeType.CERTIFICATE_VERIFY: limits.MAX_CERTIFICATE_VERIFY_BYTES}

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """CertificateVerify."""
        proof = CertificateVerify.decode(body)
        transcript = self.handshake.transcript
        signatures.verify(self.key, proof.scheme, proof.signature, SERVER_CONTEXT + transcript.digest())
        transcript.add(message)
        return ExpectFinished(self.handshake, self.config, self.keys, self.alpn, self.answer, self.chain)


@dataclass(slots=True)
class ExpectFinished:
    """The server is who it says; its Finished closes its flight and opens ours."""

    handshake: Handshake
    config: ClientConfig
    keys: AgreedKeys
    alpn: str | None
    answer: Answer | None
    chain: tuple[bytes, ...]

    level: ClassVar[Level] = Level.HANDSHAKE
    accepts: ClassVar[Mapping[int, int]] = {HandshakeType.FINISHED: limits.MAX_FINISHED_BYTES}

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """Finished."""
        handshake, keys, suite = self.handshake, self.keys, self.keys.suite
        transcript = handshake.transcript
        handshake.check_finished(suite.hash_name, keys.server_secret, Finished.decode(body).verify_data)
        transcript.add(message)
        digest = transcript.digest()
        client, server = keys.schedule.enter_application(digest)
        flight = self._authenticate()
        finished = Finished(finished_mac(suite.hash_name, keys.client_secret, transcript.digest())).encode()
        transcript.add(finished)
        handshake.send(Level.HANDSHAKE, flight + finished)
        handshake.log("CLIENT_TRAFFIC_SECRET_0", client)
        handshake.log("SERVER_TRAFFIC_SECRET_0", server)
        if handshake.keylog is not None:
            handshake.log("EXPORTER_SECRET", keys.schedule.derive("exp master", digest))
        handshake.install(Level.APPLICATION, suite, client, server)
        name = self.config.server_name
        handshake.events.append(Complete(self.alpn, suite, keys.group, self.chain, keys.resumed is not None, name))
        return Established(
            handshake, keys.schedule, suite, transcript.digest(), self.alpn, name, self.chain, self.config.identity_name
        )

    def _authenticate(self) -> bytes:
        """The Certificate and CertificateVerify that the server asked for, if it did, now in the transcript."""
        if self.answer is None:
            return b""
        transcript, identity, scheme = self.handshake.transcript, self.answer.identity, self.answer.scheme
        if identity is None or scheme is None:
            transcript.add(_NO_CERTIFICATE)
            return _NO_CERTIFICATE
        transcript.add(identity.certificate_message)
        signature = signatures.sign(identity.key, scheme, CLIENT_CONTEXT + transcript.digest())
        proof = CertificateVerify(scheme, signature).encode()
        transcript.add(proof)
        return identity.certificate_message + proof


@dataclass(slots=True)
class Established:
    """The handshake is complete; the server may hand out tickets. KeyUpdate is not QUIC's (RFC 9001 section 6)."""

    handshake: Handshake
    schedule: KeySchedule
    suite: CipherSuite
    transcript_hash: bytes
    alpn: str | None
    server_name: str | None
    chain: tuple[bytes, ...]
    identity: bytes
    tickets: int = 0

    level: ClassVar[Level] = Level.APPLICATION
    accepts: ClassVar[Mapping[int, int]] = {HandshakeType.NEW_SESSION_TICKET: limits.MAX_NEW_SESSION_TICKET_BYTES}

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """NewSessionTicket."""
        ticket = NewSessionTicket.decode(body)
        if ticket.lifetime_s > limits.MAX_TICKET_LIFETIME_S:
            raise illegal("a ticket lives longer than seven days", "RFC 8446 section 4.6.1")
        early_data = ticket.extensions.get(ExtensionType.EARLY_DATA)
        if early_data is not None and extensions.decode_max_early_data(early_data) != QUIC_EARLY_DATA:
            raise illegal("a ticket limits early data", "RFC 9001 section 4.6.1")
        self.tickets += 1
        if self.tickets > limits.MAX_SESSION_TICKETS or not ticket.lifetime_s:
            return self
        name, length = self.suite.hash_name, self.suite.hash_length
        resumption = self.schedule.derive("res master", self.transcript_hash)
        self.handshake.events.append(
            SessionTicket(
                ticket=ticket.ticket,
                secret=hkdf_expand_label(name, resumption, "resumption", ticket.nonce, length),
                lifetime_s=ticket.lifetime_s,
                age_add_ms=ticket.age_add_ms,
                early_data=early_data is not None,
                received_at=self.handshake.now(),
                cipher_suite=self.suite,
                alpn=self.alpn,
                server_name=self.server_name,
                peer_certificates=self.chain,
                identity=self.identity,
            )
        )
        return self
