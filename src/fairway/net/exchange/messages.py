"""What two nodes say to each other: frozen values, each with its encoding.

Every stream carries the messages of one channel, in order: a byte for the channel, then messages, each a byte for its
type, its length as a varint, and its body. A stream of its own for every kind is what keeps a large table from
delaying a withdrawal. Decoding is pure and bounded; what does not decode is a `PeerFault`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from fairway.net.exchange import limits
from fairway.net.exchange.errors import PeerFault
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.names import check_name
from fairway.wire import Reader, WireError, Writer
from fairway.wire.varint import VARINT_MAX

PROTOCOL = 1
"""The version of this protocol; a node of another one is refused, and told so."""

NETWORK_ID_BYTES = 16


class Channel(enum.IntEnum):
    """The kinds of stream, in the order in which they are served; either side opens one of each."""

    CONTROL = 0
    WITHDRAWALS = 1
    ANNOUNCEMENTS = 2
    MEMBERS = 3
    TABLE = 4


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node's agent listens; the address is also the next hop to its pods."""

    address: IPAddress
    port: int


@dataclass(frozen=True, slots=True)
class Announcement:
    """`prefix` is reached by way of the node that says so.

    `sequence` is the node's own count of changes. Where several nodes announce one prefix, the highest `version` wins
    (a pod that moves takes one more than anyone had), then the lowest `metric`.
    """

    prefix: IPNetwork
    sequence: int
    version: int = 0
    metric: int = 0

    @property
    def single(self) -> bool:
        """Whether it is one address, which may lie in another node's block."""
        return self.prefix.prefixlen == self.prefix.max_prefixlen


@dataclass(frozen=True, slots=True)
class Held:
    """How much of a node's table somebody has: every change up to `sequence` of `epoch`."""

    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of either side: who it is, and what it holds of the other's table."""

    network: bytes
    node: str
    epoch: int
    """The life of the node: another one is the same node after a restart, and most often higher."""
    endpoints: tuple[Endpoint, ...] = ()
    holds: Held | None = None
    protocol: int = PROTOCOL
    capabilities: int = 0
    members: int = 0
    """How many others the node knows: who knows more tells it."""

    def encode(self) -> bytes:
        """The body."""
        writer = Writer().varint(self.protocol).raw(self.network)
        _put_name(writer, self.node)
        writer.varint(self.epoch)
        _put_endpoints(writer, self.endpoints)
        writer.varint(self.capabilities).varint(self.members).u8(self.holds is not None)
        if self.holds is not None:
            writer.varint(self.holds.epoch).varint(self.holds.sequence)
        return writer.finish()

    @classmethod
    def decode(cls, reader: Reader) -> Hello:
        """From the body; what a later version appends is left unread."""
        protocol = reader.varint()
        if protocol != PROTOCOL:
            raise PeerFault(f"the peer speaks version {protocol} of the protocol, and this node {PROTOCOL}")
        network, node, epoch = reader.take(NETWORK_ID_BYTES), _get_name(reader), reader.varint()
        endpoints = _get_endpoints(reader)
        capabilities, members = reader.varint(), reader.varint()
        holds = Held(reader.varint(), reader.varint()) if reader.u8() else None
        reader.rest()
        return cls(network, node, epoch, endpoints, holds, protocol, capabilities, members)


@dataclass(frozen=True, slots=True)
class Resume:
    """No table is needed: changes follow from `since` on, which the peer said it holds."""

    epoch: int
    since: int

    def encode(self) -> bytes:
        """The body."""
        return Writer().varint(self.epoch).varint(self.since).finish()

    @classmethod
    def decode(cls, reader: Reader) -> Resume:
        """From the body."""
        return cls(reader.varint(), reader.varint())


@dataclass(frozen=True, slots=True)
class ResyncRequest:
    """Something is missing: send the whole table."""

    def encode(self) -> bytes:
        """The body."""
        return b""

    @classmethod
    def decode(cls, reader: Reader) -> ResyncRequest:
        """From the body."""
        return cls()


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The node's addresses have changed."""

    endpoints: tuple[Endpoint, ...]

    def encode(self) -> bytes:
        """The body."""
        writer = Writer()
        _put_endpoints(writer, self.endpoints)
        return writer.finish()

    @classmethod
    def decode(cls, reader: Reader) -> Endpoints:
        """From the body."""
        return cls(_get_endpoints(reader))


