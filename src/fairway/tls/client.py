"""The client's handshake (RFC 8446 appendix A.1) up to ServerHello; the rest of the server's flight: `server_flight`.

One class a state; each has what is valid then and makes the next.

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

from fairway.tls import extensions, limits
from fairway.tls.alerts import AlertDescription, TlsAlert
from fairway.tls.cipher_suites import CipherSuite
from fairway.tls.config import ClientConfig
from fairway.tls.events import EarlyData, Event, Level, SessionTicket
from fairway.tls.extensions import ExtensionType
from fairway.tls.handshake import Handshake, State, check_offered, illegal, require
from fairway.tls.key_exchange import KeyExchange, NamedGroup, offer
from fairway.tls.key_schedule import KeySchedule
from fairway.tls.messages import TLS_1_3, ClientHello, HandshakeType, ServerHello
from fairway.tls.resuming import Offer, fits
from fairway.tls.server_flight import AgreedKeys, ExpectEncryptedExtensions
from fairway.tls.session import Session


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
        check_offered(retry.extensions, _IN_RETRY, self.hello.extensions, "RFC 8446 section 4.1.4")
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
        check_offered(hello.extensions, legal, self.hello.extensions, "RFC 8446 section 4.1.3")
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
        keys = AgreedKeys(schedule, suite, group, client, server, ticket)
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
