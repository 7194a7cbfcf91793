"""The list of revoked certificates (RFC 5280 section 5): signed by the authority, numbered, told from peer to peer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fairway.net.model.errors import FairwayError

MAX_ENTRIES = 400
"""Each takes about 36 bytes; a list fits into one message of the exchange. Expired certificates need no entry."""

_VALIDITY = timedelta(days=3650)  # a list holds until there is a higher number


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One list, verified."""

    number: int
    serials: frozenset[int]
    signed: bytes = field(repr=False)
    """DER, for passing on."""

    @classmethod
    def sign(
        cls,
        authority: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        number: int,
        serials: Iterable[int],
        now: datetime,
    ) -> RevocationList:
        """The list of that number."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.subject)
            .last_update(now)
            .next_update(now + _VALIDITY)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        wanted = frozenset(serials)
        if len(wanted) > MAX_ENTRIES:
            raise FairwayError(
                f"{len(wanted)} certificates would be revoked at once; at most {MAX_ENTRIES} can be",
                mend="wait until some of them have expired",
            )
        for serial in wanted:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return cls(number, wanted, builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))

    @classmethod
    def verify(cls, signed: bytes, authority: x509.Certificate) -> RevocationList:
        """The list in `signed`; `FairwayError` unless it is the authority's."""
        try:
            crl = x509.load_der_x509_crl(signed)
            key = authority.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey) or not crl.is_signature_valid(key):
                raise ValueError("it is not signed by this network's authority")
            number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            return cls(number, frozenset(entry.serial_number for entry in crl), signed)
        except Exception as error:  # what a peer sent may be anything
            raise FairwayError(f"a revocation list is not valid: {error}") from None
