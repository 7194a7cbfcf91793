"""A client's offer to resume a session (RFC 8446 section 4.2.11): is a ticket fit, and its place in ClientHello."""

from __future__ import annotations

from datetime import datetime, timedelta

from fairway.tls.alerts import TlsAlert
from fairway.tls.config import ClientConfig
from fairway.tls.events import SessionTicket
from fairway.tls.extensions import ExtensionType, encode_pre_shared_key
from fairway.tls.key_schedule import KeySchedule, Transcript, psk_binder
from fairway.tls.messages import ClientHello


def fits(ticket: SessionTicket, config: ClientConfig, now: datetime) -> bool:
    """Whether a session may be resumed as `config` wants a server: what held for it then has to hold now."""
    age = now - ticket.received_at
    if not timedelta() <= age < timedelta(seconds=ticket.lifetime_s):
        return False
    if ticket.server_name != config.server_name or ticket.cipher_suite not in config.cipher_suites:
        return False
    if (ticket.alpn is None) != (not config.alpn) or (ticket.alpn is not None and ticket.alpn not in config.alpn):
        return False
    if ticket.identity != config.identity_name:
        return False
    if config.trust is None or config.subject is None:
        return True
    try:
        config.trust.server_key(ticket.peer_certificates, config.subject, now)
    except TlsAlert:
        return False
    return True


class Offer:
    """One ticket, offered."""

    __slots__ = ("early", "schedule", "ticket")

    def __init__(self, ticket: SessionTicket, *, early: bool) -> None:
        self.ticket = ticket
        self.early = early and ticket.early_data
        """Whether data goes before the server's answer."""
        self.schedule = KeySchedule(ticket.cipher_suite, ticket.secret)

    def encode(self, hello: ClientHello, transcript: Transcript, now: datetime) -> bytes:
        """The whole message of `hello` with the offer as its last extension; `transcript` is what went before."""
        ticket = self.ticket
        age_ms = int((now - ticket.received_at).total_seconds() * 1000)
        length = ticket.cipher_suite.hash_length
        offered = dict(hello.extensions)
        if self.early:
            offered[ExtensionType.EARLY_DATA] = b""
        obfuscated_age = (age_ms + ticket.age_add_ms) & 0xFFFFFFFF
        offered[ExtensionType.PRE_SHARED_KEY] = encode_pre_shared_key(ticket.ticket, obfuscated_age, bytes(length))
        message = ClientHello(hello.random, hello.legacy_session_id, hello.cipher_suites, offered).encode()
        partial = message[: -3 - length]  # section 4.2.11.2: without the list of binders
        return message[:-length] + psk_binder(self.schedule, ticket.cipher_suite, transcript, partial)
