"""Transport parameters (RFC 9000 section 18): a frozen value, its encoding, and the limits on each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.limits import MAX_CONNECTION_ID_LENGTH, MAX_STREAMS_CAP
from fairway.quic.version_information import VersionInformation
from fairway.wire import VARINT_MAX, WireError, decode_varint, encode_varint

MAX_ACK_DELAY_EXPONENT = 20  # section 18.2
MAX_ACK_DELAY_LIMIT_MS = 1 << 14
MIN_UDP_PAYLOAD = 1200
MIN_ACTIVE_CONNECTION_IDS = 2
MAX_UNKNOWN_PARAMETERS = 128  # looked at, beside those that are known
MAX_BEGINNINGS_KEPT = 16

_SECTION = "RFC 9000 section 18.2"


@dataclass(frozen=True, slots=True)
class PreferredAddress:
    """The address that a server would rather be reached at (section 18.2); ports 0 mean no address."""

    ipv4: bytes
    ipv4_port: int
    ipv6: bytes
    ipv6_port: int
    connection_id: bytes
    reset_token: bytes

    def addresses(self) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
        """Host and port for IPv4 and for IPv6, None where there is none."""
        ipv4 = (str(IPv4Address(self.ipv4)), self.ipv4_port) if self.ipv4_port else None
        ipv6 = (str(IPv6Address(self.ipv6)), self.ipv6_port) if self.ipv6_port else None
        return ipv4, ipv6

    def encode(self) -> bytes:
        """The parameter's value."""
        return b"".join(
            [
                self.ipv4,
                self.ipv4_port.to_bytes(2, "big"),
                self.ipv6,
                self.ipv6_port.to_bytes(2, "big"),
                bytes((len(self.connection_id),)),
                self.connection_id,
                self.reset_token,
            ]
        )

    @classmethod
    def decode(cls, value: bytes) -> PreferredAddress:
        """Parse the parameter's value; raises `PeerError`."""
        if len(value) < 25 or not 1 <= value[24] <= MAX_CONNECTION_ID_LENGTH or len(value) != 41 + value[24]:
            raise _error("preferred_address has a wrong length")
        end = 25 + value[24]
        return cls(
            value[0:4],
            int.from_bytes(value[4:6], "big"),
            value[6:22],
            int.from_bytes(value[22:24], "big"),
            value[25:end],
            value[end:],
        )


class TransportParameters(NamedTuple):
    """Every parameter of RFC 9000, 9221, 9287, 9368, of ACK frequency and of reliable stream resets.

    What is given is what holds where one is absent.
    """

    original_destination_connection_id: bytes | None = None
    max_idle_timeout_ms: int = 0
    stateless_reset_token: bytes | None = None
    max_udp_payload_size: int = 65527
    initial_max_data: int = 0
    initial_max_stream_data_bidi_local: int = 0
    initial_max_stream_data_bidi_remote: int = 0
    initial_max_stream_data_uni: int = 0
    initial_max_streams_bidi: int = 0
    initial_max_streams_uni: int = 0
    ack_delay_exponent: int = 3
    max_ack_delay_ms: int = 25
    disable_active_migration: bool = False
    preferred_address: PreferredAddress | None = None
    active_connection_id_limit: int = 2
    initial_source_connection_id: bytes | None = None
    retry_source_connection_id: bytes | None = None
    max_datagram_frame_size: int = 0
    version_information: VersionInformation | None = None
    grease_quic_bit: bool = False
    min_ack_delay_us: int | None = None
    reset_stream_at: bool = False


