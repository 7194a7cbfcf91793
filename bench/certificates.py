"""A server's certificate and the authority that signs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fairway.tls import Identity

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Certificate:
    """A server's certificate and the authority that signed it: files for peers that read files, values for Fairway."""

    chain: Path
    key: Path
    authority: Path
    root: x509.Certificate
    identity: Identity


def make_certificate(directory: Path) -> Certificate:
    """A P-256 certificate for localhost, signed by an authority made for it."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = sign("bench authority", "bench authority", root_key, root_key)
    leaf = sign("localhost", "bench authority", key, root_key, server=("localhost",))
    paths = directory / "chain.pem", directory / "key.pem", directory / "ca.pem"
    paths[0].write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    paths[2].write_bytes(root.public_bytes(serialization.Encoding.PEM))
    return Certificate(*paths, root, Identity((leaf.public_bytes(serialization.Encoding.DER),), key))


def sign(name: str, issuer: str, key: Key, by: Key, *, server: Sequence[str] = ()) -> x509.Certificate:
    """The certificate of an authority, or of a server of these DNS names; valid for a week."""
    now = datetime.now(UTC)
    authority = not server
    usage = x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=7))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if server:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(known) for known in server]), critical=False
        )
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(by, hashes.SHA256())
