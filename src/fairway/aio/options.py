"""What `connect` and `serve` take by keyword, of QUIC and of HTTP/3: said here, once.

Every one may be left out but those that are required; the values that hold then are in `client` and `server`.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypedDict

from fairway.aio.happy_eyeballs import Resolve
from fairway.aio.workers.group import Place
from fairway.quic import QuicConfiguration, SessionStore
from fairway.quic.endpoint import AdmissionLimits, ServerId
from fairway.tls import ClientConfig, Identity, SealingKeys, ServerConfig


class ConnectOptions(TypedDict, total=False):
    """A client's."""

    server_name: str | None
    """Whose certificate is expected, and the name that the server is told; the host if it is not given."""
    verify: bool
    """False takes any certificate."""
    ca: Any
    """A PEM file, or certificates, to trust instead of the system's."""
    identity: Identity | None
    """The client's own certificate."""
    configuration: QuicConfiguration | None
    timeout: float
    """Seconds until the handshake is given up; 10 by default."""
    keylog: str | Path | None
    """A file for the secrets; $SSLKEYLOGFILE by default."""
    qlog: str | Path | None
    """A directory for a log of the connection; $QLOGDIR by default: docs/qlog.md."""
    local_address: tuple[str, int] | None
    tls: ClientConfig | None
    """Instead of what is said of TLS here."""
    resolve: Resolve
    """What finds the host's addresses."""
    session_store: SessionStore | None
    """Where to keep what the server gives for the next visit, and to look for it."""
    early_data: bool
    """Begin at once where the server took early data before: see `Dialer`."""


class _Required(TypedDict):
    """Beside `ServeOptions`, as Python 3.11 does not see `Required` in annotations that are not evaluated."""

    identities: Sequence[Identity]
    """Certificates and their keys, chosen by the name that the client asks for; the first for any other."""


class ServeOptions(_Required, total=False):
    """A server's."""

    client_ca: Any
    """A PEM file, or certificates, that clients' certificates are judged by; None asks for none."""
    require_client_certificate: bool
    configuration: QuicConfiguration | None
    keylog: str | Path | None
    """A file for the secrets; $SSLKEYLOGFILE by default."""
    qlog: str | Path | None
    """A directory for a log of each connection; $QLOGDIR by default: docs/qlog.md."""
    grace_s: float
    """Seconds that handlers have to finish when the block is left; 10 by default."""
    tls: ServerConfig | None
    """Instead of what is said of TLS here."""
    sock: socket.socket | None
    """A bound UDP socket to use instead of `host` and `port`; the server closes it."""
    retry: bool
    """Have clients prove their address before anything is kept of them; else only while many handshakes are pending."""
    token_keys: SealingKeys | None
    """Shared by processes that answer for the same address."""
    preferred_address: tuple[str, int] | None
    """Where the server would rather be reached: clients go there after the handshake (RFC 9000 section 9.6)."""
    early_data: bool
    """Let returning clients send before the handshake is complete: a server that answers streams marked `early` at once
    must not mind replays."""
    limits: AdmissionLimits | None
    """How many connections are let in."""
    server_id: ServerId | None
    """Who the server is to a balancer that reads connection IDs: docs/workers.md."""
    place: Place | None
    """Where one of several workers stands."""
    reset_key: bytes | None
    """A secret. With the same one after a restart, clients learn at once that their connections are gone (section
    10.3); servers that run beside each other on one port must not share it."""


def check_options(kind: type[Any], options: Mapping[str, object]) -> None:
    """`TypeError`, as of any call, for an option that `kind` has not, or lacks: misspelled ones must not pass."""
    known, required = kind.__required_keys__ | kind.__optional_keys__, kind.__required_keys__
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise TypeError(f"no option is called {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))
    for name in required:
        if name not in options:
            raise TypeError(f"the option {name!r} is missing")
