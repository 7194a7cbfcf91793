"""What the client bounds: what servers can make it keep, and how often it tries again."""

from __future__ import annotations

RETRIES = 2
"""Times that a request is sent again after the server has certainly not processed it."""

MAX_CONNECTIONS = 100
"""Connections of a pool."""

IDLE_EXPIRY_S = 60.0
"""How long a connection without requests is kept."""

PIECE = 256 * 1024
"""Bytes of a request's body that go to a stream at a time; the write timeout is for one such piece."""

MAX_ALTERNATIVES = 1000
"""Origins whose alternative services are remembered; the one that was not used for longest goes first."""

MAX_ALT_SVC_BYTES = 4096
"""Bytes of an Alt-Svc field that are looked at."""

DEFAULT_MAX_AGE_S = 24 * 3600
"""How long an alternative is fresh that does not say (RFC 7838 section 3.1)."""

MAX_AGE_CAP_S = 30 * 24 * 3600

BROKEN_S = 300.0
"""How long an alternative is left alone after it failed; twice as long each further time."""

BROKEN_CAP_S = 48 * 3600.0

HEAD_START_S = 0.3
"""How long HTTP/3 is tried before the request goes over TCP; the handshake goes on for later requests."""
