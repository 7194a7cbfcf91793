"""Key exchange groups: X25519, P-256, P-384 (RFC 8446 section 4.2.8) and X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem).

Private keys are made from the random bytes that the caller gives; only ML-KEM's encapsulation draws its own.
A share of the peer that is not valid is `TlsAlert`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fairway.tls.alerts import AlertDescription, TlsAlert

Random = Callable[[int], bytes]


class NamedGroup(IntEnum):
    """The groups in use, by their code (RFC 8446 section 4.2.7, draft-ietf-tls-ecdhe-mlkem section 6)."""

    SECP256R1 = 0x0017
    SECP384R1 = 0x0018
    X25519 = 0x001D
    X25519MLKEM768 = 0x11EC


class KeyExchange(Protocol):
    """One side's half of a key exchange: `share` goes to the peer, whose share `finish` turns into the secret."""

    share: bytes

    def finish(self, peer_share: bytes) -> bytes:
        """The shared secret. `TlsAlert` if the peer's share is not valid."""


_X25519_LENGTH = 32  # RFC 7748 section 6.1
_MLKEM768_SEED_LENGTH = 64  # FIPS 203 section 7.1: d and z
_MLKEM768_KEY_LENGTH = 1184  # FIPS 203 table 3: the encapsulation key
_MLKEM768_CIPHERTEXT_LENGTH = 1088  # FIPS 203 table 3
_UNCOMPRESSED = 4  # RFC 8446 section 4.2.8.2: the only point format

_SECTION_ECDH = "RFC 8446 section 4.2.8.2"
_SECTION_X25519 = "RFC 8446 section 7.4.2"
_SECTION_HYBRID = "draft-ietf-tls-ecdhe-mlkem section 4"


def _invalid(group: str, section: str) -> TlsAlert:
    return TlsAlert(AlertDescription.ILLEGAL_PARAMETER, f"the key share for {group} is not valid", section)


class X25519Exchange:
    """X25519 (RFC 7748)."""

    __slots__ = ("_key", "share")

    def __init__(self, random: Random) -> None:
        self._key = X25519PrivateKey.from_private_bytes(random(_X25519_LENGTH))
        self.share = self._key.public_key().public_bytes_raw()

    def finish(self, peer_share: bytes) -> bytes:
        """The shared secret; an all-zero one is refused (RFC 8446 section 7.4.2)."""
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(peer_share))
        except ValueError:
            raise _invalid("X25519", _SECTION_X25519) from None


_ORDERS = {  # FIPS 186-4 appendix D.1.2: how many points the base point generates
    NamedGroup.SECP256R1: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    NamedGroup.SECP384R1: int(
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16
    ),
}
_CURVES: dict[NamedGroup, ec.EllipticCurve] = {
    NamedGroup.SECP256R1: ec.SECP256R1(),
    NamedGroup.SECP384R1: ec.SECP384R1(),
}
_ECDH = ec.ECDH()


class EllipticCurveExchange:
    """ECDH on P-256 or P-384."""

    __slots__ = ("_curve", "_group", "_key", "share")

    def __init__(self, group: NamedGroup, random: Random) -> None:
        self._group = group
        self._curve = _CURVES[group]
        order = _ORDERS[group]
        length = order.bit_length() // 8 + 8  # FIPS 186-5 appendix A.2.1: 64 extra bits take the bias away
        private = int.from_bytes(random(length), "big") % (order - 1) + 1
        self._key = ec.derive_private_key(private, self._curve)
        self.share = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def finish(self, peer_share: bytes) -> bytes:
        """The shared secret: the x coordinate; a point off the curve or in another format is refused."""
        if len(peer_share) != len(self.share) or peer_share[0] != _UNCOMPRESSED:
            raise _invalid(self._group.name, _SECTION_ECDH)
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(self._curve, peer_share)
            return self._key.exchange(_ECDH, point)
        except ValueError:
            raise _invalid(self._group.name, _SECTION_ECDH) from None


