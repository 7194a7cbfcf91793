"""0-RTT packets that overtook their connection's Initial packet (RFC 9001 section 5.7): a few are kept, briefly."""

from __future__ import annotations

from fairway.quic.limits import MAX_EARLY_BYTES_KEPT, MAX_EARLY_PACKETS_KEPT
from fairway.quic.paths.path import Address

LIFETIME_S = 0.5


class EarlyPackets:
    """Buffers of datagrams that begin with a 0-RTT packet, by the connection ID that they are for; the oldest go."""

    __slots__ = ("_bytes", "_kept")

    def __init__(self) -> None:
        self._kept: list[tuple[float, bytes, Address, bytes, int]] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, destination: bytes, address: Address, buffer: bytes, segment: int, now: float) -> None:
        """Keep datagrams of `segment` bytes each."""
        self._kept.append((now, destination, address, buffer, segment))
        self._bytes += len(buffer)
        while self._kept and (
            len(self._kept) > MAX_EARLY_PACKETS_KEPT
            or self._bytes > MAX_EARLY_BYTES_KEPT
            or now - self._kept[0][0] > LIFETIME_S
        ):
            self._bytes -= len(self._kept.pop(0)[3])

    def take(self, destination: bytes, address: Address, now: float) -> list[tuple[bytes, int]]:
        """The buffers for a connection that has begun from `address`; they are forgotten here."""
        if not self._kept:
            return []
        found = [entry for entry in self._kept if entry[1] == destination]
        if not found:
            return []
        self._kept = [entry for entry in self._kept if entry[1] != destination]
        self._bytes = sum(len(entry[3]) for entry in self._kept)
        return [kept[3:] for kept in found if kept[2] == address and now - kept[0] <= LIFETIME_S]
