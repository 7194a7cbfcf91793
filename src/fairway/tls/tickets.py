"""A server's session tickets (RFC 8446 sections 2.2, 4.2.11 and 4.6.1): all that it knows of a session, sealed.

The server keeps nothing; who has the keys (`sealing`) can resume. What is accepted as early data is held against a
register of what was seen before (section 8): a ClientHello counts once, and only when it is fresh.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fairway.tls import limits
from fairway.tls.alerts import AlertDescription, TlsAlert
from fairway.tls.cipher_suites import CipherSuite
from fairway.tls.extensions import ExtensionType, decode_pre_shared_keys, encode_max_early_data
from fairway.tls.key_schedule import KeySchedule, Transcript, hkdf_expand_label, psk_binder
from fairway.tls.messages import NewSessionTicket
from fairway.tls.sealing import SealingKeys
from fairway.tls.strikes import StrikeRegister, Strikes
from fairway.wire import Reader, WireError, Writer

QUIC_EARLY_DATA = 0xFFFFFFFF  # RFC 9001 section 4.6.1: QUIC limits early data by flow control alone
_CONTEXT = b"fairway session ticket 2"
_NONCE = b"\0"  # one ticket a connection


@dataclass(frozen=True, slots=True)
class TicketContext:
    """What must be the same when a ticket is used as when it was issued, of at most 255 bytes each."""

    session: bytes = b""
    """For the session to be resumed at all."""
    early: bytes = b""
    """For early data to be taken as well; empty for none."""


NO_CONTEXT = TicketContext()


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket holds; without `context.early` no early data may be sent with it."""

    suite: CipherSuite
    secret: bytes
    issued_ms: int
    age_add_ms: int
    alpn: str | None
    server_name: str | None
    client_chain: tuple[bytes, ...] = ()
    context: TicketContext = NO_CONTEXT

    def encode(self) -> bytes:
        """The content to be sealed."""
        writer = Writer().u16(self.suite).vector8(self.secret)
        writer.raw(self.issued_ms.to_bytes(8, "big")).u32(self.age_add_ms)
        writer.vector8((self.alpn or "").encode()).vector16((self.server_name or "").encode())
        writer.vector8(self.context.session).vector8(self.context.early)
        for certificate in self.client_chain:
            writer.vector24(certificate)
        return writer.finish()

    @classmethod
    def decode(cls, content: bytes) -> Ticket:
        """The reverse of `encode`; `WireError` for what another version may have sealed."""
        reader = Reader(content)
        code, secret = reader.u16(), reader.vector8()
        issued_ms, age_add_ms = int.from_bytes(reader.take(8), "big"), reader.u32()
        alpn, name = reader.vector8(), reader.vector16()
        context = TicketContext(reader.vector8(), reader.vector8())
        chain = []
        while reader.remaining:
            chain.append(reader.vector24())
        try:
            suite = CipherSuite(code)
            texts = alpn.decode(), name.decode()
        except ValueError as error:
            raise WireError("a ticket of another kind") from error
        return cls(suite, secret, issued_ms, age_add_ms, texts[0] or None, texts[1] or None, tuple(chain), context)


@dataclass(frozen=True, slots=True)
class Resumption:
    """A ticket that a ClientHello offered and proved to have the key of."""

    ticket: Ticket
    index: int
    schedule: KeySchedule
    binder: bytes
    age_ms: int
    """The ticket's age by our clock."""
    client_age_ms: int
    """The ticket's age by the client's."""


