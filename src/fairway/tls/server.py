"""The server's handshake (RFC 8446 appendix A.2), one class a state; each has what is valid then and makes the next.

ExpectClientHello -> [flight sent] -> ExpectClientCertificate -> ExpectClientCertificateVerify
      |     ^                 |                        |                     |
      retry, once             (none asked)             (none shown)          v
                              `------------------------`-----------> ExpectClientFinished -> Done
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from fairway.tls import extensions, limits, signatures
from fairway.tls.alerts import AlertDescription, TlsAlert
from fairway.tls.cipher_suites import CipherSuite
from fairway.tls.config import PSK_DHE_KE, ServerConfig
from fairway.tls.events import Complete, EarlyData, Level, PeerParameters
from fairway.tls.extensions import ExtensionType
from fairway.tls.handshake import Done, Handshake, State, illegal, require
from fairway.tls.identity import Identity
from fairway.tls.key_exchange import NamedGroup, respond
from fairway.tls.key_schedule import KeySchedule, Transcript, finished_mac
from fairway.tls.messages import (
    RETRY_RANDOM,
    TLS_1_3,
    Certificate,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Finished,
    HandshakeType,
    ServerHello,
)
from fairway.tls.session import Session
from fairway.tls.signatures import CLIENT_CONTEXT, SERVER_CONTEXT, SignatureScheme
from fairway.tls.tickets import NO_CONTEXT, Resumption, Ticket, TicketContext, Tickets

Parameters = Callable[[bytes], bytes]
"""Takes the client's raw transport parameters, gives the server's. What it raises passes through `receive`."""


class ServerSession(Session):
    """A server's handshake: `receive` takes the client's bytes.

    `parameters` are the server's transport parameters, or a function of the client's that is called once, when they
    are needed. `random` gives so many random bytes, `now` the time with its zone. Sessions are
    resumed and early data is taken only where the ticket was issued with the context `context`; `new_context` gives the
    context of new tickets, where that is another, and is asked after `parameters`.
    """

    __slots__ = ()

    def __init__(
        self,
        config: ServerConfig,
        parameters: bytes | Parameters,
        *,
        random: Callable[[int], bytes],
        now: Callable[[], datetime],
        context: TicketContext = NO_CONTEXT,
        new_context: Callable[[], TicketContext] | None = None,
    ) -> None:
        handshake = Handshake(client=False, random=random, now=now, keylog=config.keylog)
        ours = parameters if callable(parameters) else lambda _: parameters
        super().__init__(handshake, ExpectClientHello(handshake, config, ours, context, new_context, None))


@dataclass(slots=True)
class _Retry:
    """What was settled when a ClientHello had no share to go on with."""

    hello: ClientHello
    suite: CipherSuite
    group: NamedGroup


@dataclass(slots=True)
class _Offer:
    """A ClientHello's extensions, read."""

    groups: tuple[int, ...]
    shares: dict[int, bytes]
    schemes: tuple[int, ...]
    server_name: str | None
    protocols: tuple[bytes, ...]
    parameters: bytes
    psk_modes: bytes


# RFC 8446 section 4.1.2: what the second ClientHello may change. Padding may change, so may all that is unknown here.
_UNCHANGED = frozenset(ExtensionType) - {
    ExtensionType.KEY_SHARE,
    ExtensionType.COOKIE,
    ExtensionType.EARLY_DATA,
    ExtensionType.PRE_SHARED_KEY,
    ExtensionType.PADDING,
}


