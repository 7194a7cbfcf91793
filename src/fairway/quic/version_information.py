"""The version_information transport parameter (RFC 9368 section 3): what each side speaks, under TLS's protection."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from fairway.quic.errors import ErrorCode, PeerError
from fairway.wire import encode_varint

PARAMETER = 0x11  # section 10.1
_FREE_BITS, _RESERVED = 0xF0F0F0F0, 0x0A0A0A0A  # RFC 9000 section 15


@dataclass(frozen=True, slots=True)
class VersionInformation:
    """The version that the sender uses, and those that it could use; the latter in a client's order of preference."""

    chosen: int
    available: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """The parameter's value."""
        return b"".join([version.to_bytes(4, "big") for version in (self.chosen, *self.available)])

    @classmethod
    def decode(cls, value: bytes, *, from_client: bool) -> VersionInformation:
        """Parse the parameter's value (section 4); raises `PeerError`."""
        if not value or len(value) % 4:
            raise _error("version_information has a wrong length")
        chosen, *available = struct.unpack(f">{len(value) // 4}I", value)
        if chosen == 0 or 0 in available:
            raise _error("version_information lists version 0")
        if from_client and chosen not in available:
            raise _error("version_information does not list the version that is chosen")
        return cls(chosen, tuple(available))


@lru_cache(maxsize=64)
def encode_version_information(chosen: int, available: tuple[int, ...]) -> Callable[[bytes], bytes]:
    """The whole parameter, from four random bytes: of them a reserved version is made that ends the list."""
    body = VersionInformation(chosen, available).encode()
    head = bytes((PARAMETER,)) + encode_varint(len(body) + 4) + body
    return lambda random: head + reserved_version(random)


def reserved_version(random: bytes) -> bytes:
    """A version that exists only to be ignored (RFC 9000 section 15), of four random bytes."""
    return (int.from_bytes(random, "big") & _FREE_BITS | _RESERVED).to_bytes(4, "big")


def _error(reason: str) -> PeerError:
    return PeerError(ErrorCode.TRANSPORT_PARAMETER_ERROR, reason, section="RFC 9368 section 4")