class Tickets:
    """Issues and accepts tickets that live for `lifetime_s` seconds, at most seven days.

    Processes that answer for the same address share `keys`. With `early_data` clients may send data that can be
    replayed; `strikes` should then be one register for all processes that have the keys, or each takes a replay once.
    A process that was given keys and no register begins with an empty one: see `begin`.
    """

    __slots__ = ("_began_ms", "_given", "_keys", "_lifetime_s", "_strikes", "early_data")

    def __init__(
        self,
        keys: SealingKeys | None = None,
        *,
        lifetime_s: int = 86_400,
        early_data: bool = False,
        strikes: Strikes | None = None,
    ) -> None:
        if not 0 < lifetime_s <= limits.MAX_TICKET_LIFETIME_S:
            raise ValueError(f"a ticket lives for 1 to {limits.MAX_TICKET_LIFETIME_S} seconds, not {lifetime_s}")
        self._keys = keys or SealingKeys()
        self._lifetime_s = lifetime_s
        self._given = strikes is not None
        self._strikes = StrikeRegister() if strikes is None else strikes
        self._began_ms = 0
        self.early_data = early_data

    def begin(self, clock: Callable[[], datetime]) -> None:
        """A server begins with them. If the keys are older than the register, so may be what is to be struck from it.

        Then for as long as a replay from before may be fresh only tickets from now on are good for early data (RFC 8446
        section 8.2).
        """
        if self._keys.given and not self._given:
            self._began_ms = int(clock().timestamp() * 1000)

    def among(self, keys: SealingKeys, strikes: Strikes, began: datetime) -> Tickets:
        """The same for one of several processes, which ask one register and have these keys, unless some were given.

        `began` is when the register did. A register of this process's memory, given or not, is of no use to them.
        """
        shared = self._given and not isinstance(self._strikes, StrikeRegister)
        made = Tickets(
            self._keys if self._keys.given else keys,
            lifetime_s=self._lifetime_s,
            early_data=self.early_data,
            strikes=self._strikes if shared else strikes,
        )
        if self._keys.given and not shared:
            made._began_ms = int(began.timestamp() * 1000)
        return made

    def issue(
        self,
        schedule: KeySchedule,
        suite: CipherSuite,
        transcript_hash: bytes,
        *,
        alpn: str | None,
        server_name: str | None,
        client_chain: tuple[bytes, ...],
        context: TicketContext,
        random: Callable[[int], bytes],
        now: datetime,
    ) -> bytes:
        """A NewSessionTicket message; empty if the client's certificates are too long for a ticket.

        `transcript_hash` ends at the client's Finished.
        """
        if sum(map(len, client_chain)) > limits.MAX_TICKET_CERTIFICATE_BYTES:
            return b""
        context = context if self.early_data else TicketContext(context.session)
        resumption = schedule.derive("res master", transcript_hash)
        secret = hkdf_expand_label(suite.hash_name, resumption, "resumption", _NONCE, suite.hash_length)
        now_s = now.timestamp()
        age_add_ms = int.from_bytes(random(4), "big")
        ticket = Ticket(suite, secret, int(now_s * 1000), age_add_ms, alpn, server_name, client_chain, context)
        box = self._keys.seal(ticket.encode(), _CONTEXT, random=random, now_s=now_s)
        more = {int(ExtensionType.EARLY_DATA): encode_max_early_data(QUIC_EARLY_DATA)} if context.early else {}
        return NewSessionTicket(self._lifetime_s, age_add_ms, _NONCE, box, more).encode()

    def resume(
        self,
        offer: bytes,
        message: bytes,
        transcript: Transcript,
        wanted: Callable[[Ticket], bool],
        now: datetime,
    ) -> Resumption | None:
        """The first offered ticket that is ours, alive and `wanted`; None if there is none.

        `offer` is the body of pre_shared_key, `message` the ClientHello that it ends, not yet in the transcript.
        `TlsAlert` if the client does not have the ticket's key (section 4.2.11.2).
        """
        identities, binders = decode_pre_shared_keys(offer)
        now_ms = int(now.timestamp() * 1000)
        for index, (box, obfuscated_age) in enumerate(identities[: limits.MAX_TICKETS_TRIED]):
            ticket = self._open(box)
            if ticket is None:
                continue
            age_ms = now_ms - ticket.issued_ms
            if not -limits.EARLY_DATA_WINDOW_MS <= age_ms <= self._lifetime_s * 1000 or not wanted(ticket):
                continue
            schedule = KeySchedule(ticket.suite, ticket.secret)
            partial = message[: -2 - sum(1 + len(binder) for binder in binders)]
            expected = psk_binder(schedule, ticket.suite, transcript, partial)
            if not hmac.compare_digest(expected, binders[index]):
                raise TlsAlert(AlertDescription.DECRYPT_ERROR, "a binder does not fit", "RFC 8446 section 4.2.11.2")
            client_age_ms = (obfuscated_age - ticket.age_add_ms) & 0xFFFFFFFF
            return Resumption(ticket, index, schedule, binders[index], age_ms, client_age_ms)
        return None

    def takes_early_data(self, resumed: Resumption, alpn: str | None, context: TicketContext, now: datetime) -> bool:
        """Whether the ClientHello's early data is taken: nothing has changed, it is fresh, and none was like it."""
        ticket = resumed.ticket
        now_ms = int(now.timestamp() * 1000)
        return (
            self.early_data
            and resumed.index == 0
            and bool(context.early)
            and ticket.context.early == context.early
            and ticket.alpn == alpn
            and abs(resumed.client_age_ms - resumed.age_ms) <= limits.EARLY_DATA_WINDOW_MS
            and (ticket.issued_ms >= self._began_ms or now_ms - self._began_ms > 2 * limits.EARLY_DATA_WINDOW_MS)
            # A replay is refused by its age when the register may have forgotten it: section 8.3
            and self._strikes.strike(resumed.binder, now.timestamp(), 2 * limits.EARLY_DATA_WINDOW_MS / 1000)
        )

    def _open(self, box: bytes) -> Ticket | None:
        content = self._keys.open(box, _CONTEXT)
        if content is None:
            return None
        try:
            return Ticket.decode(content)
        except WireError:
            return None
