"""From shared secrets to traffic secrets (RFC 8446 section 7) and from those to QUIC's keys (RFC 9001 section 5.1).

HMAC is HKDF's only primitive, and for the short outputs that TLS asks for extract and expand are one call of it. Each
side of a handshake calls it some thirty times, so it is spelled out here (RFC 2104): two hashes of few bytes cost two
thirds of what an HMAC object does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache, lru_cache

from fairway.tls.cipher_suites import CipherSuite

_CONSTRUCTORS: dict[str, Callable[..., hashlib._Hash]] = {"sha256": hashlib.sha256, "sha384": hashlib.sha384}
_HASH_LENGTHS = {"sha256": 32, "sha384": 48}

MESSAGE_HASH = 254  # RFC 8446 section 4.4.1: the synthetic message that stands for the first ClientHello


_BLOCKS: dict[str, tuple[Callable[..., hashlib._Hash], int]] = {
    "sha256": (hashlib.sha256, 64),
    "sha384": (hashlib.sha384, 128),
}
"""A hash and the bytes of its blocks."""

_INNER = bytes(byte ^ 0x36 for byte in range(256))  # RFC 2104 section 2: ipad and opad
_OUTER = bytes(byte ^ 0x5C for byte in range(256))

Info = tuple[bytes, int]
"""What `expand` takes for a label: HKDF-Expand's info with its counter, and the length of the output."""


def hmac_digest(hash_name: str, key: bytes, message: bytes) -> bytes:
    """HMAC of `message` (RFC 2104)."""
    make, length = _BLOCKS[hash_name]
    if len(key) > length:
        key = make(key).digest()
    block = key.ljust(length, b"\0")
    return make(block.translate(_OUTER) + make(block.translate(_INNER) + message).digest()).digest()


@lru_cache(maxsize=256)
def _label_prefix(label: str, context_length: int, length: int) -> bytes:
    full = b"tls13 " + label.encode("ascii")
    return length.to_bytes(2, "big") + bytes((len(full),)) + full + bytes((context_length,))


def label_info(label: str, length: int, context: bytes = b"") -> Info:
    """A label of HKDF-Expand-Label (RFC 8446 section 7.1) for `expand`; `length` is at most the hash's."""
    return _label_prefix(label, len(context), length) + context + b"\x01", length


def expand(hash_name: str, secret: bytes, infos: Iterable[Info]) -> list[bytes]:
    """HKDF-Expand-Label for several labels of one secret, in their order. The secret is no longer than a block."""
    make, block_length = _BLOCKS[hash_name]
    block = secret.ljust(block_length, b"\0")
    inner, outer = make(block.translate(_INNER)), make(block.translate(_OUTER))  # begun once for all labels
    outputs = []
    for info, length in infos:
        first, second = inner.copy(), outer.copy()
        first.update(info)
        second.update(first.digest())
        outputs.append(second.digest()[:length])
    return outputs


def hkdf_expand_label(hash_name: str, secret: bytes, label: str, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446 section 7.1; `label` without "tls13 ", `hash_name` as `hashlib` knows it."""
    info = _label_prefix(label, len(context), length) + context
    output = block = hmac_digest(hash_name, secret, info + b"\x01")
    if length == len(output):  # as it mostly is
        return output
    counter = 2
    while len(output) < length:
        block = hmac_digest(hash_name, secret, block + info + bytes((counter,)))
        output += block
        counter += 1
    return output[:length]


_FINISHED = {name: label_info("finished", length)[0] for name, length in _HASH_LENGTHS.items()}


@cache
def key_infos(cipher_suite: CipherSuite, prefix: str = "quic ") -> tuple[Info, Info, Info]:
    """The labels of packet key, IV and header protection key; `prefix` is the QUIC version's."""
    return (
        label_info(prefix + "key", cipher_suite.key_length),
        label_info(prefix + "iv", cipher_suite.iv_length),
        label_info(prefix + "hp", cipher_suite.key_length),
    )


def derive_keys(cipher_suite: CipherSuite, secret: bytes) -> tuple[bytes, bytes, bytes]:
    """Packet key, IV and header protection key of a traffic secret (RFC 9001 section 5.1)."""
    key, iv, hp = expand(cipher_suite.hash_name, secret, key_infos(cipher_suite))
    return key, iv, hp


def next_secret(cipher_suite: CipherSuite, secret: bytes) -> bytes:
    """The traffic secret of the next key phase (RFC 9001 section 6.1)."""
    return hkdf_expand_label(cipher_suite.hash_name, secret, "quic ku", b"", cipher_suite.hash_length)


def finished_mac(hash_name: str, secret: bytes, transcript_hash: bytes) -> bytes:
    """The verify_data of a Finished message under a handshake traffic secret (RFC 8446 section 4.4.4)."""
    key = hmac_digest(hash_name, secret, _FINISHED[hash_name])
    return hmac_digest(hash_name, key, transcript_hash)


@cache
def _empty_hash(hash_name: str) -> bytes:
    return hashlib.new(hash_name).digest()


def _derived(hash_name: str, secret: bytes) -> bytes:
    return hkdf_expand_label(hash_name, secret, "derived", _empty_hash(hash_name), _HASH_LENGTHS[hash_name])


@cache
def _early_secret_without_psk(hash_name: str) -> bytes:
    zeros = bytes(_HASH_LENGTHS[hash_name])
    return hmac_digest(hash_name, zeros, zeros)


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
            self._secret = hmac_digest(self._name, bytes(self._length), psk)
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
        self._secret = hmac_digest(self._name, self._salt, shared_secret)
        length = self._length
        client, server, self._salt = expand(
            self._name,
            self._secret,
            (
                label_info("c hs traffic", length, transcript_hash),
                label_info("s hs traffic", length, transcript_hash),
                label_info("derived", length, _empty_hash(self._name)),
            ),
        )
        return client, server

    def enter_application(self, transcript_hash: bytes) -> tuple[bytes, bytes]:
        """Go on to the master secret; both application traffic secrets. The hash ends at the server's Finished."""
        self._secret = hmac_digest(self._name, self._salt, bytes(self._length))
        length = self._length
        client, server = expand(
            self._name,
            self._secret,
            (
                label_info("c ap traffic", length, transcript_hash),
                label_info("s ap traffic", length, transcript_hash),
            ),
        )
        return client, server


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

    def digest_with(self, hash_name: str, data: bytes) -> bytes:
        """What the hash would be after `data`, whether it has been chosen or not."""
        if self._hash is None:
            return _CONSTRUCTORS[hash_name](b"".join((*self._kept, data))).digest()
        further = self._hash.copy()
        further.update(data)
        return further.digest()

    def digest(self) -> bytes:
        """The hash so far. The hash must have been chosen."""
        if self._hash is None:
            raise RuntimeError("the hash of the transcript is not yet chosen")
        return self._hash.digest()


def psk_binder(schedule: KeySchedule, suite: CipherSuite, transcript: Transcript, partial: bytes) -> bytes:
    """The binder of a resumption (RFC 8446 section 4.2.11.2): proof of its key over a ClientHello without binders.

    `schedule` is at its early secret.
    """
    name = suite.hash_name
    key = schedule.derive("res binder", _empty_hash(name))
    return finished_mac(name, key, transcript.digest_with(name, partial))
