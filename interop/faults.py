"""What may befall packets on the link, as the public runner's simulator has it. Time and chance are passed in."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from interop.packets import UDP, Packet

TO_SERVER, TO_CLIENT = 0, 1


class Fault(Protocol):
    """Looks at each packet as it comes out of the link; None if it is lost."""

    def __call__(self, packet: Packet, direction: int, now: float) -> Packet | None:
        """The packet, or what becomes of it. `now` is seconds since the first packet of all."""


class Nothing:
    """A link without faults."""

    def __call__(self, packet: Packet, direction: int, now: float) -> Packet | None:
        """The packet."""
        return packet


class DropList:
    """Loses the packets of the client that have these numbers, the first being 1."""

    def __init__(self, to_server: list[int]) -> None:
        self._numbers = frozenset(to_server)
        self._count = 0

    def __call__(self, packet: Packet, direction: int, now: float) -> Packet | None:
        """None for the numbers."""
        if direction == TO_SERVER and packet.protocol == UDP:
            self._count += 1
            if self._count in self._numbers:
                return None
        return packet


class _ByChance:
    def __init__(self, percent: float, burst: int, seed: int) -> None:
        self._percent, self._burst = percent, burst
        self._random = random.Random(seed)
        self._in_a_row = [0, 0]

    def hit(self, direction: int) -> bool:
        """Whether chance hits this packet; at most `burst` in a row."""
        if self._in_a_row[direction] < self._burst and self._random.random() * 100 < self._percent:
            self._in_a_row[direction] += 1
            return True
        self._in_a_row[direction] = 0
        return False


class Drop(_ByChance):
    """Loses packets by chance."""

    def __call__(self, packet: Packet, direction: int, now: float) -> Packet | None:
        """None by chance."""
        return None if packet.protocol == UDP and self.hit(direction) else packet


class Corrupt(_ByChance):
    """Changes a byte of packets by chance."""

    def __call__(self, packet: Packet, direction: int, now: float) -> Packet | None:
        """The packet, by chance another."""
        if packet.protocol == UDP and self.hit(direction):
            packet.hurt(self._random.randrange(1 << 16))
        return packet


class BlackHole:
    """Carries everything for `on` seconds and nothing for `off`, by turns."""

    def __init__(self, on: float, off: float) -> None:
        self._on, self._period = on, on + off

    def __call__(self, packet: Packet, direction: int, now: float) -> Packet | None:
        """None while it is off."""
        return packet if now % self._period < self._on else None


@dataclass
class Nat:
    """Gives the client another port each `every` seconds, with `address` another address too; the old is forgotten."""

    first: float
    every: float
    address: bool
    _times: int = 0
    _there: dict[tuple[bytes, int], tuple[bytes, int]] = field(default_factory=dict)
    _back: dict[tuple[bytes, int], tuple[bytes, int]] = field(default_factory=dict)

    def __call__(self, packet: Packet, direction: int, now: float) -> Packet | None:
        """The packet with the client's outer address in it; None for one to an address that was forgotten."""
        times = 0 if now < self.first else 1 + int((now - self.first) // self.every)
        if times != self._times:
            self._times = times
            self._there.clear()
            self._back.clear()
        if direction == TO_CLIENT:
            inner = self._back.get(packet.destination)
            if inner is None:
                return None
            packet.destination = inner
            return packet
        inner = packet.source
        outer = self._there.get(inner)
        if outer is None:
            host = int.from_bytes(inner[0], "big") + (times if self.address else 0)
            outer = host.to_bytes(len(inner[0]), "big"), (inner[1] + 7919 * times) % 30000 + 20000
            self._there[inner], self._back[outer] = outer, inner
        packet.source = outer
        return packet


_KINDS: dict[str, Callable[..., Fault]] = {
    "nothing": Nothing,
    "drop_list": DropList,
    "drop": Drop,
    "corrupt": Corrupt,
    "black_hole": BlackHole,
    "nat": Nat,
}


def make(kind: str, arguments: dict[str, Any]) -> Fault:
    """The fault of a kind."""
    return _KINDS[kind](**arguments)
