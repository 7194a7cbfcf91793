"""Connection IDs that say where they lead: the plaintext format of QUIC-LB (draft-ietf-quic-load-balancers).

    first octet         server ID       nonce
    +-----+-----------+---------------+-----------------+------------------------+
    | 3   | 5 bits    | 0 to 9 octets | worker, 2       | random, 8              |
    +-----+-----------+---------------+-----------------+------------------------+
      |     length of what follows
      which of the balancer's configurations

A balancer reads the server ID and takes the rest for a nonce. On the host whoever steers reads the worker. Everybody on
the path can read both: two IDs of one connection are as alike as those of any two connections of one worker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fairway.quic.connection_ids import LOCAL_LENGTH
from fairway.quic.errors import UsageError

MAX_SERVER_ID = 9
ROTATIONS = 7
"""Configurations that the three bits can name; the eighth value is for IDs that no balancer can read."""

WORKER_LENGTH = 2
ANY_WORKER = 0xFFFF
"""In the ID of a Retry: whichever worker accepts newcomers when the client comes back."""


@dataclass(frozen=True, slots=True)
class ServerId:
    """Who a server is to a balancer: its bytes, and which of the balancer's configurations (0 to 6) they belong to."""

    value: bytes = b""
    rotation: int = 0

    def __post_init__(self) -> None:
        if len(self.value) > MAX_SERVER_ID:
            raise UsageError(f"a server ID has at most {MAX_SERVER_ID} bytes, not {len(self.value)}")
        if not 0 <= self.rotation < ROTATIONS:
            raise UsageError(f"the configuration of a server ID is 0 to {ROTATIONS - 1}, not {self.rotation}")

    @property
    def prefix(self) -> bytes:
        """What all IDs of this server begin with."""
        following = len(self.value) + WORKER_LENGTH + LOCAL_LENGTH
        return bytes((self.rotation << 5 | following,)) + self.value

    @property
    def id_length(self) -> int:
        """Bytes of a whole connection ID."""
        return 1 + len(self.value) + WORKER_LENGTH + LOCAL_LENGTH


class Ids:
    """Makes an endpoint's connection IDs: random ones, or those of worker number `worker` of `server`."""

    def __init__(self, server: ServerId | None = None, worker: int = 0) -> None:
        self.worker = worker
        self._common = b"" if server is None else server.prefix
        self._own = b"" if server is None else server.prefix + worker.to_bytes(WORKER_LENGTH, "big")
        self._anyone = b"" if server is None else server.prefix + ANY_WORKER.to_bytes(WORKER_LENGTH, "big")
        self.length = LOCAL_LENGTH if server is None else server.id_length
        """Of every ID."""

    def make(self, random: Callable[[int], bytes]) -> bytes:
        """An ID that leads here; 64 bits of it are random."""
        return self._own + random(LOCAL_LENGTH)

    def for_anyone(self, random: Callable[[int], bytes]) -> bytes:
        """An ID that leads to whichever worker of this server accepts newcomers."""
        return self._anyone + random(LOCAL_LENGTH)

    def other(self, connection_id: bytes) -> int | None:
        """The number of the worker that an ID leads to, if that is another one of this server."""
        start = len(self._common)
        if not start or len(connection_id) != self.length or not connection_id.startswith(self._common):
            return None
        worker = int.from_bytes(connection_id[start : start + WORKER_LENGTH], "big")
        return None if worker in (self.worker, ANY_WORKER) else worker