@dataclass(slots=True)
class ExpectClientHello:
    """Nothing is settled; `retry` is what was, if a HelloRetryRequest is out."""

    handshake: Handshake
    config: ServerConfig
    parameters: Parameters
    context: TicketContext
    new_context: Callable[[], TicketContext] | None
    retry: _Retry | None

    level: ClassVar[Level] = Level.INITIAL
    accepts: ClassVar[Mapping[int, int]] = {HandshakeType.CLIENT_HELLO: limits.MAX_CLIENT_HELLO_BYTES}

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """ClientHello: answered by a HelloRetryRequest or by the server's whole flight."""
        hello = ClientHello.decode(body)
        offered = _read(hello)
        handshake = self.handshake
        if self.retry is None:
            handshake.client_random = hello.random
            handshake.events.append(PeerParameters(offered.parameters))
            suite = self._suite(hello)
            group = self._group(offered)
        else:
            _check_second(self.retry, hello, offered)
            suite, group = self.retry.suite, self.retry.group
        share = offered.shares.get(group)
        if share is None:
            handshake.transcript.add(message)
            return self._ask_again(_Retry(hello, suite, group))
        resumed = self._resumed(hello, offered, message)
        handshake.transcript.add(message)
        alpn = self._protocol(offered.protocols)
        if resumed is None:
            return self._answer(offered, suite, group, share, alpn, None, early=False)
        early = self._takes_early_data(hello, resumed, alpn)
        return self._answer(offered, resumed.ticket.suite, group, share, alpn, resumed, early=early)

    def _resumed(self, hello: ClientHello, offered: _Offer, message: bytes) -> Resumption | None:
        """The session that the client resumes, if it does."""
        tickets, offer = self.config.tickets, hello.extensions.get(ExtensionType.PRE_SHARED_KEY)
        if offer is None or tickets is None or PSK_DHE_KE not in offered.psk_modes:
            return None
        now = self.handshake.now()

        def wanted(ticket: Ticket) -> bool:
            if ticket.suite not in hello.cipher_suites or ticket.suite not in self.config.cipher_suites:
                return False
            if self.retry is not None and ticket.suite is not self.retry.suite:
                return False
            if ticket.context.session != self.context.session:
                return False
            return ticket.server_name == offered.server_name and self._still_trusts(ticket, now)

        return tickets.resume(offer, message, self.handshake.transcript, wanted, now)

    def _still_trusts(self, ticket: Ticket, now: datetime) -> bool:
        """Whether the client's certificates of then, or none, would do now."""
        trust = self.config.client_trust
        if not ticket.client_chain:
            return not self.config.require_client_certificate
        if trust is None:
            return False
        try:
            trust.client_key(ticket.client_chain, now)
        except TlsAlert:
            return False
        return True

    def _takes_early_data(self, hello: ClientHello, resumed: Resumption, alpn: str | None) -> bool:
        """Whether early data is taken (RFC 8446 section 4.2.10); if so, the secret that opens it is announced."""
        handshake, tickets = self.handshake, self.config.tickets
        if ExtensionType.EARLY_DATA not in hello.extensions or self.retry is not None or tickets is None:
            return False
        if not tickets.takes_early_data(resumed, alpn, self.context, handshake.now()):
            return False
        suite = resumed.ticket.suite
        handshake.transcript.choose_hash(suite.hash_name)
        secret = resumed.schedule.derive("c e traffic", handshake.transcript.digest())
        handshake.log("CLIENT_EARLY_TRAFFIC_SECRET", secret)
        handshake.install(Level.EARLY, suite, secret, None)
        return True

    def _suite(self, hello: ClientHello) -> CipherSuite:
        for suite in self.config.cipher_suites:
            if suite in hello.cipher_suites:
                return suite
        raise TlsAlert(AlertDescription.HANDSHAKE_FAILURE, "no cipher suite in common", "RFC 8446 section 4.1.1")

    def _group(self, offered: _Offer) -> NamedGroup:
        """The first of our groups that the client sent a share for, else the first that it supports."""
        common = [group for group in self.config.groups if group in offered.groups]
        if not common:
            raise TlsAlert(
                AlertDescription.HANDSHAKE_FAILURE, "no key exchange group in common", "RFC 8446 section 4.1.1"
            )
        return next((group for group in common if group in offered.shares), common[0])

    def _ask_again(self, retry: _Retry) -> State:
        request = ServerHello(
            RETRY_RANDOM,
            retry.hello.legacy_session_id,
            retry.suite,
            {
                ExtensionType.SUPPORTED_VERSIONS: extensions.encode_code(TLS_1_3),
                ExtensionType.KEY_SHARE: extensions.encode_code(retry.group),
            },
        ).encode()
        self.handshake.transcript.replace_with_hash(retry.suite.hash_name)
        self.handshake.transcript.add(request)
        self.handshake.send(Level.INITIAL, request)
        return ExpectClientHello(self.handshake, self.config, self.parameters, self.context, self.new_context, retry)

    def _answer(
        self,
        offered: _Offer,
        suite: CipherSuite,
        group: NamedGroup,
        client_share: bytes,
        alpn: str | None,
        resumed: Resumption | None,
        *,
        early: bool,
    ) -> State:
        chosen = None if resumed is not None else self._identity(offered)
        handshake = self.handshake
        share, secret = respond(group, client_share, handshake.random)
        answers: dict[int, bytes] = {
            ExtensionType.SUPPORTED_VERSIONS: extensions.encode_code(TLS_1_3),
            ExtensionType.KEY_SHARE: extensions.encode_key_share(group, share),
        }
        if resumed is not None:
            answers[ExtensionType.PRE_SHARED_KEY] = extensions.encode_code(resumed.index)
        hello = ServerHello(handshake.random(32), b"", suite, answers).encode()
        handshake.transcript.choose_hash(suite.hash_name)
        handshake.transcript.add(hello)
        schedule = KeySchedule(suite) if resumed is None else resumed.schedule
        client, server = schedule.enter_handshake(secret, handshake.transcript.digest())
        handshake.log("CLIENT_HANDSHAKE_TRAFFIC_SECRET", client)
        handshake.log("SERVER_HANDSHAKE_TRAFFIC_SECRET", server)
        handshake.send(Level.INITIAL, hello)
        handshake.install(Level.HANDSHAKE, suite, client, server)
        tickets = self.config.tickets if PSK_DHE_KE in offered.psk_modes else None
        name = offered.server_name
        parameters = self.parameters(offered.parameters)
        context = self.context if self.new_context is None else self.new_context()
        settled = _Settled(schedule, suite, group, client, server, alpn, name, tickets, context, resumed, early)
        return self._send_flight(settled, chosen, parameters)

    def _identity(self, offered: _Offer) -> tuple[Identity, SignatureScheme]:
        chosen = self.config.table.select(offered.server_name, offered.schemes)
        if chosen is None:
            raise TlsAlert(
                AlertDescription.HANDSHAKE_FAILURE,
                "no certificate that the client can verify",
                "RFC 8446 section 4.4.3",
            )
        return chosen

    def _protocol(self, protocols: tuple[bytes, ...]) -> str | None:
        if not self.config.alpn:
            return None
        for protocol in self.config.alpn:
            if protocol.encode("utf-8") in protocols:
                return protocol
        raise TlsAlert(
            AlertDescription.NO_APPLICATION_PROTOCOL, "no application protocol in common", "RFC 9001 section 8.1"
        )

    def _send_flight(
        self, settled: _Settled, chosen: tuple[Identity, SignatureScheme] | None, parameters: bytes
    ) -> State:
        """EncryptedExtensions to Finished, and the server's application secret, by which it may send at once.

        Without an identity `chosen` the session is resumed, and nobody shows certificates (RFC 8446 section 2.2).
        """
        handshake, config, transcript = self.handshake, self.config, self.handshake.transcript
        answers: dict[int, bytes] = {ExtensionType.QUIC_TRANSPORT_PARAMETERS: parameters}
        if settled.alpn is not None:
            answers[ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION] = config.alpn_answers[settled.alpn]
        if settled.early:
            answers[ExtensionType.EARLY_DATA] = b""
        flight = EncryptedExtensions(answers).encode()
        asks = chosen is not None and config.client_trust is not None
        if asks:
            flight += config.certificate_request
        if chosen is not None:
            flight += chosen[0].certificate_message
        transcript.add(flight)
        proof = b"" if chosen is None else _prove(chosen, transcript)
        name = settled.suite.hash_name
        finished = Finished(finished_mac(name, settled.server_secret, transcript.digest())).encode()
        transcript.add(finished)
        handshake.send(Level.HANDSHAKE, flight + proof + finished)
        digest = transcript.digest()
        client, server = settled.schedule.enter_application(digest)
        handshake.log("CLIENT_TRAFFIC_SECRET_0", client)
        handshake.log("SERVER_TRAFFIC_SECRET_0", server)
        if handshake.keylog is not None:
            handshake.log("EXPORTER_SECRET", settled.schedule.derive("exp master", digest))
        handshake.install(Level.APPLICATION, settled.suite, None, server)
        if settled.early:
            handshake.events.append(EarlyData(True, settled.alpn, settled.server_name))
        if asks:
            return ExpectClientCertificate(handshake, config, settled, client)
        resumed = settled.resumed
        return ExpectClientFinished(handshake, settled, client, () if resumed is None else resumed.ticket.client_chain)


