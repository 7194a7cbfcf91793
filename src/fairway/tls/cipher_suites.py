"""The cipher suites of TLS 1.3 that QUIC uses (RFC 8446 appendix B.4, RFC 9001 section 5.3)."""

from __future__ import annotations

from enum import IntEnum


class CipherSuite(IntEnum):
    """A suite: an AEAD for packets and a hash for the key schedule."""

    AES_128_GCM_SHA256 = 0x1301
    AES_256_GCM_SHA384 = 0x1302
    CHACHA20_POLY1305_SHA256 = 0x1303

    @property
    def hash_name(self) -> str:
        """The hash, as `hashlib` knows it."""
        return _PARAMETERS[self][0]

    @property
    def hash_length(self) -> int:
        """Bytes of the hash and of every secret."""
        return _PARAMETERS[self][1]

    @property
    def key_length(self) -> int:
        """Bytes of the AEAD's key and of the header protection's."""
        return _PARAMETERS[self][2]

    @property
    def iv_length(self) -> int:
        """Bytes of the AEAD's nonce (RFC 9001 section 5.3)."""
        return 12


_PARAMETERS = {
    CipherSuite.AES_128_GCM_SHA256: ("sha256", 32, 16),
    CipherSuite.AES_256_GCM_SHA384: ("sha384", 48, 32),
    CipherSuite.CHACHA20_POLY1305_SHA256: ("sha256", 32, 32),
}

DEFAULT_CIPHER_SUITES = (
    CipherSuite.AES_128_GCM_SHA256,
    CipherSuite.AES_256_GCM_SHA384,
    CipherSuite.CHACHA20_POLY1305_SHA256,
)
