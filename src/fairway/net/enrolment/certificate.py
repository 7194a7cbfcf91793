"""A node's certificate. What it may announce stands in URIs of its subjectAltName, where every tool shows it:

    fairway:node/node02    fairway:block/10.0.2.0/24    fairway:pool/10.0.0.0/16

Besides, two DNS names: `ANY_NODE`, for who calls an address and does not know whose it is, and the node's own.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from ipaddress import ip_network

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import IPNetwork
from fairway.net.model.names import check_name
from fairway.net.model.permit import Permit

ANY_NODE = "node.fairway.internal"
"""A DNS name that every node's certificate has (`.internal` is reserved for private use)."""

LIFETIME = timedelta(days=30)
AUTHORITY_LIFETIME = timedelta(days=3650)
BACKDATED = timedelta(hours=1)
"""Clocks of hosts may differ by so much."""

MAX_REQUEST_BYTES = 8_192
MAX_NETWORKS = 64


def host_name(node: str) -> str:
    """The DNS name in the certificate of `node`."""
    return f"{node}.{ANY_NODE}"


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key of the kind that nodes and authorities have."""
    return ec.generate_private_key(ec.SECP256R1())


def request(key: ec.EllipticCurvePrivateKey, node: str) -> bytes:
    """A certificate signing request (RFC 2986), DER. The key stays where it is."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    return (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    )


def requested_key(data: bytes) -> ec.EllipticCurvePublicKey:
    """The key that a request is for, proven to be the requester's. `UsageError` for anything else."""
    try:
        if len(data) > MAX_REQUEST_BYTES:
            raise ValueError("it is too long")
        csr = x509.load_der_x509_csr(data)
        key = csr.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("its key is not on the curve P-256")
        if not csr.is_signature_valid:
            raise ValueError("its signature is not that of its key")
    except Exception as error:  # parsing what a stranger sent raises more than ValueError
        raise UsageError(f"the certificate request is not valid: {error}") from None
    return key


def fingerprint_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """What tells one key from another."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def issue_authority(key: ec.EllipticCurvePrivateKey, network: bytes, now: datetime) -> x509.Certificate:
    """The network's own certificate, signed by itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Fairway network {network.hex()[:8]}")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # signs certificates and CRLs
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def issue(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    permit: Permit,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta = LIFETIME,
) -> x509.Certificate:
    """A certificate for the node and what it may announce; its serial number is the permit's."""
    uris = [f"fairway:node/{permit.node}"]
    uris += [f"fairway:block/{block}" for block in permit.blocks]
    uris += [f"fairway:pool/{pool}" for pool in permit.pools]
    names: list[x509.GeneralName] = [x509.DNSName(ANY_NODE), x509.DNSName(host_name(permit.node))]
    names += [x509.UniformResourceIdentifier(uri) for uri in uris]
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, permit.node)]))
        .issuer_name(authority.subject)
        .public_key(key)
        .serial_number(permit.serial)
        .not_valid_before(max(now - BACKDATED, authority.not_valid_before_utc))
        .not_valid_after(min(now + lifetime, authority.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usages, critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def permit_of(certificate: bytes) -> Permit:
    """What a certificate (DER) of the network's authority says. `FairwayError` if it is no node's."""
    try:
        leaf = x509.load_der_x509_certificate(certificate)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        if len(uris) > 1 + 2 * MAX_NETWORKS:
            raise ValueError(f"it has {len(uris)} URIs")
        (node,) = [uri.removeprefix("fairway:node/") for uri in uris if uri.startswith("fairway:node/")]
        blocks, pools = _networks(uris, "fairway:block/"), _networks(uris, "fairway:pool/")
        return Permit(check_name("node", node), blocks, pools, leaf.serial_number)
    except Exception as error:  # an extension that does not parse raises more than ValueError
        raise FairwayError(f"a certificate is not a node's: {error}") from None


def _networks(uris: list[str], prefix: str) -> tuple[IPNetwork, ...]:
    return tuple(ip_network(uri.removeprefix(prefix)) for uri in uris if uri.startswith(prefix))