@dataclass(frozen=True, slots=True)
class Announce:
    """Every announcement after `since` up to `upto` that still holds; on one stream, each goes on where the last ended.

    A peer for whom `since` is further than the last `upto` has missed something.
    """

    epoch: int
    since: int
    upto: int
    announcements: tuple[Announcement, ...] = ()

    def encode(self) -> bytes:
        """The body."""
        writer = Writer().varint(self.epoch).varint(self.since).varint(self.upto - self.since)
        _put_announcements(writer, self.announcements)
        return writer.finish()

    @classmethod
    def decode(cls, reader: Reader) -> Announce:
        """From the body."""
        epoch, since, upto = reader.varint(), *_get_stretch(reader)
        return cls(epoch, since, upto, _get_announcements(reader))


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Every withdrawal after `since` up to `upto` that still holds: prefixes, and the sequence of each."""

    epoch: int
    since: int
    upto: int
    prefixes: tuple[tuple[IPNetwork, int], ...] = ()

    def encode(self) -> bytes:
        """The body."""
        writer = Writer().varint(self.epoch).varint(self.since).varint(self.upto - self.since)
        for prefix, sequence in self.prefixes:
            _put_prefix(writer, prefix)
            writer.varint(sequence)
        return writer.finish()

    @classmethod
    def decode(cls, reader: Reader) -> Withdraw:
        """From the body."""
        epoch, since, upto = reader.varint(), *_get_stretch(reader)
        prefixes = []
        while reader.remaining:
            prefixes.append((_get_prefix(reader), reader.varint()))
        return cls(epoch, since, upto, tuple(prefixes))


@dataclass(frozen=True, slots=True)
class TableBegin:
    """A table follows on this stream: what is announced as of `upto`. It takes the place of one that has not ended."""

    epoch: int
    upto: int

    def encode(self) -> bytes:
        """The body."""
        return Writer().varint(self.epoch).varint(self.upto).finish()

    @classmethod
    def decode(cls, reader: Reader) -> TableBegin:
        """From the body."""
        return cls(reader.varint(), reader.varint())


@dataclass(frozen=True, slots=True)
class TableEntries:
    """A part of the table."""

    announcements: tuple[Announcement, ...]

    def encode(self) -> bytes:
        """The body."""
        writer = Writer()
        _put_announcements(writer, self.announcements)
        return writer.finish()

    @classmethod
    def decode(cls, reader: Reader) -> TableEntries:
        """From the body."""
        return cls(_get_announcements(reader))


@dataclass(frozen=True, slots=True)
class TableEnd:
    """The table is complete: what it does not have is not announced."""

    def encode(self) -> bytes:
        """The body."""
        return b""

    @classmethod
    def decode(cls, reader: Reader) -> TableEnd:
        """From the body."""
        return cls()


@dataclass(frozen=True, slots=True)
class Member:
    """A node that the sender speaks with, and where."""

    node: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Members:
    """Nodes that the sender speaks with itself: a hint whom to call, and no more than that."""

    members: tuple[Member, ...] = field(default=())

    def encode(self) -> bytes:
        """The body."""
        writer = Writer()
        for member in self.members:
            _put_name(writer, member.node)
            _put_endpoints(writer, member.endpoints)
        return writer.finish()

    @classmethod
    def decode(cls, reader: Reader) -> Members:
        """From the body."""
        members = []
        while reader.remaining:
            members.append(Member(_get_name(reader), _get_endpoints(reader)))
        return cls(tuple(members))


@dataclass(frozen=True, slots=True)
class Revocations:
    """The newest list of revoked certificates: `number` orders the lists, `signed` is what the authority signed."""

    number: int
    signed: bytes

    def encode(self) -> bytes:
        """The body."""
        return Writer().varint(self.number).raw(self.signed).finish()

    @classmethod
    def decode(cls, reader: Reader) -> Revocations:
        """From the body."""
        return cls(reader.varint(), reader.rest())


Message = (
    Hello
    | Resume
    | ResyncRequest
    | Endpoints
    | Announce
    | Withdraw
    | TableBegin
    | TableEntries
    | TableEnd
    | Members
    | Revocations
)

TYPES: dict[type[Message], tuple[int, Channel]] = {
    Hello: (0x01, Channel.CONTROL),
    Resume: (0x02, Channel.CONTROL),
    ResyncRequest: (0x03, Channel.CONTROL),
    Endpoints: (0x04, Channel.CONTROL),
    Announce: (0x10, Channel.ANNOUNCEMENTS),
    Withdraw: (0x11, Channel.WITHDRAWALS),
    TableBegin: (0x20, Channel.TABLE),
    TableEntries: (0x21, Channel.TABLE),
    TableEnd: (0x22, Channel.TABLE),
    Members: (0x30, Channel.MEMBERS),
    Revocations: (0x31, Channel.MEMBERS),
}
"""Each message's number, and the channel that it belongs to."""

