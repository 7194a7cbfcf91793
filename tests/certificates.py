"""A self-signed certificate as tests need it: files for peers that read files, values for Fairway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fairway.tls import Identity, self_signed


@dataclass(frozen=True)
class Certificate:
    """A server's certificate, which is its own authority."""

    chain: Path
    key: Path
    leaf: x509.Certificate
    identity: Identity


def make_certificate(directory: Path, names: Sequence[str] = ("localhost",)) -> Certificate:
    """One for these names; its files, chain.pem and key.pem, are in the directory."""
    leaf, key = self_signed(list(names))
    chain, private = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return Certificate(chain, private, leaf, Identity((leaf.public_bytes(serialization.Encoding.DER),), key))
