"""Certificates for development, made on the spot. Nobody trusts them who was not given them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fairway.tls.identity import Identity
from fairway.tls.signatures import PrivateKey

_CURVES: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
_HASHES: dict[str, hashes.SHA384 | hashes.SHA512] = {"p384": hashes.SHA384(), "p521": hashes.SHA512()}
_RSA_BITS = 2048

KEY_TYPES = (*_CURVES, "ed25519", "rsa")


def generate_key(key_type: str) -> PrivateKey:
    """A new private key of one of `KEY_TYPES`; `ValueError` for another."""
    if key_type in _CURVES:
        return ec.generate_private_key(_CURVES[key_type])
    if key_type == "ed25519":
        return Ed25519PrivateKey.generate()
    if key_type == "rsa":
        return rsa.generate_private_key(65537, _RSA_BITS)
    raise ValueError(f"the key type is one of {', '.join(KEY_TYPES)}, not {key_type!r}")


def self_signed(
    names: Sequence[str],
    key_type: str = "p256",
    *,
    not_before: datetime | None = None,
    lifetime: timedelta = timedelta(days=14),
) -> tuple[x509.Certificate, PrivateKey]:
    """A certificate for `names` (host names, wildcards, addresses), for servers and clients, that signs itself.

    It begins to be valid an hour ago, so that clocks may differ, or at `not_before`, and stays so for `lifetime`.
    """
    if not names:
        raise ValueError("a certificate needs a name")
    key = generate_key(key_type)
    start = datetime.now(UTC) - timedelta(hours=1) if not_before is None else not_before
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lifetime)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usages, critical=False)
        .sign(key, None if key_type == "ed25519" else _HASHES.get(key_type, hashes.SHA256()))
    )
    return certificate, key


def self_signed_identity(names: Sequence[str], key_type: str = "p256") -> Identity:
    """`self_signed` as what a server's or a client's configuration takes."""
    certificate, key = self_signed(names, key_type)
    return Identity((certificate.public_bytes(Encoding.DER),), key)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