_NAMES = {
    0x00: "original_destination_connection_id",
    0x01: "max_idle_timeout_ms",
    0x02: "stateless_reset_token",
    0x03: "max_udp_payload_size",
    0x04: "initial_max_data",
    0x05: "initial_max_stream_data_bidi_local",
    0x06: "initial_max_stream_data_bidi_remote",
    0x07: "initial_max_stream_data_uni",
    0x08: "initial_max_streams_bidi",
    0x09: "initial_max_streams_uni",
    0x0A: "ack_delay_exponent",
    0x0B: "max_ack_delay_ms",
    0x0C: "disable_active_migration",
    0x0D: "preferred_address",
    0x0E: "active_connection_id_limit",
    0x0F: "initial_source_connection_id",
    0x10: "retry_source_connection_id",
    0x11: "version_information",  # RFC 9368 section 10.1
    0x1D: "reset_stream_at",  # draft-ietf-quic-reliable-stream-reset section 3
    0x20: "max_datagram_frame_size",  # RFC 9221 section 3
    0x2AB2: "grease_quic_bit",  # RFC 9287 section 5
    0xFF04DE1B: "min_ack_delay_us",  # draft-ietf-quic-ack-frequency-14 section 3
}
_IDS = {name: number for number, name in _NAMES.items()}
_DEFAULTS = TransportParameters._field_defaults
_FIELDS = tuple((name, encode_varint(_IDS[name]), default) for name, default in _DEFAULTS.items())
_SERVER_ONLY = frozenset(_NAMES[number] for number in (0x00, 0x02, 0x0D, 0x10))  # section 18.2: no client sends these

_OF_ONE_CONNECTION = frozenset((0x00, 0x02, 0x0D, 0x0F, 0x10, 0x11))  # what differs from connection to connection

_RANGES = {  # inclusive limits of the integers, by name, where they are not those of the encoding
    "max_udp_payload_size": (MIN_UDP_PAYLOAD, VARINT_MAX),
    "initial_max_streams_bidi": (0, MAX_STREAMS_CAP),
    "initial_max_streams_uni": (0, MAX_STREAMS_CAP),
    "ack_delay_exponent": (0, MAX_ACK_DELAY_EXPONENT),
    "max_ack_delay_ms": (0, MAX_ACK_DELAY_LIMIT_MS - 1),
    "active_connection_id_limit": (MIN_ACTIVE_CONNECTION_IDS, VARINT_MAX),
}

_VALUE_MASKS = {length: (1 << (8 * length - 2)) - 1 for length in (1, 2, 4, 8)}  # without the bits that say the length

_from_bytes = int.from_bytes


def _error(reason: str) -> PeerError:
    return PeerError(ErrorCode.TRANSPORT_PARAMETER_ERROR, reason, section=_SECTION)


def encode_parameters(parameters: TransportParameters) -> bytes:
    """The extension's bytes."""
    out = []
    for name, number, default in _FIELDS:
        value = getattr(parameters, name)
        if value == default:
            continue
        if value is True:
            body = b""
        elif isinstance(value, int):
            body = encode_varint(value)
        elif isinstance(value, PreferredAddress | VersionInformation):
            body = value.encode()
        else:
            body = value
        out.append(number + encode_varint(len(body)) + body)
    return b"".join(out)


def encode_reserved(random: bytes) -> bytes:
    """A parameter that peers must ignore (section 18.1): its number and its value are made of the random bytes."""
    number = 31 * int.from_bytes(random[:2], "big") + 27
    return encode_varint(number) + encode_varint(len(random) - 2) + random[2:]


def encode_ids(
    source: bytes,
    original_destination: bytes | None = None,
    reset_token: bytes | None = None,
    retry_source: bytes | None = None,
) -> bytes:
    """The parameters that differ from connection to connection: all but the first are a server's."""
    out = b"\x0f" + encode_varint(len(source)) + source
    if original_destination is not None:
        out += b"\x00" + encode_varint(len(original_destination)) + original_destination
    if reset_token is not None:
        out += b"\x02\x10" + reset_token
    if retry_source is not None:
        out += b"\x10" + encode_varint(len(retry_source)) + retry_source
    return out


class _Beginnings:
    """What peers say before they come to the connection at hand: those of one kind all say the same, decoded once."""

    __slots__ = ("_decoded", "_lengths")

    def __init__(self) -> None:
        self._decoded: dict[bytes, dict[str, object]] = {}
        self._lengths: tuple[int, ...] = ()

    def find(self, data: bytes) -> tuple[int, dict[str, object]]:
        """How much of `data` is known, and what it says."""
        for length in self._lengths:
            decoded = self._decoded.get(data[:length])
            if decoded is not None:
                return length, decoded.copy()
        return 0, {}

    def keep(self, beginning: bytes, decoded: dict[str, object]) -> None:
        """Remember what one says; a few are known at a time."""
        if len(self._decoded) >= MAX_BEGINNINGS_KEPT:
            self._decoded.clear()
        self._decoded[beginning] = decoded
        self._lengths = tuple(sorted({len(each) for each in self._decoded}, reverse=True))


