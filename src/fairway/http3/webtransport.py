"""What WebTransport over HTTP/3 (draft-ietf-webtrans-http3) adds: how sessions begin and end, and its error codes.

Spoken are draft 16, and 02 and 07, which is what browsers and libraries speak; sections are those of draft 16, whose
rules hold for all but where an older one has a name of its own. A session is an extended CONNECT; its streams begin
with a signal and the session's ID; its datagrams are those of HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fairway.http3.capsules import CLOSE_SESSION, Capsule
from fairway.http3.errors import MessageError
from fairway.http3.fields import Fields
from fairway.http3.limits import MAX_SESSIONS, SESSION_DATA, SESSION_STREAMS
from fairway.http3.settings import Settings
from fairway.quic import UsageError
from fairway.quic.transport_parameters import TransportParameters

PROTOCOL = b"webtransport-h3"  # section 9.1
OLDER_PROTOCOL = b"webtransport"
PROTOCOLS = frozenset({PROTOCOL, OLDER_PROTOCOL})

_NO_CAPSULES = frozenset({b"content-length", b"content-type"})
_STATUS_WITHOUT_CAPSULES = frozenset({b"204", b"205", b"206"})

MAX_CLOSE_REASON = 1024
"""Bytes of the reason in WT_CLOSE_SESSION (section 6)."""

_FIRST_CODE = 0x52E4A40FA8DB
_LAST_CODE = 0x52E5AC983162


def with_webtransport(settings: Settings) -> Settings:
    """Settings that also say: WebTransport is spoken here. QUIC must take datagrams for it.

    Limits within sessions that they have already are kept.
    """
    return replace(
        settings,
        enable_connect_protocol=True,
        h3_datagram=True,
        wt_enabled=True,
        wt_initial_max_data=settings.wt_initial_max_data or SESSION_DATA,
        wt_initial_max_streams_uni=settings.wt_initial_max_streams_uni or SESSION_STREAMS,
        wt_initial_max_streams_bidi=settings.wt_initial_max_streams_bidi or SESSION_STREAMS,
        webtransport_draft_02=True,
        webtransport_draft_07=MAX_SESSIONS,
    )


def missing(settings: Settings, parameters: TransportParameters) -> str:
    """What a peer does not announce of what the current WebTransport needs (section 3.1); "" if it announces all."""
    announced = {
        "SETTINGS_WT_ENABLED": settings.wt_enabled,
        "SETTINGS_H3_DATAGRAM": settings.h3_datagram,
        "max_datagram_frame_size": parameters.max_datagram_frame_size,
        "reset_stream_at": parameters.reset_stream_at,
    }
    return ", ".join(name for name, there in announced.items() if not there)


def session_request(authority: bytes, path: bytes, fields: Fields, *, protocol: bytes = PROTOCOL) -> Fields:
    """The request that asks for a session (section 3.2)."""
    older = [(b"sec-webtransport-http3-draft02", b"1")] if protocol == OLDER_PROTOCOL else []
    return [
        (b":method", b"CONNECT"),
        (b":protocol", protocol),
        (b":scheme", b"https"),
        (b":authority", authority),
        (b":path", path),
        *older,
        *fields,
    ]


def session_protocol(fields: Fields) -> bytes | None:
    """Which WebTransport a request asks for a session of; None if it asks for none."""
    if (b":method", b"CONNECT") not in fields:
        return None
    protocol = next((value for name, value in fields if name == b":protocol"), None)
    return protocol if protocol in PROTOCOLS else None


def check_capsules(fields: Fields) -> None:
    """`MessageError` if capsules cannot follow a request or a successful response with these fields."""
    for name, value in fields:
        if name in _NO_CAPSULES or (name == b":status" and value in _STATUS_WITHOUT_CAPSULES):
            raise MessageError(
                f"{name.decode()} {value.decode('ascii', 'replace')} of a session", section="RFC 9297 section 3.2"
            )


def session_response(fields: Fields, *, protocol: bytes = PROTOCOL) -> Fields:
    """The response that grants a session."""
    older = [(b"sec-webtransport-http3-draft", b"draft02")] if protocol == OLDER_PROTOCOL else []
    return [(b":status", b"200"), *older, *fields]


def check_drain(capsule: Capsule) -> None:
    """`MessageError` if WT_DRAIN_SESSION says anything more."""
    if capsule.value:
        raise MessageError("WT_DRAIN_SESSION with something in it", section="RFC 9297 section 3.3")


def to_http_code(code: int) -> int:
    """An application's 32-bit error code as one of HTTP/3; some values are skipped, being reserved (section 4.4)."""
    if not 0 <= code < 1 << 32:
        raise UsageError(f"WebTransport error codes have 32 bits, {code} is none")
    return _FIRST_CODE + code + code // 0x1E


def from_http_code(code: int) -> int | None:
    """The application's error code; None for one that no application chose."""
    if not _FIRST_CODE <= code <= _LAST_CODE or (code - 0x21) % 0x1F == 0:
        return None
    shifted = code - _FIRST_CODE
    return shifted - shifted // 0x1F


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """How a session ended: the application's code and reason."""

    code: int = 0
    reason: str = ""
    clean: bool = True
    """False if nobody closed it: its stream was reset, or given up for what came on it. The code is 0 then."""

    def capsule(self) -> Capsule:
        """The WT_CLOSE_SESSION capsule. `UsageError` for a code of more than 32 bits, or no text."""
        if not 0 <= self.code < 1 << 32:
            raise UsageError(f"a session closes with a code of 32 bits, {self.code} is none")
        try:
            reason = self.reason.encode()[:MAX_CLOSE_REASON].decode(errors="ignore").encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the reason {self.reason!r} is no text: {error.reason}") from None
        return Capsule(CLOSE_SESSION, self.code.to_bytes(4, "big") + reason)

    @classmethod
    def decode(cls, value: bytes) -> SessionClosed:
        """Read the capsule's value; `MessageError` unless it is a code and at most 1024 bytes of UTF-8."""
        try:
            if 4 <= len(value) <= 4 + MAX_CLOSE_REASON:
                return cls(int.from_bytes(value[:4], "big"), value[4:].decode())
        except UnicodeDecodeError:
            pass
        raise MessageError(
            "WT_CLOSE_SESSION without a code, or its message too long or no UTF-8",
            section="draft-ietf-webtrans-http3-16 section 6",
        )
