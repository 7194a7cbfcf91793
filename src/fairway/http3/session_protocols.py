"""Which protocol an application speaks within a WebTransport session (draft-ietf-webtrans-http3-16 section 3.3).

The client lists what it speaks, the server may choose: a List and an Item of Strings (RFC 9651 section 3.3.3). A field
that is anything else counts as not there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fairway.http3.fields import Fields
from fairway.quic import UsageError

AVAILABLE = b"wt-available-protocols"
CHOSEN = b"wt-protocol"

_STRING = rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"'
_BARE = rb'(?:"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"|[A-Za-z0-9*:/?!#$%&\'+.^_`|~-]+|:[A-Za-z0-9+/=]*:)'
_PARAMETERS = rb"(?:; *[a-z*][a-z0-9_.*-]*(?:=" + _BARE + rb")?)*"  # their meaning is none: they are passed over
_ITEM = re.compile(_STRING + _PARAMETERS)
_COMMA = re.compile(rb"[ \t]*,[ \t]*")


def _value(fields: Fields, name: bytes) -> bytes:
    return b", ".join(value.strip() for known, value in fields if known == name)


def _items(value: bytes) -> list[str]:
    """The strings of a List; none if it is no list of strings."""
    found: list[str] = []
    at = 0
    while (item := _ITEM.match(value, at)) is not None:
        found.append(re.sub(rb"\\(.)", rb"\1", item[1]).decode("ascii"))
        at = item.end()
        if at == len(value):
            return found
        comma = _COMMA.match(value, at)
        if comma is None:
            break
        at = comma.end()
    return []


def available(fields: Fields) -> list[str]:
    """What a client that asks for a session speaks, the best first; nothing if it does not say, or not well."""
    return _items(_value(fields, AVAILABLE))


def chosen(fields: Fields) -> str | None:
    """What a server that grants a session has chosen; None if it does not say, or not well."""
    items = _items(_value(fields, CHOSEN))
    return items[0] if len(items) == 1 else None


def offer(protocols: Sequence[str]) -> Fields:
    """The field that offers them. `UsageError` for one that is no printable ASCII."""
    return [(AVAILABLE, b", ".join(map(_encode, protocols)))] if protocols else []


def choice(protocol: str | None) -> Fields:
    """The field that chooses one."""
    return [] if protocol is None else [(CHOSEN, _encode(protocol))]


def _encode(protocol: str) -> bytes:
    if not (protocol.isascii() and protocol.isprintable()):
        raise UsageError(f"a protocol is called by printable ASCII, {protocol!r} is none")
    return b'"' + protocol.replace("\\", "\\\\").replace('"', '\\"').encode("ascii") + b'"'
