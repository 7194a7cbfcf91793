"""Whom an endpoint trusts: certificate authorities, and the judgement on a peer's chain.

Building and checking the path is `cryptography.x509.verification`'s; it bounds the signatures that it checks. What a
chain was found to be is remembered for a while: whoever calls the same server again is shown the same chain.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
from fairway.tls.signatures import PublicKey, public_key

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


def trust_in(authorities: Authorities) -> Trust:
    """Trust in the authorities of a file, loaded once until it changes, or in these.

    `OSError` or `ValueError` if they cannot be read or there are none.
    """
    if authorities is None or isinstance(authorities, str | Path):
        path = system_store_path() if authorities is None else Path(authorities)
        return _trust_in_file(path, path.stat().st_mtime_ns)
    return Trust(list(authorities))


@lru_cache(maxsize=8)
def _trust_in_file(path: Path, _modified_ns: int) -> Trust:
    with warnings.catch_warnings():
        # An old authority's odd serial number is no news to who connects; it is trusted or not by its key.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return Trust(x509.load_pem_x509_certificates(path.read_bytes()))


def server_subject(name: str) -> Subject:
    """What a server's certificate must be for: an address if `name` is one, else a host name in A-labels."""
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """A chain that was found good at the time `at`; `since` and `until` bound the validity of its path."""

    key: PublicKey
    at: datetime
    since: datetime
    until: datetime

    def holds(self, now: datetime) -> bool:
        """Whether judging anew could come to no other verdict, as only time has passed, and not much of it."""
        age_s = (now - self.at).total_seconds()
        return self.since <= now <= self.until and 0 <= age_s <= limits.VERDICT_LIFETIME_S


class Trust:
    """Authorities, and the judgement of peers against them. `ValueError` without any authority."""

    __slots__ = ("_client_policy", "_server_policy", "_verdicts")

    def __init__(self, authorities: list[x509.Certificate]) -> None:
        store = Store(authorities)
        self._server_policy = _policy(store, _SERVER_LEAF_POLICY)
        self._client_policy = _policy(store, _CLIENT_LEAF_POLICY)
        self._verdicts: dict[tuple[Subject | None, tuple[bytes, ...]], _Verdict] = {}

    def server_key(self, chain: tuple[bytes, ...], subject: Subject, now: datetime) -> PublicKey:
        """The leaf's key. `TlsAlert` unless `chain`, DER, leaf first, leads to an authority and is for `subject`."""
        return self._judge(chain, subject, now)

    def client_key(self, chain: tuple[bytes, ...], now: datetime) -> PublicKey:
        """The leaf's key. `TlsAlert` unless `chain`, DER, leaf first, leads to an authority and is a client's."""
        return self._judge(chain, None, now)

    def _judge(self, chain: tuple[bytes, ...], subject: Subject | None, now: datetime) -> PublicKey:
        verdict = self._verdicts.get((subject, chain))
        if verdict is None or not verdict.holds(now):
            certificates = parse_chain(chain)
            key = public_key(certificates[0])
            path = self._verify(certificates, subject, now)
            since = max(certificate.not_valid_before_utc for certificate in path)
            until = min(certificate.not_valid_after_utc for certificate in path)
            verdict = _Verdict(key, now, since, until)
            self._remember((subject, chain), verdict)
        return verdict.key

    def _verify(
        self, chain: list[x509.Certificate], subject: Subject | None, now: datetime
    ) -> Sequence[x509.Certificate]:
        """The path from the leaf to the authority."""
        _check_keys(chain)
        try:
            if subject is None:
                return self._client_policy.time(now).build_client_verifier().verify(chain[0], chain[1:]).chain
            return self._server_policy.time(now).build_server_verifier(subject).verify(chain[0], chain[1:])
        except Exception as error:  # besides VerificationError, whatever parsing a certificate's insides raises
            raise _diagnose(chain, now, error) from None

    def _remember(self, question: tuple[Subject | None, tuple[bytes, ...]], verdict: _Verdict) -> None:
        if sum(map(len, question[1])) > limits.MAX_REMEMBERED_CHAIN_BYTES:
            return
        self._verdicts.pop(question, None)
        for oldest in list(self._verdicts)[: max(len(self._verdicts) + 1 - limits.MAX_VERDICTS, 0)]:
            self._verdicts.pop(oldest, None)
        self._verdicts[question] = verdict


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
