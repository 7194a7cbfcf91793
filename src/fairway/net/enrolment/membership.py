"""What a host keeps of the network that it belongs to: its description, its certificate and key, who is revoked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from fairway.net.enrolment import files
from fairway.net.enrolment.certificate import BACKDATED, LIFETIME, new_key, permit_of
from fairway.net.enrolment.messages import Granted
from fairway.net.enrolment.revocation import RevocationList
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import IPNetwork
from fairway.net.model.permit import Permit

DEFAULT_PORT = 7946
_RENEW_AT = 2 / 3  # of a certificate's lifetime
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Network:
    """One network: what all of its nodes know."""

    identity: bytes
    """16 bytes by which it differs from every other."""
    pools: tuple[IPNetwork, ...]
    authority: str
    """The node that has the authority's key."""
    endpoints: tuple[str, ...] = ()
    """Where that node was when this was written, as HOST:PORT."""
    port: int = DEFAULT_PORT
    """The UDP port that its nodes listen on, unless one says otherwise."""

    def as_json(self) -> str:
        """The description, for a file or a message."""
        return json.dumps(
            {
                "network": self.identity.hex(),
                "pools": [str(pool) for pool in self.pools],
                "authority": self.authority,
                "endpoints": list(self.endpoints),
                "port": self.port,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Network:
        """The network in a description; `FairwayError` if it is none."""
        try:
            fields = json.loads(text)
            identity = bytes.fromhex(fields["network"])
            if len(identity) != 16:
                raise ValueError("its identity has not 16 bytes")
            return cls(
                identity,
                tuple(ip_network(pool) for pool in fields["pools"]),
                str(fields["authority"]),
                tuple(str(endpoint) for endpoint in fields["endpoints"]),
                int(fields["port"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FairwayError(f"a network's description is not valid: {error}") from None


@dataclass(frozen=True, slots=True)
class Credentials:
    """A node's certificate, its key, and the authority that both stand on."""

    certificate: x509.Certificate
    authority: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    permit: Permit

    @property
    def chain(self) -> tuple[bytes, bytes]:
        """DER, the node's certificate first."""
        return self.certificate.public_bytes(Encoding.DER), self.authority.public_bytes(Encoding.DER)

    @property
    def renew_at(self) -> datetime:
        """When the next certificate should be asked for."""
        return self.certificate.not_valid_after_utc - LIFETIME * (1 - _RENEW_AT)

    @property
    def expires(self) -> datetime:
        """When the certificate ends."""
        return self.certificate.not_valid_after_utc


class Membership:
    """The directory `network` in a host's state. Every file in it is there whole or not at all.

    The key and its certificate are one file, so that no crash leaves one without the other.
    """

    def __init__(self, state: Path) -> None:
        self.directory = state / "network"
        self._description = self.directory / "network.json"
        self._credentials = self.directory / "node.pem"
        self._authority = self.directory / "authority.pem"
        self._revoked = self.directory / "revoked.crl"
        self._pending = self.directory / "joining.key"
        self._peers = self.directory / "peers.json"
        self._epoch = self.directory / "epoch"

    @property
    def joined(self) -> bool:
        """Whether this host belongs to a network."""
        return self._credentials.exists()

    def pending_key(self) -> ec.EllipticCurvePrivateKey:
        """The key to join or renew with: the same until that has succeeded, so that a lost answer can be had again."""
        files.make_directory(self.directory)
        if self._pending.exists():
            try:
                return _key(self._pending.read_bytes())
            except FairwayError:
                self._pending.unlink()
        key = new_key()
        files.write(self._pending, _pem(key), files.SECRET)
        return key

    def accept(
        self,
        granted: Granted,
        key: ec.EllipticCurvePrivateKey,
        node: str,
        now: datetime,
        fingerprint: bytes | None = None,
    ) -> Credentials:
        """Keep what the authority granted `node` for `key`; joined, or renewed, once this returns.

        Any member may have answered: the authority has to be that of the `fingerprint`, or of the network joined, and
        what it granted has to be for this node: a member could have asked, for itself, for a certificate with our key.
        """
        credentials = _credentials(granted.certificate, granted.authority, key)
        network = Network.from_json(granted.network)
        if self.joined and self.network().identity != network.identity:
            raise UsageError(
                "this host belongs to another network", mend=f"leave it first: remove {self.directory} and its pools"
            )
        if self.joined and credentials.authority != self.credentials().authority:
            raise FairwayError("the certificate is of another authority than the network's")
        if fingerprint is not None and credentials.authority.fingerprint(hashes.SHA256()) != fingerprint:
            raise FairwayError("the certificate is of another authority than the token's")
        _check_signature(granted, credentials.authority)
        if credentials.permit.node != node:
            raise FairwayError(f"the certificate is for {credentials.permit.node}, and not for {node}")
        _check_clock(credentials.certificate, now)
        files.make_directory(self.directory)
        files.write(self._authority, credentials.authority.public_bytes(Encoding.PEM), files.PUBLIC)
        files.write(self._description, network.as_json().encode(), files.PUBLIC)
        if granted.revocations:
            self.keep_revocations(RevocationList.verify(granted.revocations, credentials.authority))
        both = _pem(key) + credentials.certificate.public_bytes(Encoding.PEM)
        files.write(self._credentials, both, files.SECRET)
        self._pending.unlink(missing_ok=True)
        return credentials

    def network(self) -> Network:
        """The network that this host belongs to; `UsageError` if it is none."""
        try:
            return Network.from_json(self._description.read_text())
        except FileNotFoundError:
            raise UsageError(
                "this host belongs to no network", mend="begin one: fairway init, or join one: fairway join HOST TOKEN"
            ) from None

    def credentials(self) -> Credentials:
        """This node's certificate and key."""
        self.network()
        try:
            both, authority = self._credentials.read_bytes(), self._authority.read_bytes()
            certificate = x509.load_pem_x509_certificate(both)
            issuer = x509.load_pem_x509_certificate(authority)
        except (OSError, ValueError) as error:
            raise FairwayError(f"cannot read this node's certificate in {self.directory}: {error}") from None
        key = _key(both)
        return Credentials(certificate, issuer, key, permit_of(certificate.public_bytes(Encoding.DER)))

    def revocations(self) -> RevocationList | None:
        """The newest list that this host has."""
        try:
            return RevocationList.verify(self._revoked.read_bytes(), self.credentials().authority)
        except OSError:
            return None

    def keep_revocations(self, revocations: RevocationList) -> None:
        """A newer list."""
        files.write(self._revoked, revocations.signed, files.PUBLIC)

    def next_epoch(self, now: datetime) -> int:
        """The number of the life that begins now: higher than all before, by this file or, if it is lost, the clock."""
        try:
            former = int(self._epoch.read_text())
        except (OSError, ValueError):
            former = 0
        epoch = max(former + 1, int(now.timestamp() * 1000))
        files.write(self._epoch, str(epoch).encode(), files.PUBLIC)
        return epoch

    def peers(self) -> list[str]:
        """Where other nodes were when last heard of, as HOST:PORT: whom to call after a restart."""
        try:
            return [str(each) for each in json.loads(self._peers.read_text())]
        except (OSError, ValueError, TypeError):
            return []

    def keep_peers(self, endpoints: list[str]) -> None:
        """Where other nodes are."""
        files.write(self._peers, json.dumps(endpoints).encode(), files.PUBLIC)


def _check_signature(granted: Granted, authority: x509.Certificate) -> None:
    try:
        public = authority.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise ValueError("its key is of another kind")
        public.verify(granted.signature, granted.signed, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise FairwayError(
            f"what was granted is not what the authority signed: {error or 'the signature is another'}",
            mend="ask the authority's own host; is its Fairway as new as this one?",
        ) from None


def _check_clock(certificate: x509.Certificate, now: datetime) -> None:
    """A certificate that has just been granted is good now, and is not to be renewed yet, or two clocks differ."""
    since, until = certificate.not_valid_before_utc, certificate.not_valid_before_utc + BACKDATED + LIFETIME * _RENEW_AT
    if not since <= now < until:
        away = since + BACKDATED - now
        ahead = "behind" if away.total_seconds() > 0 else "ahead of"
        raise FairwayError(
            f"this host's clock says {now:%Y-%m-%d %H:%M} UTC and is {abs(away) // _MINUTE * _MINUTE} {ahead} the"
            " authority's: the certificate that it granted is of no use here",
            mend="set the clock that is wrong (timedatectl set-ntp true), then try again: the same token will do",
        )


def _credentials(certificate: bytes, authority: bytes, key: ec.EllipticCurvePrivateKey) -> Credentials:
    try:
        leaf = x509.load_der_x509_certificate(certificate)
        issuer = x509.load_der_x509_certificate(authority)
        leaf.verify_directly_issued_by(issuer)
    except Exception as error:  # InvalidSignature, ValueError, TypeError
        raise FairwayError(f"the authority's certificates are not valid: {error or type(error).__name__}") from None
    if leaf.public_key() != key.public_key():
        raise FairwayError("the authority's certificate is for another key")
    return Credentials(leaf, issuer, key, permit_of(certificate))


def _key(data: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(data, None)
    except ValueError as error:
        raise FairwayError(f"this node's key cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FairwayError("this node's key is not of the kind that Fairway makes")
    return key


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
