"""Every bound against a client of an application, in one place. Sizes are bytes, times seconds."""

from __future__ import annotations

from dataclasses import dataclass

READ = 64 * 1024
"""Body bytes in one `http.request` message at most."""

WRITE = 256 * 1024
"""Body bytes that a client has `write_timeout_s` to make room for."""

BODY_GRACE_S = 30.0
"""How long an application waits for a body, all waiting together, before `min_body_rate` counts."""

WEBSOCKET_QUEUE = 16
"""Messages that a WebSocket reads ahead of the application, so that pings and the end are noticed."""

WEBSOCKET_QUEUE_BYTES = 1 << 20
"""The same in bytes; one message may go over it."""

WEBSOCKET_CLOSE_S = 5.0
"""How long a client may take to answer a close frame."""

WEBSOCKET_FEED = 4096
"""Compressed bytes inflated at once: they become four megabytes at most before the size is looked at."""

SWEEP_S = 0.5
"""How often deadlines are looked at."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may cost. None is no limit."""

    max_body: int | None = None
    """Bytes of a request's body; more is answered 413."""
    max_requests: int | None = None
    """Requests (over HTTP/3 WebSockets too) at once in one process, by HTTP/3 and over TCP each; more get 503."""
    request_timeout_s: float | None = 30.0
    """How long a client may take until a request's fields are there; counted coarsely, to twice as long.

    Over TCP it is for the handshake of TLS, and `idle_timeout_s` for the fields."""
    read_timeout_s: float | None = 60.0
    """How long an application waits for the next bytes of a body."""
    min_body_rate: int | None = 240
    """Bytes a second that a body must bring on the average, while it is waited for."""
    write_timeout_s: float | None = 60.0
    """How long a client may take for 256 KiB of an answer that an application writes, or of those that it wrote."""
    idle_timeout_s: float | None = 60.0
    """How long a connection may stay without a request."""
    max_message: int = 16 * 1024 * 1024
    """Bytes of a WebSocket message; more closes it with 1009."""
    websocket_ping_s: float | None = 20.0
    """How often a WebSocket that is silent is pinged; two pings without a sign of life end it."""
