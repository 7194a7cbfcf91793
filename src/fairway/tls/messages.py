"""The messages of the handshake (RFC 8446 section 4): bytes to values and back, and nothing of what they mean.

`decode` takes a message's body, `encode` gives the whole message with its four bytes of header. A body that does not
parse is `WireError`, one that breaks a rule with an alert of its own is `TlsAlert`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import ClassVar

from fairway.tls import limits
from fairway.tls.alerts import AlertDescription, TlsAlert
from fairway.tls.extensions import (
    Extensions,
    ExtensionType,
    decode_extensions,
    encode_codes,
    encode_extensions,
    unpack_codes,
)
from fairway.wire import Reader, WireError, Writer

LEGACY_VERSION = 0x0303  # RFC 8446 section 4.1.2
TLS_1_3 = 0x0304  # RFC 8446 section 4.2.1

RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a ServerHello that is a HelloRetryRequest (RFC 8446 section 4.1.3)."""


class HandshakeType(IntEnum):
    """The messages of RFC 8446 section 4, those included that QUIC forbids (RFC 9001 sections 6 and 8.3)."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    NEW_SESSION_TICKET = 4
    END_OF_EARLY_DATA = 5
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    CERTIFICATE_VERIFY = 15
    FINISHED = 20
    KEY_UPDATE = 24


_CODE_AND_VECTOR = struct.Struct("!HH")  # a code, and the length of what follows
_TICKET_HEAD = struct.Struct("!IIB")  # lifetime, what is added to the age, the length of the nonce


def _message(kind: HandshakeType, body: bytes) -> bytes:
    if len(body) >= 1 << 24:
        raise WireError(f"a message of {len(body)} bytes does not fit")
    return (kind << 24 | len(body)).to_bytes(4, "big") + body


@dataclass(frozen=True, slots=True)
class ClientHello:
    """ClientHello (RFC 8446 section 4.1.2)."""

    kind: ClassVar[HandshakeType] = HandshakeType.CLIENT_HELLO

    random: bytes
    legacy_session_id: bytes
    cipher_suites: tuple[int, ...]
    extensions: Extensions

    def encode(self) -> bytes:
        """The whole message."""
        body = (
            b"\x03\x03",  # LEGACY_VERSION
            self.random,
            bytes((len(self.legacy_session_id),)),
            self.legacy_session_id,
            encode_codes(self.cipher_suites),
            b"\x01\x00",  # no compression
            encode_extensions(self.extensions),
        )
        return _message(self.kind, b"".join(body))

    @classmethod
    def decode(cls, body: bytes) -> ClientHello:
        """Read the body; the pre_shared_key extension must come last (RFC 8446 section 4.2.11)."""
        reader = Reader(body)
        reader.u16()
        random, session_id = reader.take(32), reader.vector8()
        suites = unpack_codes(reader.vector16())
        compression = reader.vector8()
        extensions = decode_extensions(reader.vector16()) if reader.remaining else {}
        reader.finish()
        if len(session_id) > 32:
            raise WireError("the session ID has more than 32 bytes")
        if compression != b"\x00":
            raise TlsAlert(AlertDescription.ILLEGAL_PARAMETER, "compression is offered", "RFC 8446 section 4.1.2")
        if ExtensionType.PRE_SHARED_KEY in extensions and next(reversed(extensions)) != ExtensionType.PRE_SHARED_KEY:
            raise TlsAlert(
                AlertDescription.ILLEGAL_PARAMETER, "pre_shared_key is not the last", "RFC 8446 section 4.2.11"
            )
        return cls(random, session_id, suites, extensions)


@dataclass(frozen=True, slots=True)
class ServerHello:
    """ServerHello, or HelloRetryRequest, which is a ServerHello with a random of its own (RFC 8446 section 4.1.3)."""

    kind: ClassVar[HandshakeType] = HandshakeType.SERVER_HELLO

    random: bytes
    legacy_session_id: bytes
    cipher_suite: int
    extensions: Extensions

    @property
    def is_retry(self) -> bool:
        """Whether it is a HelloRetryRequest."""
        return self.random == RETRY_RANDOM

    def encode(self) -> bytes:
        """The whole message."""
        body = (
            b"\x03\x03",  # LEGACY_VERSION
            self.random,
            bytes((len(self.legacy_session_id),)),
            self.legacy_session_id,
            self.cipher_suite.to_bytes(2, "big"),
            b"\x00",  # no compression
            encode_extensions(self.extensions),
        )
        return _message(self.kind, b"".join(body))

    @classmethod
    def decode(cls, body: bytes) -> ServerHello:
        """Read the body."""
        reader = Reader(body)
        version = reader.u16()
        random, session_id, suite = reader.take(32), reader.vector8(), reader.u16()
        compression = reader.u8()
        extensions = decode_extensions(reader.vector16()) if reader.remaining else {}
        reader.finish()
        if version != LEGACY_VERSION:
            raise TlsAlert(
                AlertDescription.PROTOCOL_VERSION, f"the server's version is {version:#06x}", "RFC 8446 section 4.1.3"
            )
        if compression:
            raise TlsAlert(AlertDescription.ILLEGAL_PARAMETER, "compression is chosen", "RFC 8446 section 4.1.3")
        return cls(random, session_id, suite, extensions)


@dataclass(frozen=True, slots=True)
class EncryptedExtensions:
    """EncryptedExtensions (RFC 8446 section 4.3.1)."""

    kind: ClassVar[HandshakeType] = HandshakeType.ENCRYPTED_EXTENSIONS

    extensions: Extensions

    def encode(self) -> bytes:
        """The whole message."""
        return _message(self.kind, encode_extensions(self.extensions))

    @classmethod
    def decode(cls, body: bytes) -> EncryptedExtensions:
        """Read the body."""
        reader = Reader(body)
        block = reader.vector16()
        reader.finish()
        return cls(decode_extensions(block))


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """CertificateRequest (RFC 8446 section 4.3.2)."""

    kind: ClassVar[HandshakeType] = HandshakeType.CERTIFICATE_REQUEST

    context: bytes
    extensions: Extensions

    def encode(self) -> bytes:
        """The whole message."""
        return _message(self.kind, Writer().vector8(self.context).raw(encode_extensions(self.extensions)).finish())

    @classmethod
    def decode(cls, body: bytes) -> CertificateRequest:
        """Read the body."""
        reader = Reader(body)
        context, block = reader.vector8(), reader.vector16()
        reader.finish()
        return cls(context, decode_extensions(block))


@dataclass(frozen=True, slots=True)
class CertificateEntry:
    """One certificate, DER, and what extends it (RFC 8446 section 4.4.2)."""

    data: bytes
    extensions: Extensions


@dataclass(frozen=True, slots=True)
class Certificate:
    """Certificate (RFC 8446 section 4.4.2): a chain, the leaf first; empty if the client has none."""

    kind: ClassVar[HandshakeType] = HandshakeType.CERTIFICATE

    context: bytes
    entries: tuple[CertificateEntry, ...]

    def encode(self) -> bytes:
        """The whole message."""
        entries = Writer()
        for entry in self.entries:
            entries.vector24(entry.data).raw(encode_extensions(entry.extensions))
        return _message(self.kind, Writer().vector8(self.context).vector24(entries.finish()).finish())

    @classmethod
    def decode(cls, body: bytes) -> Certificate:
        """Read the body; a chain that is too long or a certificate that is too big is `TlsAlert`."""
        return _decode_certificate(body)


@lru_cache(maxsize=16)  # whoever calls the same servers again is shown the same chains
def _decode_certificate(body: bytes) -> Certificate:
    reader = Reader(body)
    context = reader.vector8()
    chain = Reader(reader.vector24())
    reader.finish()
    entries: list[CertificateEntry] = []
    while chain.remaining:
        if len(entries) == limits.MAX_CHAIN_CERTIFICATES:
            raise TlsAlert(AlertDescription.BAD_CERTIFICATE, "the chain is too long", "fairway.tls.limits")
        data = chain.vector24()
        if not data:
            raise WireError("a certificate is empty")
        if len(data) > limits.MAX_CERTIFICATE_BYTES:
            raise TlsAlert(
                AlertDescription.BAD_CERTIFICATE, f"a certificate has {len(data)} bytes", "fairway.tls.limits"
            )
        entries.append(CertificateEntry(data, decode_extensions(chain.vector16())))
    return Certificate(context, tuple(entries))


@dataclass(frozen=True, slots=True)
class CertificateVerify:
    """CertificateVerify (RFC 8446 section 4.4.3)."""

    kind: ClassVar[HandshakeType] = HandshakeType.CERTIFICATE_VERIFY

    scheme: int
    signature: bytes

    def encode(self) -> bytes:
        """The whole message."""
        return _message(self.kind, _CODE_AND_VECTOR.pack(self.scheme, len(self.signature)) + self.signature)

    @classmethod
    def decode(cls, body: bytes) -> CertificateVerify:
        """Read the body."""
        reader = Reader(body)
        scheme, signature = reader.u16(), reader.vector16()
        reader.finish()
        return cls(scheme, signature)


@dataclass(frozen=True, slots=True)
class Finished:
    """Finished (RFC 8446 section 4.4.4)."""

    kind: ClassVar[HandshakeType] = HandshakeType.FINISHED

    verify_data: bytes

    def encode(self) -> bytes:
        """The whole message."""
        return _message(self.kind, self.verify_data)

    @classmethod
    def decode(cls, body: bytes) -> Finished:
        """Read the body; its length is that of the suite's hash, which whoever verifies it knows."""
        return cls(body)


@dataclass(frozen=True, slots=True)
class NewSessionTicket:
    """NewSessionTicket (RFC 8446 section 4.6.1)."""

    kind: ClassVar[HandshakeType] = HandshakeType.NEW_SESSION_TICKET

    lifetime_s: int
    age_add_ms: int
    nonce: bytes
    ticket: bytes
    extensions: Extensions

    def encode(self) -> bytes:
        """The whole message."""
        body = (
            _TICKET_HEAD.pack(self.lifetime_s, self.age_add_ms, len(self.nonce)),
            self.nonce,
            len(self.ticket).to_bytes(2, "big"),
            self.ticket,
            encode_extensions(self.extensions),
        )
        return _message(self.kind, b"".join(body))

    @classmethod
    def decode(cls, body: bytes) -> NewSessionTicket:
        """Read the body."""
        reader = Reader(body)
        lifetime_s, age_add_ms = reader.u32(), reader.u32()
        nonce, ticket, block = reader.vector8(), reader.vector16(), reader.vector16()
        reader.finish()
        if not ticket:
            raise WireError("the ticket is empty")
        return cls(lifetime_s, age_add_ms, nonce, ticket, decode_extensions(block))