_beginnings = _Beginnings()


def decode_parameters(data: bytes, *, from_client: bool) -> TransportParameters:
    """Parse a peer's parameters; raises `PeerError` with TRANSPORT_PARAMETER_ERROR."""
    offset, found = _beginnings.find(data)
    unknown: set[int] = set()
    begins, end = not offset, len(data)
    try:
        while offset < end:
            at, number, length, start = offset, data[offset], data[offset + 1], offset + 2
            if number >= 0x40 or length >= 0x40:  # more than one byte each
                number, offset = decode_varint(data, offset)
                length, start = decode_varint(data, offset)
            offset = start + length
            if offset > end:
                raise _error("a parameter runs past the end")
            known = _DECODERS.get(number)
            if begins and (known is None or number in _OF_ONE_CONNECTION):
                begins = False
                if found:
                    _beginnings.keep(data[:at], found.copy())
            if known is not None:
                name, decode = known
                if name in found:
                    raise _error(f"{name} is given twice")
                found[name] = decode(name, data[start:offset], from_client)
            elif number in unknown:
                raise _error(f"parameter {number:#x} is given twice")
            else:
                unknown.add(number)
                if len(unknown) > MAX_UNKNOWN_PARAMETERS:
                    raise _error("too many parameters")
    except (WireError, IndexError) as error:
        raise _error("a parameter is cut off") from error
    if from_client and not _SERVER_ONLY.isdisjoint(found):
        raise _error(f"a client may not send {', '.join(sorted(_SERVER_ONLY & found.keys()))}")
    parameters = TransportParameters(**found)  # type: ignore[arg-type]
    if parameters.min_ack_delay_us is not None and parameters.min_ack_delay_us > 1000 * parameters.max_ack_delay_ms:
        raise _error("min_ack_delay is longer than max_ack_delay")
    return parameters


# What each kind of parameter holds: `PeerError` for a value that it may not have.


@lru_cache(maxsize=256)  # peers of one kind all say the same
def _integer(name: str, value: bytes, from_client: bool) -> int:
    mask = _VALUE_MASKS.get(len(value))
    if mask is None or len(value) != 1 << (value[0] >> 6):
        raise _error(f"{name} has a wrong length")
    decoded = _from_bytes(value, "big") & mask
    low, high = _RANGES.get(name, (0, VARINT_MAX))
    if not low <= decoded <= high:
        raise _error(f"{name} is {decoded}, outside {low} to {high}")
    return decoded


def _connection_id(name: str, value: bytes, from_client: bool) -> bytes:
    if len(value) > MAX_CONNECTION_ID_LENGTH:
        raise _error(f"{name} is longer than 20 bytes")
    return value


def _reset_token(name: str, value: bytes, from_client: bool) -> bytes:
    if len(value) != 16:
        raise _error(f"{name} is not 16 bytes")
    return value


def _flag(name: str, value: bytes, from_client: bool) -> bool:
    if value:
        raise _error(f"{name} has a value")
    return True


_NO_INTEGERS: dict[str, Callable[[str, bytes, bool], object]] = {
    "original_destination_connection_id": _connection_id,
    "stateless_reset_token": _reset_token,
    "disable_active_migration": _flag,
    "preferred_address": lambda name, value, from_client: PreferredAddress.decode(value),
    "initial_source_connection_id": _connection_id,
    "retry_source_connection_id": _connection_id,
    "version_information": lambda name, value, from_client: VersionInformation.decode(value, from_client=from_client),
    "grease_quic_bit": _flag,
    "reset_stream_at": _flag,
}
_DECODERS = {number: (name, _NO_INTEGERS.get(name, _integer)) for number, name in _NAMES.items()}
