"""Every bound against a peer of HTTP/3, in one place."""

from __future__ import annotations

MAX_FIELD_SECTION = 64 * 1024
"""Bytes of a field section as RFC 9114 section 4.2.2 counts them (names, values and 32 a line); said in SETTINGS."""

MAX_ENCODED_FIELDS = 64 * 1024
"""Payload of a HEADERS frame."""

MAX_FIELD_LINES = 512
"""Field lines of one section: bounds what a few bytes can refer to in the dynamic table before it is decoded."""

UNSCANNED_FIELDS = 256
"""Encoded bytes below which the lines are not counted: so few cannot become more than a megabyte."""

QPACK_TABLE_CAPACITY = 4096
"""Bytes of our decoder's dynamic table; said in SETTINGS."""

QPACK_BLOCKED_STREAMS = 16
"""Streams that may wait for the peer's encoder stream; said in SETTINGS."""

QPACK_ENCODER_CAPACITY_CAP = 64 * 1024
"""Bytes of the largest dynamic table that our encoder uses; from a peer that offers more it uses none at all.

Using a part is no choice: what the peer offers is part of how references are encoded (RFC 9204 section 4.5.1.1).
"""

MAX_UNDECODED_FIELDS = 512 * 1024
"""Encoded field sections, over all streams, that are not complete or wait for the QPACK encoder stream."""

ABANDONED_FREE = 500
"""Requests that the client may give up before they are answered; beyond, half of all its requests may end so."""

MAX_SETTINGS_BYTES = 4096
MAX_SETTINGS = 64
"""Identifiers in one SETTINGS frame."""

MAX_CONTROL_PAYLOAD = 4096
"""Payload of a known frame on the control stream but SETTINGS."""

MAX_IDLE_FRAMES = 1000
"""Frames in a row on one stream that bring nothing: unknown ones and empty DATA."""

CONTROL_FRAMES_FREE = 200
CONTROL_FRAMES_PER_REQUEST = 10
"""Frames on the control stream: so many at once, and so many more for each request."""

MAX_EARLY_PRIORITIES = 100
"""PRIORITY_UPDATE frames kept for streams that have not begun."""

MAX_INTERIM_RESPONSES = 100
"""1xx responses before the final one."""

BUFFER_READ = 4096
"""Bytes read from a stream at a time while its field section is awaited."""

MAX_CAPSULE = 16 * 1024
"""Bytes of a capsule of a known type; others, and datagrams that are larger, are passed over."""

MAX_SESSIONS = 16
"""WebTransport sessions at once on a server's connection, asked for or granted; said in SETTINGS."""

SESSION_STREAMS = 128
"""Streams of each kind that the peer may have open in a WebTransport session; said in SETTINGS."""

SESSION_DATA = 16 << 20
"""Bytes on the streams of a WebTransport session that are sent and not read; said in SETTINGS."""

MAX_COUNTED_SESSIONS = 2 * MAX_SESSIONS
"""WebTransport sessions whose streams are counted, those included that were not asked for yet."""

MAX_WAITING_TUNNEL_STREAMS = 32
"""Streams of WebTransport sessions that arrived before their session."""

MAX_WAITING_DATAGRAMS = 64
"""Datagrams of WebTransport sessions that were asked for and are not granted yet; the oldest goes first."""

MAX_UNACCEPTED_STREAMS = 256
"""Streams of a WebTransport session that the application did not accept; the other bound is QUIC's."""

CAPSULES_READ = 16 * 1024
"""Bytes of capsules that are looked at together."""

REQUEST_TIMEOUT_S = 30.0
"""How long a client may take from opening a stream until the request's fields are there, or the stream's session is."""
