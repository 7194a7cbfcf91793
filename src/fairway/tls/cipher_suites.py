"""The cipher suites of TLS 1.3 that QUIC uses (RFC 8446 appendix B.4, RFC 9001 section 5.3)."""

from __future__ import annotations

from enum import IntEnum
from typing import Self

_PARAMETERS = {
    0x1301: ("sha256", 32, 16),
    0x1302: ("sha384", 48, 32),
    0x1303: ("sha256", 32, 32),
}


class CipherSuite(IntEnum):
    """A suite: an AEAD for packets and a hash for the key schedule."""

    AES_128_GCM_SHA256 = 0x1301
    AES_256_GCM_SHA384 = 0x1302
    CHACHA20_POLY1305_SHA256 = 0x1303

    hash_name: str
    """The hash, as `hashlib` knows it."""
    hash_length: int
    """Bytes of the hash and of every secret."""
    key_length: int
    """Bytes of the AEAD's key and of the header protection's."""
    iv_length: int
    """Bytes of the AEAD's nonce (RFC 9001 section 5.3)."""

    def __new__(cls, code: int) -> Self:
        """The suite of a code, with what is known of it."""
        suite = int.__new__(cls, code)
        suite._value_ = code
        suite.hash_name, suite.hash_length, suite.key_length = _PARAMETERS[code]
        suite.iv_length = 12
        return suite

    __hash__ = int.__hash__  # Enum's own, by name, costs more than the rest of a look-up


DEFAULT_CIPHER_SUITES = (
    CipherSuite.AES_128_GCM_SHA256,
    CipherSuite.AES_256_GCM_SHA384,
    CipherSuite.CHACHA20_POLY1305_SHA256,
)
