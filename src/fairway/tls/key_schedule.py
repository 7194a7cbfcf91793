"""From shared secrets to traffic secrets (RFC 8446 section 7) and from those to QUIC's keys (RFC 9001 section 5.1).

`hmac.digest` is HKDF's only primitive here: for the short outputs that TLS asks for, extract and expand are one call.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from functools import cache, lru_cache

from fairway.tls.cipher_suites import CipherSuite

_CONSTRUCTORS: dict[str, Callable[..., hashlib._Hash]] = {"sha256": hashlib.sha256, "sha384": hashlib.sha384}
_HASH_LENGTHS = {"sha256": 32, "sha384": 48}

MESSAGE_HASH = 254  # RFC 8446 section 4.4.1: the synthetic message that stands for the first ClientHello


@lru_cache(maxsize=256)
def _label_prefix(label: str, context_length: int, length: int) -> bytes:
    full = b"tls13 " + label.encode("ascii")
    return length.to_bytes(2, "big") + bytes((len(full),)) + full + bytes((context_length,))


def hkdf_expand_label(hash_name: str, secret: bytes, label: str, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446 section 7.1; `label` without "tls13 ", `hash_name` as `hashlib` knows it."""
    info = _label_prefix(label, len(context), length) + context
    block = hmac.digest(secret, info + b"\x01", hash_name)
    if length <= len(block):
        return block[:length]
    output = block
    counter = 2
    while len(output) < length:
        block = hmac.digest(secret, block + info + bytes((counter,)), hash_name)
        output += block
        counter += 1
    return output[:length]


def derive_keys(cipher_suite: CipherSuite, secret: bytes) -> tuple[bytes, bytes, bytes]:
    """Packet key, IV and header protection key of a traffic secret (RFC 9001 section 5.1)."""
    name, length = cipher_suite.hash_name, cipher_suite.key_length
    return (
        hkdf_expand_label(name, secret, "quic key", b"", length),
        hkdf_expand_label(name, secret, "quic iv", b"", cipher_suite.iv_length),
        hkdf_expand_label(name, secret, "quic hp", b"", length),
    )


def next_secret(cipher_suite: CipherSuite, secret: bytes) -> bytes:
    """The traffic secret of the next key phase (RFC 9001 section 6.1)."""
    return hkdf_expand_label(cipher_suite.hash_name, secret, "quic ku", b"", cipher_suite.hash_length)


def finished_mac(hash_name: str, secret: bytes, transcript_hash: bytes) -> bytes:
    """The verify_data of a Finished message under a handshake traffic secret (RFC 8446 section 4.4.4)."""
    key = hkdf_expand_label(hash_name, secret, "finished", b"", _HASH_LENGTHS[hash_name])
    return hmac.digest(key, transcript_hash, hash_name)


@cache
def _empty_hash(hash_name: str) -> bytes:
    return hashlib.new(hash_name).digest()


def _extract(hash_name: str, salt: bytes, keying_material: bytes) -> bytes:
    return hmac.digest(salt, keying_material, hash_name)


def _derived(hash_name: str, secret: bytes) -> bytes:
    return hkdf_expand_label(hash_name, secret, "derived", _empty_hash(hash_name), _HASH_LENGTHS[hash_name])


@cache
def _early_secret_without_psk(hash_name: str) -> bytes:
    zeros = bytes(_HASH_LENGTHS[hash_name])
    return _extract(hash_name, zeros, zeros)


@cache
def _handshake_salt_without_psk(hash_name: str) -> bytes:
    return _derived(hash_name, _early_secret_without_psk(hash_name))


class KeySchedule:
    """The secrets of one connection, early, handshake and master one after the other (RFC 8446 section 7.1)."""

    __slots__ = ("_length", "_name", "_salt", "_secret")

    def __init__(self, cipher_suite: CipherSuite, psk: bytes | None = None) -> None:
        self._name = cipher_suite.hash_name
        self._length = cipher_suite.hash_length
        if psk is None:
            self._secret = _early_secret_without_psk(self._name)
            self._salt = _handshake_salt_without_psk(self._name)
        else:
            self._secret = _extract(self._name, bytes(self._length), psk)
            self._salt = _derived(self._name, self._secret)

    @property
    def secret(self) -> bytes:
        """The early, handshake or master secret, whichever is the current one."""
        return self._secret

    def derive(self, label: str, transcript_hash: bytes) -> bytes:
        """Derive-Secret from the current secret."""
        return hkdf_expand_label(self._name, self._secret, label, transcript_hash, self._length)

    def enter_handshake(self, shared_secret: bytes, transcript_hash: bytes) -> tuple[bytes, bytes]:
        """Mix the key exchange in; both handshake traffic secrets, the client's first. The hash ends at ServerHello."""
        self._secret = _extract(self._name, self._salt, shared_secret)
        return self.derive("c hs traffic", transcript_hash), self.derive("s hs traffic", transcript_hash)

    def enter_application(self, transcript_hash: bytes) -> tuple[bytes, bytes]:
        """Go on to the master secret; both application traffic secrets. The hash ends at the server's Finished."""
        self._secret = _extract(self._name, _derived(self._name, self._secret), bytes(self._length))
        return self.derive("c ap traffic", transcript_hash), self.derive("s ap traffic", transcript_hash)


class Transcript:
    """The hash of all handshake messages so far; they are kept whole until the suite, and so the hash, is known."""

    __slots__ = ("_hash", "_kept")

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._hash: hashlib._Hash | None = None

    def add(self, message: bytes) -> None:
        """Append a message with its header."""
        if self._hash is None:
            self._kept.append(message)
        else:
            self._hash.update(message)

    def choose_hash(self, hash_name: str) -> None:
        """Hash with `hash_name` from here on, and what was kept. A second call changes nothing."""
        if self._hash is None:
            self._hash = _CONSTRUCTORS[hash_name](b"".join(self._kept))
            self._kept.clear()

    def replace_with_hash(self, hash_name: str) -> None:
        """Put the message_hash of RFC 8446 section 4.4.1 in place of the first ClientHello."""
        digest = _CONSTRUCTORS[hash_name](b"".join(self._kept)).digest()
        self._kept = [bytes((MESSAGE_HASH, 0, 0, len(digest))) + digest]
        self.choose_hash(hash_name)

    def digest(self) -> bytes:
        """The hash so far. The hash must have been chosen."""
        if self._hash is None:
            raise RuntimeError("the hash of the transcript is not yet chosen")
        return self._hash.digest()
