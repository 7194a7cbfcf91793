"""The servers' certificates: chains of any length from one authority, for the names of the network."""

from __future__ import annotations

from pathlib import Path

from bench.certificates import Key, sign
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from interop.network import NAMES

_PEM = serialization.Encoding.PEM


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
        keys: list[Key] = [
            rsa.generate_private_key(public_exponent=65537, key_size=3072)
            if length > 1
            else ec.generate_private_key(ec.SECP256R1())
            for _ in range(length)
        ]
        leaf_key = ec.generate_private_key(ec.SECP256R1())
        names = [f"interop authority {number}" for number in range(length)]
        root = sign(names[0], names[0], keys[0], keys[0])
        chain = [sign(names[number], names[number - 1], keys[number], keys[number - 1]) for number in range(1, length)]
        chain.append(sign("server4", names[-1], leaf_key, keys[-1], server=tuple(NAMES)))
        (place / "ca.pem").write_bytes(root.public_bytes(_PEM))
        (place / "chain.pem").write_bytes(b"".join(one.public_bytes(_PEM) for one in reversed(chain)))
        plain = serialization.NoEncryption()
        (place / "key.pem").write_bytes(leaf_key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, plain))
        return place
