"""What a field section must look like (RFC 9114 sections 4.2 to 4.4, RFC 9110 section 5, RFC 9220 with RFC 8441).

A message that breaks a rule is malformed: it is not repaired, it is refused. What one side takes and another reads
differently is how requests are smuggled.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from fairway.http3.errors import FieldsTooLargeError, MessageError
from fairway.quic import UsageError

Fields = list[tuple[bytes, bytes]]
Checked = TypeVar("Checked")

LINE_OVERHEAD = 32  # RFC 9114 section 4.2.2

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch  # a token without capitals
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|\A[ \t]|[ \t]\Z").search
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*").fullmatch
_PATH = re.compile(rb"(?:/[!\"$-~\x80-\xff]*|\*)").fullmatch  # no fragment
_AUTHORITY = re.compile(  # host and perhaps port, no user (RFC 3986 section 3.2)
    rb"(?:\[[A-Za-z0-9\-._~!$&'()*+,;=%:]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+)(?::[0-9]*)?"
).fullmatch
_PORT = re.compile(rb".*:([0-9]{1,5})").fullmatch
_LENGTH = re.compile(rb"[0-9]{1,18}").fullmatch
_STATUS = re.compile(rb"[1-9][0-9][0-9]").fullmatch

_CONNECTION_SPECIFIC = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_REQUEST_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
_PLAIN_REQUEST = frozenset({b":method", b":scheme", b":path"})
_TUNNEL_REQUEST = frozenset({b":method", b":authority"})
_RESPONSE_PSEUDO = frozenset({b":status"})
_NO_PSEUDO: frozenset[bytes] = frozenset()
_JUDGED = frozenset({b"content-length", b"host", b"priority", b"te"})
"""Fields whose values mean something to the rules of a message."""

_KNOWN_LINES = 2048
_KNOWN_LINE_BYTES = 160
_known_lines: set[tuple[bytes, bytes]] = set()
"""Lines that were found to be right: nearly all are the same few, again and again. Full, it begins anew."""


@dataclass(frozen=True, slots=True)
class RequestLine:
    """What the rules need to know of a request."""

    method: bytes
    protocol: bytes | None
    content_length: int | None
    priority: bytes | None


def section_size(fields: Fields) -> int:
    """The size of a field section as RFC 9114 section 4.2.2 counts it."""
    return sum(map(len, chain.from_iterable(fields))) + LINE_OVERHEAD * len(fields)


def check_size(fields: Fields, limit: int) -> None:
    """`FieldsTooLargeError` if the section is larger than we said that we take."""
    size = section_size(fields)
    if size > limit:
        raise FieldsTooLargeError(f"a field section of {size} bytes where {limit} are taken")


def check_request(fields: Fields, *, extended_connect: bool = False) -> RequestLine:
    """`MessageError` unless this is a well-formed request (section 4.3.1)."""
    pseudo, judged = _split(fields, _REQUEST_PSEUDO)
    method = pseudo.get(b":method", b"")
    if not _METHOD(method):
        raise _malformed(":method is missing or no token", "4.3.1")
    protocol = pseudo.get(b":protocol")
    if protocol is not None:
        if not extended_connect or method != b"CONNECT":
            raise _malformed(":protocol is only for extended CONNECT, which was not offered or not used", "4.3")
        if not _METHOD(protocol):
            raise _malformed(":protocol is no token", "4", rfc=8441)
    _check_target(method, protocol, pseudo)
    length = priority = None
    for name, value in judged:
        if name == b"content-length":
            length = _content_length(value, length)
        elif name == b"host":
            _check_host(value, pseudo)
        elif name == b"priority":
            priority = value if priority is None else priority + b"," + value
    if method == b"CONNECT":
        length = None  # what follows is a tunnel's (RFC 9110 section 9.3.6)
    elif b":authority" not in pseudo and pseudo[b":scheme"].lower() in (b"http", b"https"):
        raise _malformed("neither :authority nor host", "4.3.1")
    return RequestLine(method, protocol, length, priority)


def _check_target(method: bytes, protocol: bytes | None, pseudo: dict[bytes, bytes]) -> None:
    """Which pseudo-fields must be there, and what is in them."""
    authority = pseudo.get(b":authority")
    if authority is not None and not _AUTHORITY(authority):
        raise _malformed(":authority is no host and port", "4.3.1")
    if method == b"CONNECT" and protocol is None:
        if pseudo.keys() != _TUNNEL_REQUEST or authority is None:
            raise _malformed("CONNECT has :method and :authority, nothing else", "4.4")
        port = _PORT(authority)
        if port is None or not 0 < int(port[1]) < 1 << 16:
            raise _malformed("the :authority of CONNECT has no port", "4.4")
        return
    missing = _PLAIN_REQUEST - pseudo.keys()
    if missing:
        raise _malformed(f"{min(missing).decode()} is missing", "4.3.1")
    scheme, path = pseudo[b":scheme"], pseudo[b":path"]
    if not _SCHEME(scheme):
        raise _malformed(":scheme is no scheme", "4.3.1")
    if not _PATH(path) or (path == b"*" and method != b"OPTIONS"):
        raise _malformed(":path does not begin with a slash or has characters that no path has", "4.3.1")
    if protocol is not None and authority is None:
        raise _malformed("extended CONNECT has no :authority", "5", rfc=8441)


def _check_host(value: bytes, pseudo: dict[bytes, bytes]) -> None:
    """`host` and `:authority` say the same, so that nobody can read them differently."""
    authority = pseudo.get(b":authority")
    if authority is None:
        if not _AUTHORITY(value):
            raise _malformed("host is no host and port", "4.3.1")
        pseudo[b":authority"] = value  # a second host must be the same
    elif value != authority:
        raise _malformed("host differs from :authority", "4.3.1")


def check_response(fields: Fields) -> tuple[int, int | None]:
    """Status and content-length; `MessageError` unless this is a well-formed response (section 4.3.2)."""
    pseudo, judged = _split(fields, _RESPONSE_PSEUDO)
    status = pseudo.get(b":status", b"")
    if not _STATUS(status):
        raise _malformed(":status is missing or no three-digit code", "4.3.2")
    if status == b"101":
        raise _malformed("101 has no meaning in HTTP/3", "4.5")
    length = None
    for name, value in judged:
        if name == b"content-length":
            length = _content_length(value, length)
        elif name == b"te":
            raise _malformed("te in a response", "4.2")
    return int(status), length


def check_trailers(fields: Fields) -> None:
    """`MessageError` unless these may follow a body: no pseudo-fields (section 4.3), none about the whole."""
    for name, _ in _split(fields, _NO_PSEUDO)[1]:
        if name != b"priority":
            raise _malformed(f"{name.decode()} among the trailers", "6.5.1", rfc=9110)


def check_own_request(fields: Fields) -> RequestLine:
    """`check_request` for what we send: extended CONNECT may be used."""
    return check_request(fields, extended_connect=True)


def checked(check: Callable[[Fields], Checked], fields: Fields) -> Checked:
    """Apply one of the checks to the caller's fields: what a peer would have to refuse is a `UsageError`."""
    try:
        return check(fields)
    except MessageError as error:
        raise UsageError(f"{error.reason} [{error.section}]") from None
    except (TypeError, ValueError, AttributeError):
        raise UsageError("fields are a list of (name, value), both bytes") from None