_DECODERS: dict[tuple[Channel, int], Callable[[Reader], Message]] = {
    (channel, number): kind.decode for kind, (number, channel) in TYPES.items()
}
_NUMBERS = {number for number, _ in TYPES.values()}


def encode(message: Message) -> bytes:
    """The message with its type and length, as it goes on its channel's stream."""
    return Writer().u8(TYPES[type(message)][0]).varint(len(body := message.encode())).raw(body).finish()


def decode(channel: Channel, number: int, body: bytes) -> Message | None:
    """The message; None for a type that this version does not know, which is skipped."""
    decoder = _DECODERS.get((channel, number))
    if decoder is None:
        if number in _NUMBERS:
            raise PeerFault(f"a message of type {number:#x} does not belong on the stream for {channel.name.lower()}")
        return None
    reader = Reader(body)
    try:
        message = decoder(reader)
        reader.finish()
    except WireError as error:
        raise PeerFault(f"a message of type {number:#x} does not decode: {error}") from None
    return message


# Fields


def _put_name(writer: Writer, name: str) -> None:
    writer.vector8(name.encode("ascii"))


def _get_name(reader: Reader) -> str:
    try:
        return check_name("node", reader.vector8().decode("ascii"))
    except (UnicodeDecodeError, UsageError):
        raise PeerFault("a node's name is not valid") from None


def _put_endpoints(writer: Writer, endpoints: tuple[Endpoint, ...]) -> None:
    writer.u8(len(endpoints))
    for endpoint in endpoints:
        writer.vector8(endpoint.address.packed).u16(endpoint.port)


def _get_endpoints(reader: Reader) -> tuple[Endpoint, ...]:
    count = reader.u8()
    if count > limits.MAX_ENDPOINTS:
        raise PeerFault(f"{count} addresses of one node")
    return tuple(Endpoint(_get_address(reader), reader.u16()) for _ in range(count))


def _get_address(reader: Reader) -> IPAddress:
    packed = reader.vector8()
    if len(packed) == 4:
        return IPv4Address(packed)
    if len(packed) == 16:
        return IPv6Address(packed)
    raise PeerFault(f"an address of {len(packed)} bytes")


def _put_prefix(writer: Writer, prefix: IPNetwork) -> None:
    """A byte that says the IP version, one for the length, and the bytes that the length covers."""
    writer.u8(prefix.version).u8(prefix.prefixlen)
    writer.raw(prefix.network_address.packed[: (prefix.prefixlen + 7) // 8])


def _get_prefix(reader: Reader) -> IPNetwork:
    version, length = reader.u8(), reader.u8()
    if version not in (4, 6) or length > (32 if version == 4 else 128):
        raise PeerFault(f"a prefix of IP version {version} with length {length}")
    width = 4 if version == 4 else 16
    value = int.from_bytes(reader.take((length + 7) // 8).ljust(width, b"\0"), "big")
    if value & ((1 << (width * 8 - length)) - 1):
        raise PeerFault("a prefix has bits beyond its length")
    return IPv4Network((value, length)) if version == 4 else IPv6Network((value, length))


def _get_stretch(reader: Reader) -> tuple[int, int]:
    """A sequence, and one that is so many later."""
    since = reader.varint()
    upto = since + reader.varint()
    if upto > VARINT_MAX:  # it would be told back, and cannot be
        raise PeerFault(f"a sequence of {upto}")
    return since, upto


def _put_announcements(writer: Writer, announcements: Iterable[Announcement]) -> None:
    for each in announcements:
        _put_prefix(writer, each.prefix)
        writer.varint(each.sequence).varint(each.version).varint(each.metric)


def _get_announcements(reader: Reader) -> tuple[Announcement, ...]:
    announcements = []
    while reader.remaining:
        prefix = _get_prefix(reader)
        announcements.append(Announcement(prefix, reader.varint(), reader.varint(), reader.varint()))
    return tuple(announcements)
