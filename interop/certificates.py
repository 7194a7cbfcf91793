"""The servers' certificates: chains of any length from one authority, for the names of the network."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from interop.network import NAMES

_PEM = serialization.Encoding.PEM
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Certificates:
    """Makes them below a directory, each length once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def chain_of(self, length: int) -> Path:
        """A directory with chain.pem (so many certificates), key.pem and ca.pem."""
        place = self._directory / f"chain-{length}"
        if place.exists():
            return place
        place.mkdir(parents=True)
        # The chain of one is small; a longer one is there to be large, so its authorities have RSA keys.
        keys: list[_Key] = [
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if length > 1
            else ec.generate_private_key(ec.SECP256R1())
            for _ in range(length)
        ]
        leaf_key = ec.generate_private_key(ec.SECP256R1())
        names = [f"interop authority {number}" for number in range(length)]
        root = _certificate(names[0], names[0], keys[0], keys[0], authority=True)
        chain = [
            _certificate(names[number], names[number - 1], keys[number], keys[number - 1], authority=True)
            for number in range(1, length)
        ]
        chain.append(_certificate("server4", names[-1], leaf_key, keys[-1], authority=False))
        (place / "ca.pem").write_bytes(root.public_bytes(_PEM))
        (place / "chain.pem").write_bytes(b"".join(one.public_bytes(_PEM) for one in reversed(chain)))
        plain = serialization.NoEncryption()
        (place / "key.pem").write_bytes(leaf_key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, plain))
        return place


def _certificate(name: str, issuer: str, key: _Key, by: _Key, *, authority: bool) -> x509.Certificate:
    now = datetime.now(UTC)
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
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(known) for known in NAMES]), False)
        server = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(server, critical=False)
    return builder.sign(by, hashes.SHA256())