def _prove(chosen: tuple[Identity, SignatureScheme], transcript: Transcript) -> bytes:
    """The CertificateVerify of an identity, now in the transcript."""
    identity, scheme = chosen
    content = SERVER_CONTEXT + transcript.digest()
    proof = CertificateVerify(scheme, signatures.sign(identity.key, scheme, content)).encode()
    transcript.add(proof)
    return proof


def _read(hello: ClientHello) -> _Offer:
    """Read the extensions, checking what must be there and what belongs together."""
    found = hello.extensions
    versions = found.get(ExtensionType.SUPPORTED_VERSIONS)
    if versions is None or TLS_1_3 not in extensions.decode_versions(versions):
        raise TlsAlert(AlertDescription.PROTOCOL_VERSION, "the client does not speak TLS 1.3", "RFC 8446 section 4.2.1")
    if hello.legacy_session_id:
        raise illegal("the session ID is not empty", "RFC 9001 section 8.4")
    if ExtensionType.OID_FILTERS in found:
        raise illegal("oid_filters is in the wrong message", "RFC 8446 section 4.2")
    modes = found.get(ExtensionType.PSK_KEY_EXCHANGE_MODES)
    if modes is None and ExtensionType.PRE_SHARED_KEY in found:
        modes = require(found, ExtensionType.PSK_KEY_EXCHANGE_MODES, "RFC 8446 section 4.2.9")
    if ExtensionType.EARLY_DATA in found and ExtensionType.PRE_SHARED_KEY not in found:
        raise illegal("early data without a pre-shared key", "RFC 8446 section 4.2.10")
    groups = extensions.decode_codes(require(found, ExtensionType.SUPPORTED_GROUPS, "RFC 8446 section 9.2"))
    shares = extensions.decode_key_shares(require(found, ExtensionType.KEY_SHARE, "RFC 8446 section 9.2"))
    if not shares.keys() <= set(groups):
        raise illegal("a key share is for a group that is not supported", "RFC 8446 section 4.2.8")
    schemes = extensions.decode_codes(require(found, ExtensionType.SIGNATURE_ALGORITHMS, "RFC 8446 section 9.2"))
    name = found.get(ExtensionType.SERVER_NAME)
    protocols = found.get(ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION)
    return _Offer(
        groups,
        shares,
        schemes,
        None if name is None else extensions.decode_server_name(name),
        () if protocols is None else extensions.decode_protocols(protocols),
        require(found, ExtensionType.QUIC_TRANSPORT_PARAMETERS, "RFC 9001 section 8.2"),
        b"" if modes is None else extensions.decode_psk_modes(modes),
    )


