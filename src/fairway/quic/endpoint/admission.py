"""Whether a newcomer is let in, and how often strangers are answered.

Who has not proved its address may be anybody, so spoofed first packets must not use up what honest newcomers need:
handshakes without proof are few and counted by themselves, beyond them Retry asks for proof. Who has proved its address
is held to what one address may have. All of an IPv6 /64 is one address: one host can have all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from fairway.quic.limits import (
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ADDRESS,
    MAX_PENDING_HANDSHAKES,
    MAX_PENDING_PER_ADDRESS,
    RETRY_FROM_PENDING,
    RETRY_FROM_PENDING_OF_ADDRESS,
    VERSION_NEGOTIATION_PER_SECOND,
)
from fairway.quic.paths.path import Address

_NETWORK = 8
"""Bytes of an IPv6 address that are one host's."""


class Decision(Enum):
    """What becomes of a newcomer. The values of the refusals are the words that statistics count."""

    ADMIT = auto()
    PROVE = auto()
    """Retry: nothing of it is kept."""
    CONNECTIONS = "connections"
    ADDRESS = "address"
    HANDSHAKES = "handshakes"


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How many connections an endpoint takes: in all, of one address, and whose handshake is not complete."""

    connections: int = MAX_CONNECTIONS
    connections_per_address: int = MAX_CONNECTIONS_PER_ADDRESS
    pending: int = MAX_PENDING_HANDSHAKES
    """Handshakes that are not complete, of clients that have proved their address."""
    pending_per_address: int = MAX_PENDING_PER_ADDRESS
    retry_from: int = RETRY_FROM_PENDING
    """Handshakes without proof from which on newcomers have to prove their address, until half of them are left."""
    retry_from_of_address: int = RETRY_FROM_PENDING_OF_ADDRESS
    """The same of one address, for newcomers from there."""
    answers_per_second: int = VERSION_NEGOTIATION_PER_SECOND


@dataclass(slots=True)
class _Guest:
    """What is known of a connection."""

    place: bytes | str
    proved: bool
    complete: bool = False


class _Tally:
    """Connections by address, and all of them. It has as many entries as there are connections, no more."""

    __slots__ = ("_of", "total")

    def __init__(self) -> None:
        self._of: dict[bytes | str, int] = {}
        self.total = 0

    def of(self, place: bytes | str) -> int:
        return self._of.get(place, 0)

    def add(self, place: bytes | str) -> None:
        self._of[place] = self._of.get(place, 0) + 1
        self.total += 1

    def take(self, place: bytes | str) -> None:
        left = self._of.pop(place) - 1
        if left:
            self._of[place] = left
        self.total -= 1


class Admission:
    """Counts connections against `limits`. A connection counts for the address that it began from, wherever it goes."""

    def __init__(self, limits: AdmissionLimits | None = None) -> None:
        self._limits = limits or AdmissionLimits()
        self._guests: dict[object, _Guest] = {}
        self._proved = _Tally()
        """Connections whose address is proved: by Retry, by a token, or by a handshake that is complete."""
        self._proved_pending = _Tally()
        """Of those, the ones whose handshake is not complete."""
        self._unproved = _Tally()
        """The others: none of their handshakes is."""
        self._loaded = False
        self._second = 0.0
        self._answers = 0

    @property
    def pending(self) -> int:
        """Handshakes that are not complete, those that failed and are not forgotten included."""
        return self._proved_pending.total + self._unproved.total

    def judge(self, address: Address, proved: bool) -> Decision:
        """What becomes of one more from `address`, which it has proved or not."""
        limits, place = self._limits, place_of(address)
        if len(self._guests) >= limits.connections:
            return Decision.CONNECTIONS
        if self._proved.of(place) >= limits.connections_per_address:
            return Decision.ADDRESS
        if proved:
            if self._proved_pending.of(place) >= limits.pending_per_address:
                return Decision.ADDRESS
            full = self._proved_pending.total >= limits.pending
            return Decision.HANDSHAKES if full else Decision.ADMIT
        doubtful = self._doubts() or self._unproved.of(place) >= limits.retry_from_of_address
        return Decision.PROVE if doubtful else Decision.ADMIT

    def _doubts(self) -> bool:
        """Whether newcomers must prove their address, so many others have not (RFC 9000 section 8.1.2)."""
        unproved = self._unproved.total
        if unproved >= self._limits.retry_from:
            self._loaded = True
        elif 2 * unproved < self._limits.retry_from:
            self._loaded = False
        return self._loaded

    def begin(self, connection: object, address: Address, proved: bool) -> None:
        """It was let in."""
        place = place_of(address)
        self._guests[connection] = _Guest(place, proved)
        if proved:
            self._proved.add(place)
            self._proved_pending.add(place)
        else:
            self._unproved.add(place)

    def is_pending(self, connection: object) -> bool:
        """True from `begin` to `complete`."""
        guest = self._guests.get(connection)
        return guest is not None and not guest.complete

    def complete(self, connection: object) -> bool:
        """Its handshake is complete, and its address proved thereby; False if that address has too many now."""
        guest = self._guests[connection]
        self._no_longer_pending(guest)
        guest.complete = True
        if not guest.proved:
            guest.proved = True
            self._proved.add(guest.place)
        return self._proved.of(guest.place) <= self._limits.connections_per_address

    def forget(self, connection: object) -> None:
        """It is over."""
        guest = self._guests.pop(connection, None)
        if guest is None:
            return
        self._no_longer_pending(guest)
        if guest.proved:
            self._proved.take(guest.place)

    def _no_longer_pending(self, guest: _Guest) -> None:
        if not guest.complete:
            (self._proved_pending if guest.proved else self._unproved).take(guest.place)

    def may_answer(self, now: float) -> bool:
        """True if a stranger's packet may be answered with Version Negotiation or a close."""
        if now - self._second >= 1.0:
            self._second, self._answers = now, 0
        self._answers += 1
        return self._answers <= self._limits.answers_per_second


def place_of(address: Address) -> bytes | str:
    """What counts as one address: all of IPv4's, the first 64 bits of IPv6's; as it is if it is no IP address."""
    return _place_of(str(address[0]) if isinstance(address, tuple) else str(address))


@lru_cache(maxsize=1024)  # asked twice for every newcomer, and who came comes again
def _place_of(host: str) -> bytes | str:
    try:
        parsed = ip_address(host)
    except ValueError:
        return host
    if not isinstance(parsed, IPv6Address):
        return parsed.packed
    mapped = parsed.ipv4_mapped  # how a socket for both families sees IPv4
    return parsed.packed[:_NETWORK] if mapped is None else mapped.packed
