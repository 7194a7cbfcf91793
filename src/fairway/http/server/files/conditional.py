"""Preconditions of a request and what becomes of it (RFC 9110 section 13). Pure: the time is an argument."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fairway.http.server.files.dates import parse_date
from fairway.http.server.files.limits import MAX_FIELD_BYTES

_TAG = rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rb"[ \t,]*(" + _TAG + rb")[ \t]*(?=,|$)")


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one state of a representation from another: ETag as it is sent, Last-Modified in both forms."""

    etag: bytes
    last_modified: bytes
    modified_s: int

    @property
    def strong(self) -> bool:
        """Whether two responses with this ETag have the same bytes (RFC 9110 section 8.8.1)."""
        return not self.etag.startswith(b"W/")


def precondition(fields: Mapping[bytes, bytes], validators: Validators, *, now: float) -> int:
    """200: go on; 304: the client has it; 412: the client meant another. For GET and HEAD, in the order of 13.2.2."""
    value = fields.get(b"if-match")
    if value is not None:
        if not matches(value, validators.etag, weak=False):
            return 412
    else:
        value = fields.get(b"if-unmodified-since")
        if value is not None:
            since = parse_date(value, now=now)
            if since is not None and validators.modified_s > since:
                return 412
    value = fields.get(b"if-none-match")
    if value is not None:
        return 304 if matches(value, validators.etag, weak=True) else 200
    value = fields.get(b"if-modified-since")
    if value is not None:
        if value == validators.last_modified:  # what most clients send back
            return 304
        since = parse_date(value, now=now)
        if since is not None and validators.modified_s <= since:
            return 304
    return 200


def range_applies(fields: Mapping[bytes, bytes], validators: Validators) -> bool:
    """Whether If-Range, if any, names just this state, by a strong comparison (RFC 9110 section 13.1.5).

    Last-Modified is strong where the ETag is: both are weak while the file may still change within one timestamp.
    """
    value = fields.get(b"if-range")
    if value is None:
        return True
    return validators.strong and value in (validators.etag, validators.last_modified)


def matches(value: bytes, etag: bytes, *, weak: bool) -> bool:
    """Whether a list of entity tags, or `*`, names `etag`, by the weak or the strong comparison (8.8.3.2)."""
    if value == b"*":
        return True
    if len(value) > MAX_FIELD_BYTES or (not weak and etag.startswith(b"W/")):
        return False
    if weak:
        etag = etag.removeprefix(b"W/")
    position = 0
    while (match := _TAGS.match(value, position)) is not None:
        position = match.end()
        tag = match[1].removeprefix(b"W/") if weak else match[1]
        if tag == etag:
            return True
    return False
