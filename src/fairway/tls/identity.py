"""Who an endpoint is: a certificate chain with its private key, and which of several a server shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from fairway.tls.messages import Certificate, CertificateEntry
from fairway.tls.signatures import PrivateKey, SignatureScheme, schemes_of


@dataclass(frozen=True, slots=True)
class Identity:
    """A chain of DER certificates, the leaf first, and the leaf's private key.

    `ValueError` if the chain is empty or does not parse, if the key is another's, or if TLS has no use for it.
    All that a handshake needs of it is made here, once.
    """

    chain: tuple[bytes, ...]
    key: PrivateKey = field(repr=False)
    names: tuple[str, ...] = field(init=False)
    """The DNS names of the leaf, in lower case; they may begin with `*.`."""
    schemes: tuple[SignatureScheme, ...] = field(init=False)
    certificate_message: bytes = field(init=False, repr=False)
    """The Certificate message, encoded."""

    def __post_init__(self) -> None:
        if not self.chain:
            raise ValueError("a certificate chain needs a certificate")
        leaf, *_ = [x509.load_der_x509_certificate(data) for data in self.chain]
        if _public_bytes(leaf) != _public_bytes(self.key):
            raise ValueError("the private key is not that of the first certificate")
        entries = tuple(CertificateEntry(data, {}) for data in self.chain)
        object.__setattr__(self, "names", dns_names(leaf))
        object.__setattr__(self, "schemes", schemes_of(self.key))
        object.__setattr__(self, "certificate_message", Certificate(b"", entries).encode())

    @classmethod
    def from_pem(cls, chain: bytes, key: bytes, password: bytes | None = None) -> Identity:
        """Read a chain, the leaf first, and a private key, both PEM. `ValueError` or `TypeError` if unreadable."""
        certificates = x509.load_pem_x509_certificates(chain)
        data = tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
        return cls(data, load_pem_private_key(key, password))  # type: ignore[arg-type]  # __post_init__ looks

    @classmethod
    def from_files(cls, chain: str | Path, key: str | Path, password: bytes | None = None) -> Identity:
        """Like `from_pem`, from files; `OSError` if they cannot be read."""
        return cls.from_pem(Path(chain).read_bytes(), Path(key).read_bytes(), password)


def _public_bytes(holder: x509.Certificate | PrivateKey) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names of a certificate's subjectAltName, in lower case. `ValueError` if its extensions do not parse."""
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    except (x509.UnsupportedGeneralNameType, x509.DuplicateExtension) as error:
        raise ValueError(f"the certificate's names cannot be read: {error}") from None
    return tuple(name.lower() for name in alternative.get_values_for_type(x509.DNSName))


class IdentityTable:
    """A server's identities by the names that they are for."""

    __slots__ = ("_all", "_by_name")

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._all = tuple(identities)
        self._by_name: dict[str, list[Identity]] = {}
        for identity in identities:
            for name in identity.names:
                self._by_name.setdefault(name, []).append(identity)

    def select(self, name: str | None, schemes: Collection[int]) -> tuple[Identity, SignatureScheme] | None:
        """The first identity for `name`, else for the wildcard above it, that can sign by one of `schemes`.

        A name that no identity is for gets the first of all that can sign: the client judges it (RFC 6066 section 3).
        """
        candidates: Sequence[Identity] | None = None
        if name is not None:
            candidates = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
        for identity in candidates or self._all:
            for scheme in identity.schemes:
                if scheme in schemes:
                    return identity, scheme
        return None