class HybridExchange:
    """The client's half of X25519MLKEM768: the encapsulation key, then the X25519 share."""

    __slots__ = ("_mlkem", "_x25519", "share")

    def __init__(self, random: Random, x25519: X25519Exchange | None = None) -> None:
        self._x25519 = x25519 if x25519 is not None else X25519Exchange(random)
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(random(_MLKEM768_SEED_LENGTH))
        self.share = self._mlkem.public_key().public_bytes_raw() + self._x25519.share

    def finish(self, peer_share: bytes) -> bytes:
        """The shared secret: ML-KEM's, then X25519's."""
        if len(peer_share) != _MLKEM768_CIPHERTEXT_LENGTH + _X25519_LENGTH:
            raise _invalid("X25519MLKEM768", _SECTION_HYBRID)
        try:
            secret = self._mlkem.decapsulate(peer_share[:_MLKEM768_CIPHERTEXT_LENGTH])
        except ValueError:
            raise _invalid("X25519MLKEM768", _SECTION_HYBRID) from None
        return secret + self._x25519.finish(peer_share[_MLKEM768_CIPHERTEXT_LENGTH:])


def _hybrid_available() -> bool:
    try:
        MLKEM768PrivateKey.from_seed_bytes(bytes(_MLKEM768_SEED_LENGTH))
    except UnsupportedAlgorithm:
        return False
    return True


SUPPORTED_GROUPS: frozenset[NamedGroup] = frozenset(
    group for group in NamedGroup if group is not NamedGroup.X25519MLKEM768 or _hybrid_available()
)
"""The groups that the cryptographic library at hand can do."""

DEFAULT_GROUPS: tuple[NamedGroup, ...] = tuple(
    group
    for group in (NamedGroup.X25519MLKEM768, NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1)
    if group in SUPPORTED_GROUPS
)


def offer(groups: Sequence[NamedGroup], random: Random) -> dict[NamedGroup, KeyExchange]:
    """A client's halves for `groups`, in their order. The hybrid and the plain X25519 share use one key."""
    x25519 = None
    if NamedGroup.X25519 in groups or NamedGroup.X25519MLKEM768 in groups:
        x25519 = X25519Exchange(random)
    halves: dict[NamedGroup, KeyExchange] = {}
    for group in groups:
        if group is NamedGroup.X25519MLKEM768:
            halves[group] = HybridExchange(random, x25519)
        elif group is NamedGroup.X25519 and x25519 is not None:
            halves[group] = x25519
        else:
            halves[group] = EllipticCurveExchange(group, random)
    return halves


class KeyShares:
    """Where a client's halves for `groups` come from. Each is for one connection and is given once.

    From the second connection on, those of the next can be made ahead, while the client waits for a server: that is a
    third of its work before it can say anything. Whoever calls once makes none in vain. A process that was forked
    must `forget` what its parent has made.
    """

    __slots__ = ("__weakref__", "_ahead", "_given", "_groups", "_prepared")

    def __init__(self, groups: Sequence[NamedGroup]) -> None:
        self._groups = groups
        self._ahead: list[dict[NamedGroup, KeyExchange]] = []
        """One at most. A list, as `pop` gives it to one thread only."""
        self._given = 0
        self._prepared = False

    def take(self, random: Random) -> dict[NamedGroup, KeyExchange]:
        """The halves of one connection."""
        self._given += 1
        try:
            return self._ahead.pop()
        except IndexError:
            return offer(self._groups, random)

    def prepare(self, random: Random) -> bool:
        """Make the next connection's halves now, unless there are some or there was only one connection.

        True the first time that it made some: from then on there may be something to `forget`.
        """
        if self._ahead or self._given < 2:
            return False
        self._ahead.append(offer(self._groups, random))
        first, self._prepared = not self._prepared, True
        return first

    def forget(self) -> None:
        """Drop what was made ahead."""
        self._ahead.clear()


def respond(group: NamedGroup, client_share: bytes, random: Random) -> tuple[bytes, bytes]:
    """A server's share and the shared secret. `TlsAlert` if the client's share is not valid."""
    if group is NamedGroup.X25519MLKEM768:
        return _respond_hybrid(client_share, random)
    half = X25519Exchange(random) if group is NamedGroup.X25519 else EllipticCurveExchange(group, random)
    return half.share, half.finish(client_share)


def _respond_hybrid(client_share: bytes, random: Random) -> tuple[bytes, bytes]:
    if len(client_share) != _MLKEM768_KEY_LENGTH + _X25519_LENGTH:
        raise _invalid("X25519MLKEM768", _SECTION_HYBRID)
    try:
        key = MLKEM768PublicKey.from_public_bytes(client_share[:_MLKEM768_KEY_LENGTH])
        secret, ciphertext = key.encapsulate()
    except ValueError:
        raise _invalid("X25519MLKEM768", _SECTION_HYBRID) from None
    x25519 = X25519Exchange(random)
    return ciphertext + x25519.share, secret + x25519.finish(client_share[_MLKEM768_KEY_LENGTH:])
