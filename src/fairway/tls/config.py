"""What an application decides about TLS. Configurations are values: make one, use it for every connection.

All that can be read, parsed or encoded ahead of a handshake is, when the configuration is made; what is wrong with it
is `ValueError` (or `OSError` from a file) then, and never in a handshake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.x509 import DNSName

from fairway.tls import extensions
from fairway.tls.cipher_suites import DEFAULT_CIPHER_SUITES, CipherSuite
from fairway.tls.extensions import ExtensionType
from fairway.tls.identity import Identity, IdentityTable
from fairway.tls.key_exchange import DEFAULT_GROUPS, SUPPORTED_GROUPS, KeyShares, NamedGroup
from fairway.tls.messages import TLS_1_3, CertificateRequest
from fairway.tls.signatures import OFFERED_SCHEMES
from fairway.tls.tickets import Tickets
from fairway.tls.trust import Authorities, Subject, Trust, server_subject, trust_in

KeyLog = Callable[[str], None]
"""Takes one line of the NSS key log format, without its line end."""

PSK_DHE_KE = 1  # RFC 8446 section 4.2.9: the mode with a key exchange, the only one in use


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """A client: whom it calls, what it speaks, whom it trusts, who it is.

    `ca` is a PEM file, certificates, or None for the system's store; it counts only if `verify` is true. `key_shares`
    says for which of `groups` shares are sent at once: by default the first, and X25519 along with the hybrid.
    """

    server_name: str | None
    alpn: tuple[str, ...]
    verify: bool = True
    ca: Authorities = None
    identity: Identity | None = None
    cipher_suites: tuple[CipherSuite, ...] = DEFAULT_CIPHER_SUITES
    groups: tuple[NamedGroup, ...] = DEFAULT_GROUPS
    key_shares: tuple[NamedGroup, ...] | None = None
    keylog: KeyLog | None = field(default=None, repr=False)

    trust: Trust | None = field(init=False, repr=False)
    subject: Subject | None = field(init=False, repr=False)
    shares: tuple[NamedGroup, ...] = field(init=False, repr=False)
    """The groups whose shares the first ClientHello has."""
    halves: KeyShares = field(init=False, repr=False, compare=False)
    """Where those shares come from."""
    fixed_extensions: dict[int, bytes] = field(init=False, repr=False)
    """The ClientHello's extensions that are the same in every connection."""
    identity_name: bytes = field(init=False, repr=False)
    """The hash of our own certificate; empty without one."""

    def __post_init__(self) -> None:
        _check(self.alpn, self.cipher_suites, self.groups)
        if self.verify and self.server_name is None:
            raise ValueError("a server cannot be verified without a name")
        subject = None if self.server_name is None else server_subject(self.server_name)
        shares = self.key_shares
        if shares is None:
            shares = self.groups[:1]
            if shares[0] is NamedGroup.X25519MLKEM768 and NamedGroup.X25519 in self.groups:
                shares += (NamedGroup.X25519,)
        elif not set(shares) <= set(self.groups):
            raise ValueError("a key share is for a group that is not among the groups")
        object.__setattr__(self, "shares", shares)
        object.__setattr__(self, "halves", KeyShares(shares))
        object.__setattr__(self, "subject", subject)
        object.__setattr__(self, "trust", trust_in(self.ca) if self.verify else None)
        name = b"" if self.identity is None else hashlib.sha256(self.identity.chain[0]).digest()
        object.__setattr__(self, "identity_name", name)
        object.__setattr__(self, "fixed_extensions", self._fixed_extensions())

    def _fixed_extensions(self) -> dict[int, bytes]:
        fixed: dict[int, bytes] = {}
        if self.server_name is not None and isinstance(self.subject, DNSName):  # RFC 6066 section 3: never an address
            fixed[ExtensionType.SERVER_NAME] = extensions.encode_server_name(self.server_name)
        fixed[ExtensionType.SUPPORTED_GROUPS] = extensions.encode_codes(self.groups)
        fixed[ExtensionType.SIGNATURE_ALGORITHMS] = extensions.encode_codes(OFFERED_SCHEMES)
        fixed[ExtensionType.SUPPORTED_VERSIONS] = extensions.encode_versions((TLS_1_3,))
        fixed[ExtensionType.PSK_KEY_EXCHANGE_MODES] = extensions.encode_psk_modes(bytes((PSK_DHE_KE,)))
        if self.alpn:
            protocols = [protocol.encode("utf-8") for protocol in self.alpn]
            fixed[ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION] = extensions.encode_protocols(protocols)
        return fixed


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """A server: who it is, what it speaks, in its order of preference, and whether clients show certificates.

    With `client_ca` (a PEM file, certificates) clients are asked for a certificate that leads there; those without one
    are let in unless `require_client_certificate`.
    """

    identities: tuple[Identity, ...]
    alpn: tuple[str, ...]
    client_ca: Authorities = None
    require_client_certificate: bool = False
    cipher_suites: tuple[CipherSuite, ...] = DEFAULT_CIPHER_SUITES
    groups: tuple[NamedGroup, ...] = DEFAULT_GROUPS
    keylog: KeyLog | None = field(default=None, repr=False)
    tickets: Tickets | None = field(default_factory=Tickets, repr=False, compare=False)
    """What lets clients resume their sessions; None if none may."""

    table: IdentityTable = field(init=False, repr=False)
    client_trust: Trust | None = field(init=False, repr=False)
    alpn_answers: dict[str, bytes] = field(init=False, repr=False)
    """The body of the extension that answers with a protocol, by the protocol."""
    certificate_request: bytes = field(init=False, repr=False)
    """The CertificateRequest message, encoded; it goes out if there is a `client_trust`."""

    def __post_init__(self) -> None:
        _check(self.alpn, self.cipher_suites, self.groups)
        if not self.identities:
            raise ValueError("a server needs an identity")
        if self.require_client_certificate and self.client_ca is None:
            raise ValueError("client certificates cannot be required without client_ca")
        schemes = {int(ExtensionType.SIGNATURE_ALGORITHMS): extensions.encode_codes(OFFERED_SCHEMES)}
        answers = {protocol: extensions.encode_protocols((protocol.encode("utf-8"),)) for protocol in self.alpn}
        object.__setattr__(self, "alpn_answers", answers)
        object.__setattr__(self, "table", IdentityTable(self.identities))
        object.__setattr__(self, "client_trust", None if self.client_ca is None else trust_in(self.client_ca))
        object.__setattr__(self, "certificate_request", CertificateRequest(b"", schemes).encode())


def _check(alpn: tuple[str, ...], suites: tuple[CipherSuite, ...], groups: tuple[NamedGroup, ...]) -> None:
    if not suites:
        raise ValueError("at least one cipher suite is needed")
    if not groups:
        raise ValueError("at least one key exchange group is needed")
    missing = set(groups) - SUPPORTED_GROUPS
    if missing:
        raise ValueError(f"the cryptographic library has no {', '.join(sorted(group.name for group in missing))}")
    for protocol in alpn:
        if not 0 < len(protocol.encode("utf-8")) <= 255:  # RFC 7301 section 3.1
            raise ValueError(f"an application protocol has 1 to 255 bytes, not {protocol!r}")