def _check_second(retry: _Retry, hello: ClientHello, offered: _Offer) -> None:
    """`TlsAlert` unless the second ClientHello is the first but for what may change (RFC 8446 section 4.1.2)."""
    first = retry.hello
    same = hello.random == first.random and hello.cipher_suites == first.cipher_suites
    if not same or any(hello.extensions.get(kind) != first.extensions.get(kind) for kind in _UNCHANGED):
        raise illegal("the second ClientHello is not like the first", "RFC 8446 section 4.1.2")
    if ExtensionType.EARLY_DATA in hello.extensions:
        raise illegal("the second ClientHello has early data", "RFC 8446 section 4.1.2")
    if list(offered.shares) != [retry.group]:
        raise illegal("the second ClientHello has not the one share asked for", "RFC 8446 section 4.2.8")


@dataclass(slots=True)
class _Settled:
    """What the server's flight settled."""

    schedule: KeySchedule
    suite: CipherSuite
    group: NamedGroup
    client_secret: bytes
    server_secret: bytes
    alpn: str | None
    server_name: str | None
    tickets: Tickets | None
    context: TicketContext
    resumed: Resumption | None
    early: bool


@dataclass(slots=True)
class ExpectClientCertificate:
    """The flight is out and asked for a certificate."""

    handshake: Handshake
    config: ServerConfig
    settled: _Settled
    application_secret: bytes

    level: ClassVar[Level] = Level.HANDSHAKE
    accepts: ClassVar[Mapping[int, int]] = {HandshakeType.CERTIFICATE: limits.MAX_CERTIFICATE_MESSAGE_BYTES}

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """Certificate, which may be empty."""
        certificate = Certificate.decode(body)
        self.handshake.transcript.add(message)
        if certificate.context:
            raise illegal(
                "the context of the client's Certificate is not that of the request", "RFC 8446 section 4.4.2"
            )
        if not certificate.entries:
            if self.config.require_client_certificate:
                raise TlsAlert(
                    AlertDescription.CERTIFICATE_REQUIRED, "the client shows no certificate", "RFC 8446 section 4.4.2.4"
                )
            return ExpectClientFinished(self.handshake, self.settled, self.application_secret, ())
        for entry in certificate.entries:
            if entry.extensions:
                raise TlsAlert(
                    AlertDescription.UNSUPPORTED_EXTENSION,
                    "a certificate has an extension that was not asked for",
                    "RFC 8446 section 4.4.2",
                )
        data = tuple(entry.data for entry in certificate.entries)
        assert self.config.client_trust is not None  # nobody is asked otherwise
        key = self.config.client_trust.client_key(data, self.handshake.now())
        return ExpectClientCertificateVerify(self.handshake, self.settled, self.application_secret, data, key)


