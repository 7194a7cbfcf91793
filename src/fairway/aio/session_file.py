"""What a client remembers of servers, in a file: the next process resumes where this one left."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from fairway.quic import MemorySessionStore, SavedSession
from fairway.quic.errors import PeerError
from fairway.quic.handshake.sessions import ServerKey, Visits
from fairway.quic.transport_parameters import decode_parameters, encode_parameters
from fairway.tls import CipherSuite, SessionTicket

FORMAT = 1
"""A file of another format is as good as none."""

T = TypeVar("T")


class FileSessionStore:
    """A `SessionStore` that several processes share: each call reads and writes the whole file, under a lock.

    The file holds keys of sessions: only its owner can read it. One that cannot be read counts as empty; what cannot
    be written is not kept, and `failure` says why: a connection never fails for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.failure: OSError | None = None

    def save_session(self, server: ServerKey, session: SavedSession) -> None:
        """Keep a session beside the few latest of the server."""
        self._locked(lambda kept: kept.save_session(server, session))

    def take_session(self, server: ServerKey) -> SavedSession | None:
        """The latest session of a server, which is forgotten here."""
        return self._locked(lambda kept: kept.take_session(server))

    def save_token(self, server: ServerKey, token: bytes) -> None:
        """Keep a token beside the few latest of the server."""
        self._locked(lambda kept: kept.save_token(server, token))

    def take_token(self, server: ServerKey) -> bytes | None:
        """The latest address token of a server, which is forgotten here."""
        return self._locked(lambda kept: kept.take_token(server))

    def save_address(self, server: ServerKey, address: str | None) -> None:
        """Keep where a server was reached; None if it is there no more."""
        self._locked(lambda kept: kept.save_address(server, address))

    def address(self, server: ServerKey) -> str | None:
        """Where a server was reached last."""
        return self._locked(lambda kept: kept.address(server))

    def _locked(self, work: Callable[[MemorySessionStore], T]) -> T:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self.failure = error
            return work(MemorySessionStore())
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self._read()
            kept = _load(before)
            result = work(kept)
            after = _dump(kept)
            if after != before:
                self._write(after)
        finally:
            os.close(lock)
        return result

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self.failure = error
            return b""

    def _write(self, content: bytes) -> None:
        """A reader sees the old file or the new one."""
        new = self._path.with_suffix(".new")
        try:
            new.unlink(missing_ok=True)
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(content)
            new.replace(self._path)
        except OSError as error:
            self.failure = error


# The file


def _load(content: bytes) -> MemorySessionStore:
    kept = MemorySessionStore()
    try:
        document = json.loads(content or b"{}")
        if document.get("format") == FORMAT:
            for entry in document["servers"]:
                visits = Visits()
                visits.address = entry["address"]
                visits.tokens = [bytes.fromhex(token) for token in entry["tokens"]]
                visits.sessions = [_session(described) for described in entry["sessions"]]
                kept.servers[entry["name"], entry["port"], tuple(entry["alpn"])] = visits
    except (ValueError, TypeError, KeyError, AttributeError, PeerError):  # cut off, or by another hand
        return MemorySessionStore()
    return kept


def _dump(kept: MemorySessionStore) -> bytes:
    servers = [
        {
            "name": name,
            "port": port,
            "alpn": alpn,
            "address": visits.address,
            "tokens": [token.hex() for token in visits.tokens],
            "sessions": [_described(session) for session in visits.sessions],
        }
        for (name, port, alpn), visits in kept.servers.items()
    ]
    return json.dumps({"format": FORMAT, "servers": servers}, separators=(",", ":")).encode("ascii")


def _described(session: SavedSession) -> dict[str, Any]:
    ticket = session.ticket
    return {
        "version": session.version,
        "parameters": encode_parameters(session.parameters).hex(),
        "ticket": ticket.ticket.hex(),
        "secret": ticket.secret.hex(),
        "lifetime_s": ticket.lifetime_s,
        "age_add_ms": ticket.age_add_ms,
        "early_data": ticket.early_data,
        "received_at": ticket.received_at.isoformat(),
        "cipher_suite": int(ticket.cipher_suite),
        "alpn": ticket.alpn,
        "server_name": ticket.server_name,
        "peer_certificates": [certificate.hex() for certificate in ticket.peer_certificates],
        "identity": ticket.identity.hex(),
    }


def _session(described: dict[str, Any]) -> SavedSession:
    ticket = SessionTicket(
        ticket=bytes.fromhex(described["ticket"]),
        secret=bytes.fromhex(described["secret"]),
        lifetime_s=int(described["lifetime_s"]),
        age_add_ms=int(described["age_add_ms"]),
        early_data=bool(described["early_data"]),
        received_at=datetime.fromisoformat(described["received_at"]),
        cipher_suite=CipherSuite(described["cipher_suite"]),
        alpn=described["alpn"],
        server_name=described["server_name"],
        peer_certificates=tuple(bytes.fromhex(certificate) for certificate in described["peer_certificates"]),
        identity=bytes.fromhex(described["identity"]),
    )
    parameters = decode_parameters(bytes.fromhex(described["parameters"]), from_client=False)
    return SavedSession(ticket, described["version"], parameters)
