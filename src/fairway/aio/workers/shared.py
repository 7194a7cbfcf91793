"""What the workers of a host have in common, made by their master before it forks them: keys, registers, who runs."""

from __future__ import annotations

import mmap
import os
from dataclasses import replace
from datetime import UTC, datetime

from fairway.aio.workers.strikes import SharedStrikes
from fairway.quic.endpoint.ids import ANY_WORKER
from fairway.quic.limits import MAX_NEW_TOKENS_REMEMBERED
from fairway.tls import SealingKeys, ServerConfig
from fairway.tls.limits import MAX_STRIKES
from fairway.tls.sealing import KEPT, KEY_LENGTH


class Shared:
    """Keys and registers of all workers of all generations, so that any of them takes what any of them gave away."""

    def __init__(self) -> None:
        self.reset_key = os.urandom(32)
        """Of stateless resets: never replaced, as tokens have to outlive who gave them."""
        self._keys = [os.urandom(KEY_LENGTH)]
        self.ticket_strikes = SharedStrikes(MAX_STRIKES, os.urandom(32))
        self.token_strikes = SharedStrikes(MAX_NEW_TOKENS_REMEMBERED, os.urandom(32))
        self._began = datetime.now(UTC)
        self._running = mmap.mmap(-1, ANY_WORKER)

    def renew(self) -> None:
        """A new key for the workers that are forked from now on, who also open what the former ones seal."""
        self._keys = [os.urandom(KEY_LENGTH), *self._keys[:KEPT]]

    @property
    def keys(self) -> SealingKeys:
        """What seals tickets and tokens."""
        return SealingKeys(self._keys)

    def runs(self, number: int) -> bool:
        """Whether that worker runs: only it may then say of a connection of its own that it knows none."""
        return number < ANY_WORKER and self._running[number] == 1

    def note(self, number: int, running: bool) -> None:
        """It runs, or no longer."""
        self._running[number] = int(running)

    def tickets_of(self, tls: ServerConfig) -> ServerConfig:
        """The same server, with tickets that the other workers take too, once each."""
        if tls.tickets is None:
            return tls
        return replace(tls, tickets=tls.tickets.among(self.keys, self.ticket_strikes, self._began))
