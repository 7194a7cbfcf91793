"""Connection scopes: what ASGI's HTTP, WebSocket and TLS specifications say about a request."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from cryptography import x509

from fairway.aio.http3 import Request, ServerConnection
from fairway.http.server.asgi.types import WEB_VERSION, Scope
from fairway.tls import Identity

TLS_1_3 = 0x0304
_COLON = 0x3A
_MAPPED = "::ffff:"

_HTTP_EXTENSIONS = (
    "http.response.trailers",
    "http.response.early_hint",
    "http.response.zerocopysend",
    "http.response.pathsend",
)
_WEBSOCKET_EXTENSIONS = ("websocket.http.response",)


class Surroundings:
    """What the scopes of one connection's requests have in common. `server` is where the server listens."""

    __slots__ = ("_address", "_client", "http_extensions", "server", "websocket_extensions")

    def __init__(
        self, connection: ServerConnection, server: tuple[str, int] | None, identities: Sequence[Identity]
    ) -> None:
        self.server = server
        self._address: Any = None
        self._client: tuple[str, int] | None = None
        tls = _tls(connection, identities)
        self.http_extensions: dict[str, Any] = {"tls": tls, **{name: {} for name in _HTTP_EXTENSIONS}}
        self.websocket_extensions: dict[str, Any] = {"tls": tls, **{name: {} for name in _WEBSOCKET_EXTENSIONS}}

    def client(self, connection: ServerConnection) -> tuple[str, int] | None:
        """The client's address and port as they are now: QUIC connections move."""
        address = connection.peer_address
        if address is not self._address:
            self._address = address
            self._client = (plain_host(address[0]), address[1])
        return self._client


def plain_host(host: str) -> str:
    """An address without the IPv6 form that IPv4 has on a socket for both."""
    return host[len(_MAPPED) :] if host.startswith(_MAPPED) and "." in host else host


EARLY_DATA = "fairway.early_data"
"""The extension that marks a request in 0-RTT, which may be a replay; unsafe ones were answered with 425."""


def make_scope(request: Request, surroundings: Surroundings, root_path: str, state: dict[str, Any] | None) -> Scope:
    """The scope of a request, of type `websocket` for an extended CONNECT to one (RFC 9220)."""
    connection = request.connection
    fields = request.fields
    method = scheme = target = authority = b""
    protocol = None
    at = 0
    for name, value in fields:
        if name[0] != _COLON:
            break
        at += 1
        if name == b":method":
            method = value
        elif name == b":path":
            target = value
        elif name == b":scheme":
            scheme = value
        elif name == b":authority":
            authority = value
        else:
            protocol = value
    raw_path, _, query = target.partition(b"?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": WEB_VERSION,
        "http_version": "3",
        "method": method.decode("ascii"),
        "scheme": scheme.decode("ascii"),
        "path": raw_path.decode("ascii") if raw_path.isascii() and b"%" not in raw_path else _decoded(raw_path),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": root_path,
        "headers": _headers(fields[at:], authority),
        "client": surroundings.client(connection),
        "server": surroundings.server,
        "extensions": surroundings.http_extensions,
    }
    if request.early:
        scope["extensions"] = {**surroundings.http_extensions, EARLY_DATA: {}}
    if state is not None:
        scope["state"] = state.copy()
    if protocol == b"websocket":
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scheme == b"https" else "ws"
        scope["extensions"] = surroundings.websocket_extensions
        scope["subprotocols"] = _subprotocols(fields)
        del scope["method"]
    return scope


def _headers(fields: list[tuple[bytes, bytes]], authority: bytes) -> list[tuple[bytes, bytes]]:
    """The fields, `host` first; crumbs of a cookie made one again (RFC 9114 section 4.2.1)."""
    headers = [(b"host", authority)] if authority else []
    crumbs: list[bytes] = []
    cookie_at = 0
    for field in fields:
        name = field[0]
        if name == b"cookie":
            crumbs.append(field[1])
            if len(crumbs) > 1:
                continue
            cookie_at = len(headers)
        elif name == b"host" and authority:
            continue
        headers.append(field)
    if len(crumbs) > 1:
        headers[cookie_at] = (b"cookie", b"; ".join(crumbs))
    return headers


def _decoded(raw_path: bytes) -> str:
    return unquote_to_bytes(raw_path).decode("utf-8", "replace")


def _subprotocols(fields: list[tuple[bytes, bytes]]) -> list[str]:
    offered = b",".join(value for name, value in fields if name == b"sec-websocket-protocol")
    return [part for part in (part.strip() for part in offered.decode("latin-1").split(",")) if part]


def _tls(connection: ServerConnection, identities: Sequence[Identity]) -> dict[str, Any]:
    """The TLS extension (version 0.2). While a handshake goes on (0-RTT) nobody has proved to be anyone."""
    handshake = connection.handshake
    chain = connection.peer_certificates
    subject = x509.load_der_x509_certificate(chain[0]).subject if chain else None
    return {
        "server_cert": _server_certificate(None if handshake is None else handshake.server_name, identities),
        "client_cert_chain": tuple(ssl.DER_cert_to_PEM_cert(certificate) for certificate in chain),
        "client_cert_name": None if subject is None else subject.rfc4514_string(),
        "client_cert_error": None,
        "tls_version": TLS_1_3,
        "cipher_suite": None if handshake is None else int(handshake.cipher_suite),
    }


def _server_certificate(name: str | None, identities: Sequence[Identity]) -> str | None:
    """The certificate that was shown; None where several for the same name may have been."""
    candidates: Sequence[Identity] = ()
    if name is not None:
        name = name.lower()
        wildcard = "*." + name.partition(".")[2]
        candidates = [i for i in identities if name in i.names] or [i for i in identities if wildcard in i.names]
    shown = candidates or identities[:1]
    return ssl.DER_cert_to_PEM_cert(shown[0].chain[0]) if len(shown) == 1 else None
