"""What a server gives away and takes back, sealed under keys of its own: session tickets, address tokens.

A box is the key's name (4 bytes), a salt (16 random bytes) and what AES-128-GCM made of the content under a key and a
nonce that are derived from both. So the number of boxes under one key is not bounded by a nonce of 96 bits, and
processes that share a key need not count together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fairway.tls.key_schedule import hmac_digest

KEY_LENGTH = 32
SALT_LENGTH = 16
NAME_LENGTH = 4
OVERHEAD = NAME_LENGTH + SALT_LENGTH + 16
ROTATION_S = 86_400.0
"""After so long a key of our own making is replaced."""
KEPT = 7
"""Former keys of our own making that still open: a week with `ROTATION_S`."""

Random = Callable[[int], bytes]


class _Key:
    __slots__ = ("_key", "name")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.name = hashlib.sha256(b"fairway key name" + key).digest()[:NAME_LENGTH]

    def cipher(self, salt: bytes) -> tuple[AESGCM, bytes]:
        """The cipher of one box, and its nonce."""
        derived = hmac_digest("sha256", self._key, salt)
        return AESGCM(derived[:16]), derived[16:28]


class SealingKeys:
    """Keys that seal and open boxes. The first of `keys` (32 secret bytes each) seals, all open.

    Give the same keys to all processes that answer for one address. Without any, a key is made when it is first needed,
    and replaced every day; it is lost with the process.
    """

    __slots__ = ("_keys", "_since", "given")

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._since = 0.0
        self._keys: list[_Key] = []
        self.given = False
        """True if the keys are the caller's."""
        if keys:
            self.replace(keys)

    def replace(self, keys: Sequence[bytes]) -> None:
        """Use these keys from now on: the new one first, then those that have to open what is out."""
        for key in keys:
            if len(key) != KEY_LENGTH:
                raise ValueError(f"a sealing key has {KEY_LENGTH} bytes, not {len(key)}")
        if not keys:
            raise ValueError("at least one sealing key is needed")
        self._keys = [_Key(key) for key in keys]
        self.given = True

    def seal(self, content: bytes, context: bytes, *, random: Random, now_s: float) -> bytes:
        """A box of `content`; it opens only with the same `context`. `now_s` is of the wall clock."""
        if not self.given and (not self._keys or not 0 <= now_s - self._since < ROTATION_S):
            self._keys = [_Key(random(KEY_LENGTH)), *self._keys[:KEPT]]
            self._since = now_s
        key = self._keys[0]
        salt = random(SALT_LENGTH)
        cipher, nonce = key.cipher(salt)
        return key.name + salt + cipher.encrypt(nonce, content, context)

    def open(self, box: bytes, context: bytes) -> bytes | None:
        """The content of a box; None if it was not sealed by one of these keys with this context."""
        if len(box) < OVERHEAD:
            return None
        name, salt = box[:NAME_LENGTH], box[NAME_LENGTH : NAME_LENGTH + SALT_LENGTH]
        for key in self._keys:
            if key.name == name:
                cipher, nonce = key.cipher(salt)
                try:
                    return cipher.decrypt(nonce, memoryview(box)[NAME_LENGTH + SALT_LENGTH :], context)
                except InvalidTag:
                    return None
        return None
