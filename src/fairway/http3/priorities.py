"""Priorities of responses (RFC 9218): the `priority` field and PRIORITY_UPDATE carry two parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PARAMETER = re.compile(rb"[ \t]*([a-z*][a-z0-9_.*-]*)(?:=(\?[01]|-?[0-9]+(?:\.[0-9]+)?|[^,;]*))?(?:;[^,]*)?[ \t]*")


@dataclass(frozen=True, slots=True)
class Priority:
    """`urgency` 0 (first) to 7; `incremental`: useful piece by piece, so served in turns with its equals."""

    urgency: int = 3
    incremental: bool = False

    @classmethod
    def parse(cls, value: bytes) -> Priority:
        """Read a field's value, a dictionary of structured fields; what is malformed or unknown is left out.

        RFC 9218 section 4: parameters out of range or of another type are ignored.
        """
        urgency, incremental = 3, False
        for part in value[:256].split(b","):
            matched = _PARAMETER.fullmatch(part)
            if matched is None:
                continue
            name, what = matched.groups()
            if name == b"u" and what is not None and len(what) == 1 and b"0" <= what <= b"7":
                urgency = what[0] - 0x30
            elif name == b"i" and what in (None, b"?1", b"?0"):
                incremental = what != b"?0"
        return cls(urgency, incremental)

    def encode(self) -> bytes:
        """The field's value; defaults are left out."""
        parts = [] if self.urgency == 3 else [b"u=%d" % self.urgency]
        if self.incremental:
            parts.append(b"i")
        return b", ".join(parts)


DEFAULT = Priority()
