"""A server's certificates: for QUIC as `Identity`, for TCP as an `SSLContext`, out of the same files."""

from __future__ import annotations

import base64
import hashlib
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from fairway.tls import Identity, self_signed_identity

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class CertificateError(ValueError):
    """A certificate, key or list of authorities that is no good: the message names the file and the mend."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Who the server is, and whom it wants to know its clients by."""

    identities: tuple[Identity, ...]
    client_ca: Path | None = None
    """PEM file of whose certificates clients may show."""
    require_client_certificate: bool = False
    keylog: Path | None = None


def load_identity(certificate: Path, key: Path) -> Identity:
    """A chain, the leaf first, and its key, both PEM; `CertificateError` if they are no good."""
    for path in (certificate, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise CertificateError(f"{path}: {error.strerror}") from error
    try:
        return Identity.from_files(certificate, key)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{certificate} with the key {key}: {_reason(certificate, key, error)}") from error


def _reason(certificate: Path, key: Path, error: Exception) -> str:
    """Which of the two it is, in words."""
    if b"-----BEGIN CERTIFICATE-----" not in certificate.read_bytes():
        return "the first is no PEM certificate (it begins with -----BEGIN CERTIFICATE-----)"
    text = key.read_bytes()
    if b"PRIVATE KEY-----" not in text:
        return "the second is no PEM private key (it begins with -----BEGIN PRIVATE KEY-----)"
    if b"ENCRYPTED" in text:
        return "the key has a password: take it off with `openssl pkey -in KEY -out NEW`"
    return str(error)


def development_names(host: str | None) -> list[str]:
    """What a certificate for development is for: this machine, and `host` if that is something else."""
    names = [*LOCAL_NAMES]
    if host and host not in (*names, "::", "0.0.0.0"):
        names.append(host)
    return names


def make_identity(host: str | None) -> Identity:
    """A self-signed certificate for `development_names`."""
    return self_signed_identity(development_names(host))


def pem(identity: Identity) -> str:
    """The chain in PEM."""
    return "".join(ssl.DER_cert_to_PEM_cert(certificate) for certificate in identity.chain)


def public_key_hash(identity: Identity) -> str:
    """SHA-256 of the leaf's SubjectPublicKeyInfo, in base64: what Chromium and curl take to trust this key alone."""
    leaf = x509.load_der_x509_certificate(identity.chain[0])
    public = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(public).digest()).decode("ascii")


def ssl_context(certificates: Certificates, alpn: Sequence[str]) -> ssl.SSLContext:
    """What TLS over TCP uses, TLS 1.2 at least (RFC 9113 section 9.2); a client's name chooses the certificate."""
    contexts = [_context(certificates, identity, alpn) for identity in certificates.identities]
    first = contexts[0]
    by_name: dict[str, ssl.SSLContext] = {}
    for identity, context in zip(certificates.identities, contexts, strict=True):
        for name in identity.names:
            by_name.setdefault(name, context)

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        if name is not None:
            name = name.lower()
            chosen = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
            if chosen is not None:
                connection.context = chosen

    if len(contexts) > 1:
        first.sni_callback = choose
    return first


def _context(certificates: Certificates, identity: Identity, alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(list(alpn))
    with tempfile.NamedTemporaryFile("wb", prefix="fairway-") as file:  # 0600; the ssl module reads nothing but files
        file.write(identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.write(pem(identity).encode("ascii"))
        file.flush()
        context.load_cert_chain(file.name)
    if certificates.client_ca is not None:
        context.load_verify_locations(certificates.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if certificates.require_client_certificate else ssl.CERT_OPTIONAL
    if certificates.keylog is not None:
        context.keylog_filename = str(certificates.keylog)
    return context
