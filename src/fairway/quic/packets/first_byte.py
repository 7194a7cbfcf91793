"""The bits of a packet's first byte that tell its receiver nothing: the fixed bit (RFC 9287) and the spin bit.

The fixed bit is sent as chance will have it to whoever says that it may be, so that nobody on the way learns to rely on
it. The spin bit (RFC 9000 section 17.4) shows a path's round trip to whoever looks on: the client inverts it, the
server reflects it, so that it changes once a round trip.
"""

from __future__ import annotations

from collections.abc import Callable

from fairway.quic.packets.headers import FIXED_BIT, SPIN_BIT

Random = Callable[[int], bytes]

_BATCHES = 64  # bits that are drawn at once


class SpinBit:
    """The spin bit of one path: what we send on it."""

    __slots__ = ("_inverts", "_largest", "spins", "value")

    def __init__(self, *, is_client: bool, spins: bool, value: int = 0) -> None:
        self.spins = spins
        """Whether it means anything; else it has one value, chosen for the path by chance."""
        self.value = value
        self._inverts = is_client
        self._largest = -1

    @classmethod
    def choose(cls, random: Random, *, is_client: bool, enabled: bool) -> SpinBit:
        """For a new path: on one of sixteen it does not spin even where it is enabled, so that this tells nothing."""
        chance = random(1)[0]
        spins = enabled and chance >= 256 // 16
        return cls(is_client=is_client, spins=spins, value=0 if spins or not chance & 1 else SPIN_BIT)

    def heard(self, number: int, first: int) -> None:
        """A genuine packet of the peer came on the path, with this first byte."""
        if number > self._largest:
            self._largest = number
            self.value = (first ^ SPIN_BIT if self._inverts else first) & SPIN_BIT

    def restart(self) -> None:
        """Packets on the path carry another connection ID from now on: nothing is to link them to those before."""
        if self.spins:
            self.value = 0


class FixedBit:
    """The fixed bit of one connection's packets: set, until the peer says that it need not be."""

    __slots__ = ("_bits", "_left", "_random", "greased")

    def __init__(self, random: Random) -> None:
        self.greased = False
        self._random = random
        self._bits = self._left = 0

    def next(self) -> int:
        """The bit for the next packet or batch of packets."""
        if not self.greased:
            return FIXED_BIT
        if not self._left:
            self._bits, self._left = int.from_bytes(self._random(_BATCHES // 8), "big"), _BATCHES
        bit = self._bits & 1
        self._bits >>= 1
        self._left -= 1
        return bit * FIXED_BIT
