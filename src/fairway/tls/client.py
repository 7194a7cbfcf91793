"""The client's handshake (RFC 8446 appendix A.1), one class a state; each has what is valid then and makes the next.

start -> ExpectServerHello -> ExpectEncryptedExtensions -> ExpectCertificateRequest -> ExpectCertificate
              |      ^                  |                           |                        |
              retry, once               (a session resumed)         (or a Certificate)       v
                                        `--------------> ExpectFinished <- ExpectCertificateVerify
                                                                `-> Established
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from fairway.tls import extensions, limits, signatures
from fairway.tls.alerts import AlertDescription, TlsAlert
from fairway.tls.cipher_suites import CipherSuite
from fairway.tls.config import ClientConfig
from fairway.tls.events import Complete, EarlyData, Event, Level, PeerParameters, SessionTicket
from fairway.tls.extensions import Extensions, ExtensionType
from fairway.tls.handshake import Handshake, State, illegal, require
from fairway.tls.identity import Identity
from fairway.tls.key_exchange import KeyExchange, NamedGroup, offer
from fairway.tls.key_schedule import KeySchedule, finished_mac, hkdf_expand_label
from fairway.tls.messages import (
    TLS_1_3,
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
from fairway.tls.resuming import Offer, fits
from fairway.tls.session import Session
from fairway.tls.signatures import CLIENT_CONTEXT, SERVER_CONTEXT, SignatureScheme
from fairway.tls.tickets import QUIC_EARLY_DATA
from fairway.tls.trust import parse_chain

_NO_CERTIFICATE = Certificate(b"", ()).encode()


class ClientSession(Session):
    """A client's handshake: `start` gives the ClientHello, `receive` everything else.

    With a `ticket` that is still fit the session is resumed, and with `early_data` data may go before the server has
    answered, if it takes such: then `start` gives a secret of `Level.EARLY`, and `EarlyData` says what became of it.
    Who would not keep `tickets` asks for none: servers issue them only to who says how they are used.
    `random` gives so many random bytes, `now` the time with its zone.
    """

    __slots__ = ("_config", "_early_data", "_parameters", "_ticket", "_tickets")

    def __init__(
        self,
        config: ClientConfig,
        transport_parameters: bytes,
        *,
        random: Callable[[int], bytes],
        now: Callable[[], datetime],
        ticket: SessionTicket | None = None,
        early_data: bool = False,
        tickets: bool = True,
    ) -> None:
        super().__init__(Handshake(client=True, random=random, now=now, keylog=config.keylog), NotStarted())
        self._config = config
        self._parameters = transport_parameters
        self._ticket = ticket
        self._early_data = early_data
        self._tickets = tickets

    def start(self) -> list[Event]:
        """The events that open the handshake. To be called once, first."""
        if not isinstance(self._state, NotStarted):
            raise RuntimeError("the handshake has been started")
        self._state = _start(self._handshake, self._config, self._parameters, self._offer(), self._tickets)
        return self._drain()

    def _offer(self) -> Offer | None:
        ticket = self._ticket
        if ticket is None or not fits(ticket, self._config, self._handshake.now()):
            return None
        return Offer(ticket, early=self._early_data)


class NotStarted:
    """The client has said nothing, so no message is legal."""

    level: ClassVar[Level] = Level.INITIAL
    accepts: ClassVar[Mapping[int, int]] = {}

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """Never called, as nothing is accepted."""
        raise TlsAlert(AlertDescription.UNEXPECTED_MESSAGE, "nothing was asked", "RFC 8446 section 4")


def _start(
    handshake: Handshake, config: ClientConfig, parameters: bytes, psk: Offer | None, tickets: bool
) -> ExpectServerHello:
    handshake.client_random = handshake.random(32)
    shares = config.halves.take(handshake.random)
    offered = dict(config.fixed_extensions)
    offered[ExtensionType.KEY_SHARE] = extensions.encode_key_shares([(g, half.share) for g, half in shares.items()])
    offered[ExtensionType.QUIC_TRANSPORT_PARAMETERS] = parameters
    if psk is None and not tickets:
        del offered[ExtensionType.PSK_KEY_EXCHANGE_MODES]  # section 4.2.9
    # RFC 9001 section 8.4: the session ID is empty
    hello = ClientHello(handshake.client_random, b"", config.cipher_suites, offered)
    message = hello.encode() if psk is None else psk.encode(hello, handshake.transcript, handshake.now())
    handshake.transcript.add(message)
    handshake.send(Level.INITIAL, message)
    if psk is not None and psk.early:
        suite = psk.ticket.cipher_suite
        secret = psk.schedule.derive("c e traffic", handshake.transcript.digest_with(suite.hash_name, b""))
        handshake.log("CLIENT_EARLY_TRAFFIC_SECRET", secret)
        handshake.install(Level.EARLY, suite, secret, None)
    return ExpectServerHello(handshake, config, hello, shares, None, psk)


def _check_offered(received: Extensions, legal: frozenset[int], offered: Extensions, section: str) -> None:
    """`TlsAlert` for an extension that was not offered, or that does not belong in this message."""
    for kind in received:
        if kind not in legal:
            if kind in offered:
                raise illegal(f"extension {kind} is in the wrong message", "RFC 8446 section 4.2")
            raise TlsAlert(AlertDescription.UNSUPPORTED_EXTENSION, f"extension {kind} was not offered", section)


@dataclass(slots=True)
class ExpectServerHello:
    """A ClientHello is out; `retry` is the HelloRetryRequest that it answers, if it is the second."""

    handshake: Handshake
    config: ClientConfig
    hello: ClientHello
    shares: Mapping[NamedGroup, KeyExchange]
    retry: ServerHello | None
    psk: Offer | None = None

    level: ClassVar[Level] = Level.INITIAL
    accepts: ClassVar[Mapping[int, int]] = {HandshakeType.SERVER_HELLO: limits.MAX_SERVER_HELLO_BYTES}

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """ServerHello or HelloRetryRequest."""
        hello = ServerHello.decode(body)
        version = require(hello.extensions, ExtensionType.SUPPORTED_VERSIONS, "RFC 8446 section 4.2.1")
        if extensions.decode_code(version) != TLS_1_3:
            raise illegal("the server's version is not TLS 1.3", "RFC 8446 section 4.2.1")
        if hello.legacy_session_id != self.hello.legacy_session_id:
            raise illegal("the session ID is not echoed", "RFC 8446 section 4.1.3")
        if hello.cipher_suite not in self.config.cipher_suites:
            raise illegal(f"cipher suite {hello.cipher_suite:#06x} was not offered", "RFC 8446 section 4.1.3")
        suite = CipherSuite(hello.cipher_suite)
        if hello.is_retry:
            return self._retry(hello, suite, message)
        return self._proceed(hello, suite, message)

    def _retry(self, retry: ServerHello, suite: CipherSuite, message: bytes) -> State:
        if self.retry is not None:
            raise TlsAlert(AlertDescription.UNEXPECTED_MESSAGE, "a second HelloRetryRequest", "RFC 8446 section 4.1.4")
        _check_offered(retry.extensions, _IN_RETRY, self.hello.extensions, "RFC 8446 section 4.1.4")
        shares, changed = self.shares, dict(self.hello.extensions)
        if ExtensionType.KEY_SHARE in retry.extensions:
            code = extensions.decode_code(retry.extensions[ExtensionType.KEY_SHARE])
            if code not in self.config.groups or code in self.shares:
                raise illegal(f"group {code:#06x} is not one to ask for", "RFC 8446 section 4.2.8")
            shares = offer((NamedGroup(code),), self.handshake.random)
            changed[ExtensionType.KEY_SHARE] = extensions.encode_key_shares(
                [(group, half.share) for group, half in shares.items()]
            )
        elif ExtensionType.COOKIE not in retry.extensions:
            raise illegal("a HelloRetryRequest that changes nothing", "RFC 8446 section 4.1.4")
        if ExtensionType.COOKIE in retry.extensions:
            cookie = extensions.decode_cookie(retry.extensions[ExtensionType.COOKIE])
            changed[ExtensionType.COOKIE] = extensions.encode_cookie(cookie)
        hello = ClientHello(self.hello.random, self.hello.legacy_session_id, self.hello.cipher_suites, changed)
        transcript = self.handshake.transcript
        transcript.replace_with_hash(suite.hash_name)
        transcript.add(message)
        psk = self._psk_after_retry(suite)
        again = hello.encode() if psk is None else psk.encode(hello, transcript, self.handshake.now())
        transcript.add(again)
        self.handshake.send(Level.INITIAL, again)
        return ExpectServerHello(self.handshake, self.config, hello, shares, retry, psk)

    def _psk_after_retry(self, suite: CipherSuite) -> Offer | None:
        """What is offered again (RFC 8446 section 4.1.2): never early data, and no key of another hash."""
        psk = self.psk
        if psk is None:
            return None
        if psk.early:
            psk.early = False
            self.handshake.events.append(EarlyData(False))
        return psk if psk.ticket.cipher_suite.hash_name == suite.hash_name else None

    def _proceed(self, hello: ServerHello, suite: CipherSuite, message: bytes) -> State:
        if self.retry is not None and hello.cipher_suite != self.retry.cipher_suite:
            raise illegal("the cipher suite is not that of the HelloRetryRequest", "RFC 8446 section 4.1.4")
        legal = _IN_SERVER_HELLO if self.psk is None else _IN_SERVER_HELLO_WITH_PSK
        _check_offered(hello.extensions, legal, self.hello.extensions, "RFC 8446 section 4.1.3")
        body = require(hello.extensions, ExtensionType.KEY_SHARE, "RFC 8446 section 4.2.8")
        code, share = extensions.decode_key_share(body)
        if code not in self.shares:
            raise illegal(f"no share was sent for group {code:#06x}", "RFC 8446 section 4.2.8")
        group = NamedGroup(code)
        handshake = self.handshake
        resumed = self._resumed(hello, suite)
        handshake.transcript.choose_hash(suite.hash_name)
        handshake.transcript.add(message)
        schedule = KeySchedule(suite) if resumed is None else resumed.schedule
        client, server = schedule.enter_handshake(self.shares[group].finish(share), handshake.transcript.digest())
        handshake.log("CLIENT_HANDSHAKE_TRAFFIC_SECRET", client)
        handshake.log("SERVER_HANDSHAKE_TRAFFIC_SECRET", server)
        handshake.install(Level.HANDSHAKE, suite, client, server)
        ticket = None if resumed is None else resumed.ticket
        keys = _Keys(schedule, suite, group, client, server, ticket)
        early = self.psk is not None and self.psk.early
        return ExpectEncryptedExtensions(handshake, self.config, self.hello.extensions, keys, early)

    def _resumed(self, hello: ServerHello, suite: CipherSuite) -> Offer | None:
        """What we offered, if the server chose it (RFC 8446 section 4.2.11)."""
        body = hello.extensions.get(ExtensionType.PRE_SHARED_KEY)
        if body is None or self.psk is None:
            return None
        if extensions.decode_code(body) != 0:
            raise illegal("a pre-shared key was chosen that was not offered", "RFC 8446 section 4.2.11")
        if self.psk.ticket.cipher_suite.hash_name != suite.hash_name:
            raise illegal("the pre-shared key is for another hash", "RFC 8446 section 4.2.11")
        return self.psk


_IN_RETRY = frozenset((ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE, ExtensionType.COOKIE))
_IN_SERVER_HELLO = frozenset((ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE))
_IN_SERVER_HELLO_WITH_PSK = _IN_SERVER_HELLO | {ExtensionType.PRE_SHARED_KEY}
_IN_ENCRYPTED_EXTENSIONS = frozenset(
    (
        ExtensionType.SERVER_NAME,
        ExtensionType.SUPPORTED_GROUPS,
        ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION,
        ExtensionType.QUIC_TRANSPORT_PARAMETERS,
    )
)


@dataclass(slots=True)
class _Keys:
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
    keys: _Keys
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
        _check_offered(received, legal, self.offered, "RFC 8446 section 4.3.1")
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
    keys: _Keys
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
    keys: _Keys
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
            _check_offered(entry.extensions, frozenset(), self.config.fixed_extensions, "RFC 8446 section 4.4.2")
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
    keys: _Keys
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
    keys: _Keys
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
