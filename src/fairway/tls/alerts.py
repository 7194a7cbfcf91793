"""Alerts: how a handshake fails (RFC 8446 section 6)."""

from __future__ import annotations

from enum import IntEnum


class AlertDescription(IntEnum):
    """The alerts of RFC 8446 section 6 that an endpoint of TLS 1.3 sends; QUIC carries them as 0x100 + alert."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    INAPPROPRIATE_FALLBACK = 86
    USER_CANCELED = 90
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    UNRECOGNIZED_NAME = 112
    BAD_CERTIFICATE_STATUS_RESPONSE = 113
    UNKNOWN_PSK_IDENTITY = 115
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120


class TlsAlert(Exception):  # noqa: N818 - what TLS calls it
    """The peer's messages cannot be accepted: the alert to send, a reason for people, and the section it rests on."""

    def __init__(self, alert: AlertDescription, reason: str, section: str) -> None:
        super().__init__(alert, reason, section)
        self.alert = alert
        self.reason = reason
        self.section = section

    def __str__(self) -> str:
        return f"{self.alert.name.lower()}: {self.reason} ({self.section})"
