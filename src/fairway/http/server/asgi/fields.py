"""Fields of an application's response, made such as every version of HTTP can carry."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate

from fairway.http.server.asgi.errors import ProtocolMisuseError
from fairway.http3.errors import MessageError
from fairway.http3.fields import check_response

CONNECTION_SPECIFIC = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
"""Fields of HTTP/1.1 connections: who translates leaves them out (RFC 9114 section 4.2)."""

Fields = list[tuple[bytes, bytes]]

_date = (0, b"")


def date() -> bytes:
    """The value of `date` now, made once a second."""
    global _date
    second = int(time.time())
    if _date[0] != second:
        _date = second, formatdate(second, usegmt=True).encode("ascii")
    return _date[1]


def field_lines(headers: Iterable[Iterable[bytes]]) -> Fields:
    """An application's headers as fields: names in lower case, none of the connection's.

    `ProtocolMisuseError` for pseudo-fields and for what is no pair of byte strings.
    """
    lines: Fields = []
    for header in headers:
        name, value = header
        if type(name) is not bytes or type(value) is not bytes:
            if isinstance(name, str) or isinstance(value, str):
                raise ProtocolMisuseError(f"the header {name!r}: {value!r} is text where ASGI has byte strings")
            name, value = bytes(name), bytes(value)
        if not name.islower():
            name = name.lower()
        if name[:1] == b":":
            raise ProtocolMisuseError(f"the header {name!r} is a pseudo-field: `status` says it")
        if name not in CONNECTION_SPECIFIC:
            lines.append((name, value))
    return lines


def checked_lines(lines: Fields) -> Fields:
    """The same lines; `ProtocolMisuseError` for one that HTTP/3 would refuse: line breaks, names that are no tokens."""
    try:
        check_response([(b":status", b"200"), *lines])
    except MessageError as error:
        raise ProtocolMisuseError(f"{error.reason} [{error.section}]") from None
    return lines


def content_length(lines: Fields) -> int | None:
    """What the response says about its length; `ProtocolMisuseError` if that is no number."""
    for name, value in lines:
        if name == b"content-length":
            if not value.isdigit():
                raise ProtocolMisuseError(f"content-length {value!r} is no number")
            return int(value)
    return None