def _split(fields: Fields, allowed: frozenset[bytes]) -> tuple[dict[bytes, bytes], Fields]:
    """The pseudo-fields, which come first and once, and of the others those of `_JUDGED`; each checked by itself."""
    pseudo: dict[bytes, bytes] = {}
    judged: Fields = []
    known = _known_lines
    plain = False
    for line in fields:
        if line in known:
            plain = True
            if line[0] in _JUDGED:
                judged.append(line)
            continue
        name, value = line
        if name[:1] == b":":
            if plain or name not in allowed:
                raise _malformed(f"the pseudo-field {_shown(name)} has no place here", "4.3")
            if name in pseudo:
                raise _malformed(f"{_shown(name)} appears twice", "4.3")
            pseudo[name] = value  # each has a stricter form than other values, which its message's rules check
            continue
        plain = True
        _check_line(name, value)
        if len(name) + len(value) <= _KNOWN_LINE_BYTES:
            if len(known) >= _KNOWN_LINES:
                known.clear()
            known.add((name, value))
        if name in _JUDGED:
            judged.append(line)
    return pseudo, judged


def _check_line(name: bytes, value: bytes) -> None:
    if not _NAME(name):
        raise _malformed(f"{_shown(name)} is no field name in lower case", "4.2")
    if name in _CONNECTION_SPECIFIC:
        raise _malformed(f"{_shown(name)} is a field of HTTP/1.1 connections", "4.2")
    if _BAD_VALUE(value):
        raise _malformed(f"the value of {_shown(name)} has characters that no value has, or space around it", "10.3")
    if name == b"te" and value.lower() != b"trailers":
        raise _malformed("te may only say trailers", "4.2")


def _content_length(value: bytes, known: int | None) -> int:
    """One non-negative integer; repeated only if it is the same (RFC 9110 section 8.6)."""
    if not _LENGTH(value):
        raise _malformed("content-length is no number", "4.1.2")
    length = int(value)
    if known is not None and known != length:
        raise _malformed("two content-lengths that differ", "4.1.2")
    return length


def _shown(name: bytes) -> str:
    return repr(name[:40].decode("ascii", "backslashreplace"))


def _malformed(reason: str, section: str, *, rfc: int = 9114) -> MessageError:
    return MessageError(reason, section=f"RFC {rfc} section {section}")