@dataclass(slots=True)
class ExpectClientCertificateVerify:
    """The client's chain is good; now it must show that the key is its own."""

    handshake: Handshake
    settled: _Settled
    application_secret: bytes
    chain: tuple[bytes, ...]
    key: signatures.PublicKey

    level: ClassVar[Level] = Level.HANDSHAKE
    accepts: ClassVar[Mapping[int, int]] = {HandshakeType.CERTIFICATE_VERIFY: limits.MAX_CERTIFICATE_VERIFY_BYTES}

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """CertificateVerify."""
        proof = CertificateVerify.decode(body)
        transcript = self.handshake.transcript
        signatures.verify(self.key, proof.scheme, proof.signature, CLIENT_CONTEXT + transcript.digest())
        transcript.add(message)
        return ExpectClientFinished(self.handshake, self.settled, self.application_secret, self.chain)


@dataclass(slots=True)
class ExpectClientFinished:
    """Only the client's Finished is missing."""

    handshake: Handshake
    settled: _Settled
    application_secret: bytes
    chain: tuple[bytes, ...]

    level: ClassVar[Level] = Level.HANDSHAKE
    accepts: ClassVar[Mapping[int, int]] = {HandshakeType.FINISHED: limits.MAX_FINISHED_BYTES}

    def handle(self, kind: int, body: bytes, message: bytes) -> State:
        """Finished: the client's application secret may be used only now (RFC 9001 section 5.7)."""
        handshake, settled = self.handshake, self.settled
        suite = settled.suite
        handshake.check_finished(suite.hash_name, settled.client_secret, Finished.decode(body).verify_data)
        handshake.transcript.add(message)
        handshake.install(Level.APPLICATION, suite, self.application_secret, None)
        resumed = settled.resumed is not None
        name = settled.server_name
        handshake.events.append(Complete(settled.alpn, suite, settled.group, self.chain, resumed, name))
        if settled.tickets is not None:
            ticket = settled.tickets.issue(
                settled.schedule,
                suite,
                handshake.transcript.digest(),
                alpn=settled.alpn,
                server_name=name,
                client_chain=self.chain,
                context=settled.context,
                random=handshake.random,
                now=handshake.now(),
            )
            if ticket:
                handshake.send(Level.APPLICATION, ticket)
        return Done()
