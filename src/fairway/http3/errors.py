"""What can go wrong with HTTP/3, and how much it ends: the connection, or one stream."""

from __future__ import annotations

from enum import IntEnum


class H3Code(IntEnum):
    """Application error codes.

    RFC 9114 section 8.1, RFC 9204 section 6, RFC 9297 section 5.2, draft-ietf-webtrans-http3-16 section 9.5.
    """

    H3_DATAGRAM_ERROR = 0x33
    H3_NO_ERROR = 0x0100
    H3_GENERAL_PROTOCOL_ERROR = 0x0101
    H3_INTERNAL_ERROR = 0x0102
    H3_STREAM_CREATION_ERROR = 0x0103
    H3_CLOSED_CRITICAL_STREAM = 0x0104
    H3_FRAME_UNEXPECTED = 0x0105
    H3_FRAME_ERROR = 0x0106
    H3_EXCESSIVE_LOAD = 0x0107
    H3_ID_ERROR = 0x0108
    H3_SETTINGS_ERROR = 0x0109
    H3_MISSING_SETTINGS = 0x010A
    H3_REQUEST_REJECTED = 0x010B
    H3_REQUEST_CANCELLED = 0x010C
    H3_REQUEST_INCOMPLETE = 0x010D
    H3_MESSAGE_ERROR = 0x010E
    H3_CONNECT_ERROR = 0x010F
    H3_VERSION_FALLBACK = 0x0110
    QPACK_DECOMPRESSION_FAILED = 0x0200
    QPACK_ENCODER_STREAM_ERROR = 0x0201
    QPACK_DECODER_STREAM_ERROR = 0x0202
    WT_FLOW_CONTROL_ERROR = 0x045D4487
    WT_ALPN_ERROR = 0x0817B3DD
    WT_SESSION_GONE = 0x170D7B68
    WT_BUFFERED_STREAM_REJECTED = 0x3994BD84


def code_name(code: int) -> str:
    """The name of an application error code, for people: `H3_MESSAGE_ERROR`, `0x1234`."""
    try:
        return H3Code(code).name
    except ValueError:
        return f"{code:#x}"


class Http3Error(Exception):
    """The peer broke a rule that ends the connection, with `code`. `section` names the rule."""

    def __init__(self, code: H3Code, reason: str, *, section: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.section = section

    def __str__(self) -> str:
        where = f" [{self.section}]" if self.section else ""
        return f"{self.code.name}: {self.reason}{where}"


class MessageError(Http3Error):
    """The peer broke a rule that ends only one stream: a malformed or incomplete message (RFC 9114 section 4.1.2)."""

    def __init__(self, reason: str, *, code: H3Code = H3Code.H3_MESSAGE_ERROR, section: str = "") -> None:
        super().__init__(code, reason, section=section)


class FieldsTooLargeError(Http3Error):
    """A field section larger than we accept: the answer is 431 (RFC 9114 section 4.2.2)."""

    def __init__(self, reason: str) -> None:
        super().__init__(H3Code.H3_EXCESSIVE_LOAD, reason, section="RFC 9114 section 4.2.2")
