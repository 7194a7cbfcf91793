"""What a client remembers of servers for its next visit: session tickets, their parameters, tokens, where it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fairway.quic.limits import MAX_SERVERS_REMEMBERED, MAX_SESSIONS_PER_SERVER, MAX_TOKENS_PER_SERVER
from fairway.quic.transport_parameters import TransportParameters
from fairway.tls import SessionTicket

ServerKey = tuple[str, int, tuple[str, ...]]
"""A server's name, its port, and the application protocols that are asked for."""


@dataclass(frozen=True, slots=True)
class SavedSession:
    """A ticket, and what else the connection that it came from agreed: 0-RTT is bound to it."""

    ticket: SessionTicket
    version: int
    parameters: TransportParameters


class SessionStore(Protocol):
    """Where sessions and tokens are kept. Each is taken once: whoever sees two visits shall not link them."""

    def save_session(self, server: ServerKey, session: SavedSession) -> None:
        """Keep a session; older ones of the server may go."""

    def take_session(self, server: ServerKey) -> SavedSession | None:
        """The latest session of a server, which is forgotten here."""

    def save_token(self, server: ServerKey, token: bytes) -> None:
        """Keep an address token, with the version that it is for."""

    def take_token(self, server: ServerKey) -> bytes | None:
        """The latest address token of a server, which is forgotten here."""

    def save_address(self, server: ServerKey, address: str | None) -> None:
        """Keep where a server was reached; None if it is there no more."""

    def address(self, server: ServerKey) -> str | None:
        """Where a server was reached last."""


class Visits:
    """What is kept of one server."""

    __slots__ = ("address", "sessions", "tokens")

    def __init__(self) -> None:
        self.sessions: list[SavedSession] = []
        self.tokens: list[bytes] = []
        self.address: str | None = None


class MemorySessionStore:
    """A store in memory for so many servers; the one that was saved to least recently goes."""

    def __init__(self, most: int = MAX_SERVERS_REMEMBERED) -> None:
        self._most = most
        self.servers: dict[ServerKey, Visits] = {}
        """What is kept, by server; who was saved to last stands last."""

    def __len__(self) -> int:
        return len(self.servers)

    def save_session(self, server: ServerKey, session: SavedSession) -> None:
        """Keep a session beside the few latest of the server."""
        sessions = self._visits(server).sessions
        sessions.append(session)
        del sessions[:-MAX_SESSIONS_PER_SERVER]

    def take_session(self, server: ServerKey) -> SavedSession | None:
        """The latest session of a server, which is forgotten here."""
        known = self.servers.get(server)
        return known.sessions.pop() if known is not None and known.sessions else None

    def save_token(self, server: ServerKey, token: bytes) -> None:
        """Keep a token beside the few latest of the server."""
        tokens = self._visits(server).tokens
        tokens.append(token)
        del tokens[:-MAX_TOKENS_PER_SERVER]

    def take_token(self, server: ServerKey) -> bytes | None:
        """The latest address token of a server, which is forgotten here."""
        known = self.servers.get(server)
        return known.tokens.pop() if known is not None and known.tokens else None

    def save_address(self, server: ServerKey, address: str | None) -> None:
        """Keep where a server was reached; None if it is there no more."""
        self._visits(server).address = address

    def address(self, server: ServerKey) -> str | None:
        """Where a server was reached last."""
        known = self.servers.get(server)
        return None if known is None else known.address

    def _visits(self, server: ServerKey) -> Visits:
        known = self.servers.pop(server, None) or Visits()
        self.servers[server] = known
        if len(self.servers) > self._most:
            del self.servers[next(iter(self.servers))]
        return known


class KnownServer:
    """The part of a store that is about one server."""

    __slots__ = ("_key", "_store", "sessions_saved")

    def __init__(self, store: SessionStore, key: ServerKey) -> None:
        self._store = store
        self._key = key
        self.sessions_saved = 0
        """How many the server has given since."""

    def save_session(self, session: SavedSession) -> None:
        """Keep a session of this server."""
        self._store.save_session(self._key, session)
        self.sessions_saved += 1

    def take_session(self) -> SavedSession | None:
        """The latest session of this server."""
        return self._store.take_session(self._key)

    def save_token(self, token: bytes, version: int) -> None:
        """Keep an address token that this server gave on a connection of this version."""
        self._store.save_token(self._key, version.to_bytes(4, "big") + token)

    def take_token(self, version: int) -> bytes:
        """The latest address token of this server for this version (RFC 9369 section 5); empty if there is none."""
        while saved := self._store.take_token(self._key):
            if int.from_bytes(saved[:4], "big") == version:
                return saved[4:]
        return b""

    def save_address(self, address: str | None) -> None:
        """Keep where this server was reached."""
        self._store.save_address(self._key, address)

    def address(self) -> str | None:
        """Where this server was reached last."""
        return self._store.address(self._key)
