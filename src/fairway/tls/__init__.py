"""TLS 1.3 (RFC 8446) as QUIC uses it (RFC 9001), without I/O: messages in; messages, secrets and alerts out."""

from fairway.tls.alerts import AlertDescription, TlsAlert
from fairway.tls.cipher_suites import DEFAULT_CIPHER_SUITES, CipherSuite
from fairway.tls.client import ClientSession
from fairway.tls.config import ClientConfig, KeyLog, ServerConfig
from fairway.tls.development import self_signed, self_signed_identity
from fairway.tls.events import Complete, CryptoData, EarlyData, Event, Level, NewSecret, PeerParameters, SessionTicket
from fairway.tls.identity import Identity
from fairway.tls.key_exchange import DEFAULT_GROUPS, SUPPORTED_GROUPS, NamedGroup
from fairway.tls.key_schedule import derive_keys, hkdf_expand_label, next_secret
from fairway.tls.sealing import SealingKeys
from fairway.tls.server import ServerSession
from fairway.tls.session import Session
from fairway.tls.signatures import SignatureScheme
from fairway.tls.strikes import StrikeRegister, Strikes
from fairway.tls.tickets import TicketContext, Tickets

__all__ = [
    "DEFAULT_CIPHER_SUITES",
    "DEFAULT_GROUPS",
    "SUPPORTED_GROUPS",
    "AlertDescription",
    "CipherSuite",
    "ClientConfig",
    "ClientSession",
    "Complete",
    "CryptoData",
    "EarlyData",
    "Event",
    "Identity",
    "KeyLog",
    "Level",
    "NamedGroup",
    "NewSecret",
    "PeerParameters",
    "SealingKeys",
    "ServerConfig",
    "ServerSession",
    "Session",
    "SessionTicket",
    "SignatureScheme",
    "StrikeRegister",
    "Strikes",
    "TicketContext",
    "Tickets",
    "TlsAlert",
    "derive_keys",
    "hkdf_expand_label",
    "next_secret",
    "self_signed",
    "self_signed_identity",
]
