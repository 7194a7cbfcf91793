"""Address tokens (RFC 9000 section 8.1): proof, sealed by us, that a client has received at an address.

A token of Retry is for one handshake: it has the original Destination Connection ID and is bound to address, port and
the connection ID that the Retry gave. One of NEW_TOKEN is for a later connection from the same IP address, and good
once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from fairway.quic.limits import MAX_NEW_TOKENS_REMEMBERED, MAX_TOKEN_BYTES, NEW_TOKEN_LIFETIME_S, RETRY_TOKEN_LIFETIME_S
from fairway.quic.paths.path import Address
from fairway.tls.sealing import OVERHEAD, SealingKeys
from fairway.tls.strikes import StrikeRegister, Strikes

_CLOCK_SKEW_S = 5  # a token of another process of ours may be this much from the future


class TokenKind(IntEnum):
    """A token's first byte: the two kinds must be told apart (section 8.1.1)."""

    RETRY = 0xA7
    NEW_TOKEN = 0x5C


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a token is worth. `original_destination` is None but for a token of Retry."""

    validated: bool
    invalid_retry: bool = False
    """It says that it is of a Retry, and is not or no longer good: the client takes no other (section 8.1.3)."""
    original_destination: bytes | None = None


ABSENT = Verdict(False)
_INVALID_RETRY = Verdict(False, invalid_retry=True)


class Tokens:
    """Makes and judges address tokens. `keys` and `strikes` may be shared by the processes of an address."""

    def __init__(
        self,
        keys: SealingKeys,
        *,
        random: Callable[[int], bytes],
        clock: Callable[[], datetime],
        strikes: Strikes | None = None,
    ) -> None:
        self._keys = keys
        self._random = random
        self._clock = clock
        self._strikes = StrikeRegister(MAX_NEW_TOKENS_REMEMBERED) if strikes is None else strikes

    def for_retry(self, address: Address, original_destination: bytes, source: bytes, version: int) -> bytes:
        """The token of a Retry in this version whose Source Connection ID is `source`."""
        return self._seal(TokenKind.RETRY, original_destination, _context(TokenKind.RETRY, address, version) + source)

    def for_later(self, address: Address, version: int) -> bytes:
        """The token of a NEW_TOKEN frame on a connection of this version: it is for such ones (RFC 9369 section 5)."""
        return self._seal(TokenKind.NEW_TOKEN, b"", _context(TokenKind.NEW_TOKEN, address, version))

    def judge(self, token: bytes, address: Address, destination: bytes, version: int) -> Verdict:
        """What a token is worth in an Initial packet from `address` to `destination`; it may be anything."""
        if not token or len(token) > MAX_TOKEN_BYTES:
            return ABSENT
        if token[0] == TokenKind.RETRY:
            context = _context(TokenKind.RETRY, address, version) + destination
            content = self._open(token, context, RETRY_TOKEN_LIFETIME_S)
            return _INVALID_RETRY if content is None else Verdict(True, original_destination=content)
        if token[0] == TokenKind.NEW_TOKEN:
            content = self._open(token, _context(TokenKind.NEW_TOKEN, address, version), NEW_TOKEN_LIFETIME_S)
            if content is not None and self._strikes.strike(token, self._now_s(), NEW_TOKEN_LIFETIME_S):
                return Verdict(True)
        return ABSENT

    def _now_s(self) -> float:
        return self._clock().timestamp()

    def _seal(self, kind: TokenKind, content: bytes, context: bytes) -> bytes:
        now_s = self._now_s()
        content = int(now_s).to_bytes(6, "big") + content
        return bytes((kind,)) + self._keys.seal(content, context, random=self._random, now_s=now_s)

    def _open(self, token: bytes, context: bytes, lifetime_s: float) -> bytes | None:
        """A genuine token's content, if it has not expired."""
        if len(token) < 1 + OVERHEAD + 6:
            return None
        content = self._keys.open(token[1:], context)
        if content is None:
            return None
        age_s = self._now_s() - int.from_bytes(content[:6], "big")
        return content[6:] if -_CLOCK_SKEW_S <= age_s <= lifetime_s else None


def _context(kind: TokenKind, address: Address, version: int) -> bytes:
    """What a token is bound to; the address has its length in front, as something follows."""
    text = repr(address[: 2 if kind is TokenKind.RETRY else 1]).encode()
    return bytes((kind,)) + version.to_bytes(4, "big") + len(text).to_bytes(2, "big") + text
