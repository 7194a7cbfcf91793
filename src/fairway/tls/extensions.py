"""Extensions of handshake messages (RFC 8446 section 4.2): the block they come in, and a codec for each body in use.

Messages keep extensions as raw bodies by type, in order, so that unknown ones survive; these functions read the known.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache

from fairway.tls import limits
from fairway.tls.alerts import AlertDescription, TlsAlert
from fairway.wire import Reader, WireError, Writer

Extensions = Mapping[int, bytes]


class ExtensionType(IntEnum):
    """The extensions that TLS 1.3 and QUIC know, by their code (RFC 8446 section 4.2, RFC 9001 section 8.2)."""

    SERVER_NAME = 0
    MAX_FRAGMENT_LENGTH = 1
    STATUS_REQUEST = 5
    SUPPORTED_GROUPS = 10
    SIGNATURE_ALGORITHMS = 13
    USE_SRTP = 14
    HEARTBEAT = 15
    APPLICATION_LAYER_PROTOCOL_NEGOTIATION = 16
    SIGNED_CERTIFICATE_TIMESTAMP = 18
    CLIENT_CERTIFICATE_TYPE = 19
    SERVER_CERTIFICATE_TYPE = 20
    PADDING = 21
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    COOKIE = 44
    PSK_KEY_EXCHANGE_MODES = 45
    CERTIFICATE_AUTHORITIES = 47
    OID_FILTERS = 48
    POST_HANDSHAKE_AUTH = 49
    SIGNATURE_ALGORITHMS_CERT = 50
    KEY_SHARE = 51
    QUIC_TRANSPORT_PARAMETERS = 57


_HEADER = struct.Struct("!HH")


def encode_extensions(extensions: Extensions) -> bytes:
    """The block with its length in two bytes. `WireError` if something does not fit."""
    parts: list[bytes] = []
    header = _HEADER.pack
    try:
        for kind, body in extensions.items():
            parts += (header(kind, len(body)), body)
    except struct.error:
        raise WireError("an extension does not fit") from None
    block = b"".join(parts)
    if len(block) > 0xFFFF:
        raise WireError(f"extensions of {len(block)} bytes do not fit")
    return len(block).to_bytes(2, "big") + block


def decode_extensions(block: bytes) -> dict[int, bytes]:
    """The bodies by type, in order, of a block without its length. `TlsAlert` for one that comes twice."""
    extensions: dict[int, bytes] = {}
    offset, end, header = 0, len(block), _HEADER.unpack_from
    while offset < end:
        start = offset + 4
        if start > end:
            raise WireError("an extension's header is cut short")
        kind, length = header(block, offset)
        offset = start + length
        if offset > end:
            raise WireError(f"extension {kind} runs past the end")
        if kind in extensions:
            raise TlsAlert(AlertDescription.ILLEGAL_PARAMETER, f"extension {kind} comes twice", "RFC 8446 section 4.2")
        extensions[kind] = block[start:offset]
    if len(extensions) > limits.MAX_EXTENSIONS:
        raise TlsAlert(
            AlertDescription.DECODE_ERROR, f"{len(extensions)} extensions are too many", "fairway.tls.limits"
        )
    return extensions


# Peers of one kind say the same in every handshake: what such bodies mean is remembered for a few of them.
_remember = lru_cache(maxsize=32)


def encode_codes(codes: Sequence[int]) -> bytes:
    """Two-byte codes preceded by their length: supported_groups (4.2.7), signature_algorithms (4.2.3)."""
    return struct.pack(f"!{len(codes) + 1}H", 2 * len(codes), *codes)


@_remember
def decode_codes(body: bytes) -> tuple[int, ...]:
    """The reverse of `encode_codes`; an empty list is `WireError`."""
    if len(body) < 2 or int.from_bytes(body[:2], "big") != len(body) - 2:
        raise WireError("a list of two-byte codes has another length than it says")
    return unpack_codes(body[2:])


def unpack_codes(codes: bytes) -> tuple[int, ...]:
    """Two-byte codes, at least one."""
    if not codes or len(codes) % 2:
        raise WireError(f"a list of two-byte codes has {len(codes)} bytes")
    return struct.unpack(f"!{len(codes) // 2}H", codes)


_HOST_NAME = 0  # RFC 6066 section 3


def encode_server_name(name: str) -> bytes:
    """The server_name of a ClientHello with one host name, in A-labels (RFC 6066 section 3)."""
    return Writer().vector16(Writer().u8(_HOST_NAME).vector16(name.encode("ascii")).finish()).finish()


@_remember
def decode_server_name(body: bytes) -> str:
    """The host name of a ClientHello's server_name, in lower case (RFC 6066 section 3)."""
    outer = Reader(body)
    names = Reader(outer.vector16())
    outer.finish()
    kind, name = names.u8(), names.vector16()
    names.finish()
    if kind != _HOST_NAME or not 0 < len(name) <= 255 or not name.isascii() or b"\0" in name:
        raise TlsAlert(AlertDescription.ILLEGAL_PARAMETER, "the server name is not a host name", "RFC 6066 section 3")
    return name.decode("ascii").lower()


def encode_protocols(protocols: Iterable[bytes]) -> bytes:
    """A list of application protocols (RFC 7301 section 3.1)."""
    names = Writer()
    for protocol in protocols:
        names.vector8(protocol)
    return Writer().vector16(names.finish()).finish()


