"""Whom an endpoint trusts: certificate authorities, and the judgement on a peer's chain.

Building and checking the path is `cryptography.x509.verification`'s; it bounds the signatures that it checks.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
)

from fairway.tls import limits
from fairway.tls.alerts import AlertDescription, TlsAlert
from fairway.tls.signatures import public_key

Authorities = str | Path | Iterable[x509.Certificate] | None
"""Where trust comes from: a PEM file, certificates, or None for the system's store."""

Subject = x509.DNSName | x509.IPAddress

_SYSTEM_STORES = (  # Debian and Alpine; Fedora; openSUSE; FreeBSD and macOS
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

_SECTION = "RFC 8446 section 4.4.2.4"


def _may_sign_certificates(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an authority's key is not for signing certificates")


# The web's rules, but for extensions that many a private authority leaves out: RFC 5280 section 4.2.1.3 has key usage
# bind only where it is present, and the key identifiers (4.2.1.1, 4.2.1.2) help to find a path, not to judge it.
_AUTHORITY_POLICY = (
    ExtensionPolicy.webpki_defaults_ca()
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign_certificates)
    .may_be_present(x509.SubjectKeyIdentifier, Criticality.NON_CRITICAL, None)
    .may_be_present(x509.AuthorityKeyIdentifier, Criticality.NON_CRITICAL, None)
)
_SERVER_LEAF_POLICY = ExtensionPolicy.webpki_defaults_ee().may_be_present(
    x509.AuthorityKeyIdentifier, Criticality.NON_CRITICAL, None
)
# A client's certificate may name its subject in any form, so a subjectAltName is not asked for.
_CLIENT_LEAF_POLICY = _SERVER_LEAF_POLICY.may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)


def system_store_path() -> Path:
    """The PEM file of the system's authorities, or what SSL_CERT_FILE names. `FileNotFoundError` if there is none."""
    named = os.environ.get("SSL_CERT_FILE")
    for path in (named,) if named else _SYSTEM_STORES:
        if Path(path).is_file():
            return Path(path)
    raise FileNotFoundError(f"no store of certificate authorities at {named or ', '.join(_SYSTEM_STORES)}")


@lru_cache(maxsize=8)
def _store_from_file(path: Path, _modified_ns: int) -> Store:
    with warnings.catch_warnings():
        # An old authority's odd serial number is no news to who connects; it is trusted or not by its key.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return Store(x509.load_pem_x509_certificates(path.read_bytes()))


def server_subject(name: str) -> Subject:
    """What a server's certificate must be for: an address if `name` is one, else a host name in A-labels."""
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Trust:
    """Authorities, parsed once, and the checks of peers against them.

    `OSError` or `ValueError` if `authorities` cannot be read or hold no certificate.
    """

    __slots__ = ("_client_policy", "_server_policy")

    def __init__(self, authorities: Authorities) -> None:
        if authorities is None or isinstance(authorities, str | Path):
            path = system_store_path() if authorities is None else Path(authorities)
            store = _store_from_file(path, path.stat().st_mtime_ns)
        else:
            store = Store(list(authorities))
        self._server_policy = _policy(store, _SERVER_LEAF_POLICY)
        self._client_policy = _policy(store, _CLIENT_LEAF_POLICY)

    def verify_server(self, chain: Sequence[x509.Certificate], subject: Subject, now: datetime) -> None:
        """`TlsAlert` unless `chain`, the leaf first, leads to an authority and is for `subject` at the time `now`."""
        builder = self._server_policy.time(now)
        _check_keys(chain)
        try:
            builder.build_server_verifier(subject).verify(chain[0], list(chain[1:]))
        except Exception as error:  # besides VerificationError, whatever parsing a certificate's insides raises
            raise _diagnose(chain, now, error) from None

    def verify_client(self, chain: Sequence[x509.Certificate], now: datetime) -> None:
        """`TlsAlert` unless `chain`, the leaf first, leads to an authority and is for a client at the time `now`."""
        builder = self._client_policy.time(now)
        _check_keys(chain)
        try:
            builder.build_client_verifier().verify(chain[0], list(chain[1:]))
        except Exception as error:  # besides VerificationError, whatever parsing a certificate's insides raises
            raise _diagnose(chain, now, error) from None


def _policy(store: Store, leaf: ExtensionPolicy) -> PolicyBuilder:
    builder = PolicyBuilder().store(store).max_chain_depth(limits.MAX_CHAIN_DEPTH)
    return builder.extension_policies(ca_policy=_AUTHORITY_POLICY, ee_policy=leaf)


def parse_chain(chain: Sequence[bytes]) -> list[x509.Certificate]:
    """The certificates of a peer's chain. `TlsAlert` if one does not parse."""
    try:
        return [x509.load_der_x509_certificate(data) for data in chain]
    except (ValueError, x509.InvalidVersion) as error:
        raise TlsAlert(
            AlertDescription.BAD_CERTIFICATE, f"a certificate does not parse: {error}", "RFC 8446 section 4.4.2"
        ) from None


def _check_keys(chain: Sequence[x509.Certificate]) -> None:
    """`TlsAlert` if an authority of a peer's making has a key that costs too much to verify with."""
    for certificate in chain[1:]:
        public_key(certificate)


def _diagnose(chain: Sequence[x509.Certificate], now: datetime, error: Exception) -> TlsAlert:
    """The alert that says best why a chain was refused."""
    text = str(error)
    if any(not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc for certificate in chain):
        return TlsAlert(AlertDescription.CERTIFICATE_EXPIRED, f"a certificate is not valid now: {text}", _SECTION)
    if "subjectAltName" in text:
        return TlsAlert(AlertDescription.BAD_CERTIFICATE, f"the certificate is for another name: {text}", _SECTION)
    if "candidates exhausted" in text:
        return TlsAlert(AlertDescription.UNKNOWN_CA, f"no path leads to a trusted authority: {text}", _SECTION)
    return TlsAlert(AlertDescription.BAD_CERTIFICATE, text, _SECTION)
