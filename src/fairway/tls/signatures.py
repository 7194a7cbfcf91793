"""Signatures over the handshake (RFC 8446 sections 4.2.3 and 4.4.3)."""

from __future__ import annotations

from enum import IntEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.x509 import Certificate

from fairway.tls import limits
from fairway.tls.alerts import AlertDescription, TlsAlert

PrivateKey = ec.EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | RSAPublicKey | Ed25519PublicKey

_SECTION = "RFC 8446 section 4.4.3"


class SignatureScheme(IntEnum):
    """The schemes of RFC 8446 section 4.2.3 in use; the PKCS #1 ones sign certificates only, never a handshake."""

    RSA_PKCS1_SHA256 = 0x0401
    RSA_PKCS1_SHA384 = 0x0501
    RSA_PKCS1_SHA512 = 0x0601
    ECDSA_SECP256R1_SHA256 = 0x0403
    ECDSA_SECP384R1_SHA384 = 0x0503
    ECDSA_SECP521R1_SHA512 = 0x0603
    RSA_PSS_RSAE_SHA256 = 0x0804
    RSA_PSS_RSAE_SHA384 = 0x0805
    RSA_PSS_RSAE_SHA512 = 0x0806
    ED25519 = 0x0807


_ECDSA: dict[int, tuple[str, ec.ECDSA]] = {
    SignatureScheme.ECDSA_SECP256R1_SHA256: ("secp256r1", ec.ECDSA(hashes.SHA256())),
    SignatureScheme.ECDSA_SECP384R1_SHA384: ("secp384r1", ec.ECDSA(hashes.SHA384())),
    SignatureScheme.ECDSA_SECP521R1_SHA512: ("secp521r1", ec.ECDSA(hashes.SHA512())),
}
_PSS: dict[int, tuple[padding.PSS, hashes.HashAlgorithm]] = {
    scheme: (padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH), algorithm)
    for scheme, algorithm in (
        (SignatureScheme.RSA_PSS_RSAE_SHA256, hashes.SHA256()),
        (SignatureScheme.RSA_PSS_RSAE_SHA384, hashes.SHA384()),
        (SignatureScheme.RSA_PSS_RSAE_SHA512, hashes.SHA512()),
    )
}

HANDSHAKE_SCHEMES = (
    SignatureScheme.ECDSA_SECP256R1_SHA256,
    SignatureScheme.ED25519,
    SignatureScheme.ECDSA_SECP384R1_SHA384,
    SignatureScheme.ECDSA_SECP521R1_SHA512,
    SignatureScheme.RSA_PSS_RSAE_SHA256,
    SignatureScheme.RSA_PSS_RSAE_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA512,
)
"""What may sign a CertificateVerify."""

OFFERED_SCHEMES = (
    *HANDSHAKE_SCHEMES,
    SignatureScheme.RSA_PKCS1_SHA256,
    SignatureScheme.RSA_PKCS1_SHA384,
    SignatureScheme.RSA_PKCS1_SHA512,
)
"""What the signature_algorithms extension offers: for handshakes and for certificates alike."""

SERVER_CONTEXT = b" " * 64 + b"TLS 1.3, server CertificateVerify\x00"  # RFC 8446 section 4.4.3
CLIENT_CONTEXT = b" " * 64 + b"TLS 1.3, client CertificateVerify\x00"


def schemes_of(key: PrivateKey) -> tuple[SignatureScheme, ...]:
    """The schemes that `key` can sign a handshake with, the best first. `ValueError` if there is none."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        found = tuple(scheme for scheme in HANDSHAKE_SCHEMES if _ECDSA.get(scheme, ("",))[0] == key.curve.name)
    elif isinstance(key, RSAPrivateKey):
        # RFC 8017 section 9.1.1: the encoded message holds twice the hash (as salt is as long) and two bytes.
        found = tuple(scheme for scheme in _PSS_SCHEMES if key.key_size >= 16 * _PSS[scheme][1].digest_size + 16)
    elif isinstance(key, Ed25519PrivateKey):
        found = (SignatureScheme.ED25519,)
    else:
        found = ()
    if not found:
        raise ValueError("TLS 1.3 has no signature scheme for this kind of key")
    return found


_PSS_SCHEMES = tuple(scheme for scheme in HANDSHAKE_SCHEMES if scheme in _PSS)


def sign(key: PrivateKey, scheme: SignatureScheme, content: bytes) -> bytes:
    """Sign `content` with a scheme that `schemes_of(key)` gave."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(content, _ECDSA[scheme][1])
    if isinstance(key, RSAPrivateKey):
        return key.sign(content, *_PSS[scheme])
    return key.sign(content)


def public_key(certificate: Certificate) -> PublicKey:
    """The key of a peer's certificate. `TlsAlert` if it cannot be read, is of no kind in use, or is too long."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TlsAlert(
            AlertDescription.UNSUPPORTED_CERTIFICATE, f"the certificate's key is not readable: {error}", _SECTION
        ) from None
    if not isinstance(key, ec.EllipticCurvePublicKey | RSAPublicKey | Ed25519PublicKey):
        raise TlsAlert(
            AlertDescription.UNSUPPORTED_CERTIFICATE, "the certificate's key is of a kind not in use", _SECTION
        )
    if isinstance(key, RSAPublicKey) and key.key_size > limits.MAX_RSA_BITS:
        raise TlsAlert(AlertDescription.BAD_CERTIFICATE, f"an RSA key of {key.key_size} bits is too long", _SECTION)
    return key


def verify(key: PublicKey, scheme: int, signature: bytes, content: bytes) -> None:
    """`TlsAlert` unless `signature` holds for `content`; `scheme` must be one for handshakes and fit the key."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and scheme in _ECDSA:
            curve, algorithm = _ECDSA[scheme]
            if key.curve.name == curve:
                key.verify(signature, content, algorithm)
                return
        elif isinstance(key, RSAPublicKey) and scheme in _PSS:
            key.verify(signature, content, *_PSS[scheme])
            return
        elif isinstance(key, Ed25519PublicKey) and scheme == SignatureScheme.ED25519:
            key.verify(signature, content)
            return
    except (InvalidSignature, ValueError):
        raise TlsAlert(AlertDescription.DECRYPT_ERROR, "the handshake's signature is wrong", _SECTION) from None
    raise TlsAlert(
        AlertDescription.ILLEGAL_PARAMETER, f"signature scheme {scheme:#06x} was not offered or does not fit", _SECTION
    )