@_remember
def decode_protocols(body: bytes) -> tuple[bytes, ...]:
    """The reverse of `encode_protocols`; no protocol at all or an empty one is `WireError`."""
    outer = Reader(body)
    names = Reader(outer.vector16())
    outer.finish()
    protocols = []
    while names.remaining:
        protocols.append(names.vector8())
    if not protocols or b"" in protocols:
        raise WireError("an application protocol is empty")
    return tuple(protocols)


def encode_key_shares(shares: Iterable[tuple[int, bytes]]) -> bytes:
    """The key_share of a ClientHello (RFC 8446 section 4.2.8)."""
    entries = b"".join([encode_key_share(group, share) for group, share in shares])
    return len(entries).to_bytes(2, "big") + entries


def decode_key_shares(body: bytes) -> dict[int, bytes]:
    """Shares by group of a ClientHello. `TlsAlert` for two of one group (RFC 8446 section 4.2.8)."""
    outer = Reader(body)
    entries = Reader(outer.vector16())
    outer.finish()
    shares: dict[int, bytes] = {}
    while entries.remaining:
        group, share = entries.u16(), entries.vector16()
        if not share:
            raise WireError("a key share is empty")
        if group in shares:
            raise TlsAlert(
                AlertDescription.ILLEGAL_PARAMETER, f"two key shares for {group:#06x}", "RFC 8446 section 4.2.8"
            )
        shares[group] = share
    return shares


def encode_key_share(group: int, share: bytes) -> bytes:
    """The key_share of a ServerHello (RFC 8446 section 4.2.8)."""
    return _HEADER.pack(group, len(share)) + share


def decode_key_share(body: bytes) -> tuple[int, bytes]:
    """Group and share of a ServerHello's key_share."""
    if len(body) <= 4:
        raise WireError("a key share is empty or cut short")
    group, length = _HEADER.unpack_from(body)
    if length != len(body) - 4:
        raise WireError("a key share has another length than it says")
    return group, body[4:]


def encode_code(code: int) -> bytes:
    """One two-byte code: the selected version (RFC 8446 section 4.2.1) or a retry's group (4.2.8)."""
    return code.to_bytes(2, "big")


def decode_code(body: bytes) -> int:
    """The reverse of `encode_code`."""
    if len(body) != 2:
        raise WireError(f"a code has two bytes, not {len(body)}")
    return int.from_bytes(body, "big")


def encode_versions(versions: Sequence[int]) -> bytes:
    """The supported_versions of a ClientHello (RFC 8446 section 4.2.1)."""
    return Writer().vector8(struct.pack(f"!{len(versions)}H", *versions)).finish()


@_remember
def decode_versions(body: bytes) -> tuple[int, ...]:
    """The reverse of `encode_versions`."""
    reader = Reader(body)
    versions = reader.vector8()
    reader.finish()
    return unpack_codes(versions)


def encode_cookie(cookie: bytes) -> bytes:
    """The cookie of a HelloRetryRequest and of the ClientHello that answers it (RFC 8446 section 4.2.2)."""
    return Writer().vector16(cookie).finish()


def decode_cookie(body: bytes) -> bytes:
    """The reverse of `encode_cookie`; an empty one is `WireError`."""
    reader = Reader(body)
    cookie = reader.vector16()
    reader.finish()
    if not cookie:
        raise WireError("the cookie is empty")
    return cookie


def encode_psk_modes(modes: bytes) -> bytes:
    """The psk_key_exchange_modes of a ClientHello (RFC 8446 section 4.2.9), a byte a mode."""
    return Writer().vector8(modes).finish()


@_remember
def decode_psk_modes(body: bytes) -> bytes:
    """The reverse of `encode_psk_modes`; no mode at all is `WireError`."""
    reader = Reader(body)
    modes = reader.vector8()
    reader.finish()
    if not modes:
        raise WireError("no mode of key exchange with a pre-shared key is given")
    return modes


def decode_max_early_data(body: bytes) -> int:
    """The early_data extension of a NewSessionTicket: bytes of early data (RFC 8446 section 4.2.10)."""
    reader = Reader(body)
    size = reader.u32()
    reader.finish()
    return size


def encode_max_early_data(size: int) -> bytes:
    """The reverse of `decode_max_early_data`."""
    return Writer().u32(size).finish()


def encode_pre_shared_key(ticket: bytes, obfuscated_age: int, binder: bytes) -> bytes:
    """The pre_shared_key of a ClientHello that offers one ticket (RFC 8446 section 4.2.11)."""
    identities = Writer().vector16(ticket).u32(obfuscated_age).finish()
    return Writer().vector16(identities).vector16(Writer().vector8(binder).finish()).finish()


def decode_pre_shared_keys(body: bytes) -> tuple[list[tuple[bytes, int]], list[bytes]]:
    """Tickets with their obfuscated ages, and binders, of a ClientHello's pre_shared_key: as many of each."""
    reader = Reader(body)
    names, proofs = Reader(reader.vector16()), Reader(reader.vector16())
    reader.finish()
    identities: list[tuple[bytes, int]] = []
    while names.remaining:
        identities.append((names.vector16(), names.u32()))
    binders: list[bytes] = []
    while proofs.remaining:
        binders.append(proofs.vector8())
    if not identities or any(not ticket for ticket, _ in identities) or any(len(binder) < 32 for binder in binders):
        raise WireError("a pre-shared key or its binder is too short")
    if len(identities) != len(binders):
        raise TlsAlert(
            AlertDescription.ILLEGAL_PARAMETER, "not as many binders as pre-shared keys", "RFC 8446 section 4.2.11"
        )
    return identities, binders
