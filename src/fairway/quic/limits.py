"""Every bound against a peer, in one place.

A peer decides how many of these things arrive; these numbers decide how many are kept.
"""

from __future__ import annotations

# Bytes and packets

MIN_INITIAL_DATAGRAM = 1200
"""UDP payload that a datagram with an Initial packet must fill (RFC 9000 section 14.1)."""

ANTI_AMPLIFICATION_FACTOR = 3
"""Bytes sent per byte received on an unvalidated path (RFC 9000 section 8.1)."""

MAX_CRYPTO_BUFFER = 64 * 1024
"""Bytes of out-of-order CRYPTO data kept per level (RFC 9000 section 7.5 asks for at least 4096)."""

MAX_HANDSHAKE_BYTES = 256 * 1024
"""Bytes of CRYPTO data accepted per level before the handshake is complete: bounds certificate chains."""

MAX_POST_HANDSHAKE_CRYPTO = 1024 * 1024
"""Bytes of CRYPTO data accepted after the handshake: session tickets, of which peers send a few."""

MAX_STASHED_PACKETS = 10
"""Packets kept while the keys that open them are missing (RFC 9000 section 5.7)."""

MAX_STASHED_BYTES = 32 * 1024
"""Their bytes: nobody has proved anything yet when they arrive."""

MAX_CRYPTO_FRAGMENTS = 256
"""Separate pieces of out-of-order CRYPTO data per level; browsers split a ClientHello into some dozens."""

MAX_TOKEN_BYTES = 512
"""A token of Retry or NEW_TOKEN that is kept: it has to fit into an Initial packet beside a ClientHello."""

MAX_ACK_RANGES = 64
"""Ranges of received packet numbers that are remembered and reported (RFC 9000 section 13.2.3)."""

MAX_ACK_RANGES_SENT = 32
"""Ranges in one ACK frame: fits the smallest datagram beside other frames."""

# Streams

MAX_STREAM_FRAGMENTS = 1000
"""Separate pieces of out-of-order data per stream that are kept whatever their size."""

FRAGMENT_BYTES = 512
"""Past MAX_STREAM_FRAGMENTS, one more piece per this many buffered bytes: large pieces are not an attack.

Smaller pieces that touch are put together: each costs more than what it holds.
"""

MAX_FRAGMENTS = 8 * MAX_STREAM_FRAGMENTS
"""The same over all streams of a connection, with the same allowance for large pieces."""

MAX_BYTES_KEPT = 64 << 20
"""Bytes of all streams of a connection that were sent and are kept until they and all before them are acknowledged.

An honest receiver's window bounds them far below: who raises its limits and never acknowledges one early byte is not.
"""

MAX_STREAMS_CAP = 1 << 60
"""The greatest stream count that any frame or parameter may carry (RFC 9000 section 4.6)."""

MAX_RESETS_PER_SECOND = 1000
"""Streams that a peer may reset in a second: the answer to opening and resetting without end."""

# Datagrams (RFC 9221)

MAX_DATAGRAMS_KEPT = 1024
"""Datagrams that arrived and that nobody has fetched, and likewise those that wait to be sent."""

MAX_DATAGRAM_BYTES_KEPT = 1 << 20
"""Their bytes; it holds a dozen of the largest."""

# Connection IDs and paths

MAX_CONNECTION_ID_LENGTH = 20
"""Version 1 and 2 (RFC 9000 section 17.2)."""

ACTIVE_CONNECTION_ID_LIMIT = 8
"""Connection IDs of the peer that we keep."""

MAX_PENDING_RETIREMENTS = 3 * ACTIVE_CONNECTION_ID_LIMIT
"""RETIRE_CONNECTION_ID frames waiting to be acknowledged before the peer's churn closes the connection."""

MAX_PATH_CHALLENGES = 4
"""PATH_CHALLENGE data waiting to be answered per path; the oldest is dropped."""

MAX_PATHS = 4
"""Ways to the peer that are kept with state; the oldest that is not in use gives way."""

MAX_CHALLENGES_SENT = 4
"""PATH_CHALLENGE frames of one validation."""

# Control frames

MAX_REASON_BYTES = 1024
"""Reason phrase of CONNECTION_CLOSE kept from a peer."""

# Handshakes

MAX_PENDING_HANDSHAKES = 1000
"""Connections of one endpoint from proved addresses that have not completed their handshake."""

MAX_PENDING_PER_ADDRESS = 250
"""Those of one address (IPv6: of one /64)."""

MAX_CONNECTIONS = 100_000
"""Connections of one endpoint."""

MAX_CONNECTIONS_PER_ADDRESS = 10_000
"""Those of one address (IPv6: of one /64), behind which there may be many clients."""

MAX_DRAINING_IDS = 20_000
"""IDs of connections that drain: what comes for the ones before is taken for a stranger's."""

VERSION_NEGOTIATION_PER_SECOND = 100
"""Version Negotiation packets, and closes of handshakes that do not begin, sent per second by one endpoint."""

RETRY_FROM_PENDING = 300
"""Pending handshakes of unproved addresses from which on newcomers have to prove theirs, until half are left."""

RETRY_FROM_PENDING_OF_ADDRESS = 100
"""Those that seem to be of one address, from which on newcomers from there have to prove it."""

RETRY_TOKEN_LIFETIME_S = 10.0
"""How long a client may take to follow a Retry."""

NEW_TOKEN_LIFETIME_S = 86_400.0
"""How long a token of NEW_TOKEN is good."""

MAX_NEW_TOKENS_REMEMBERED = 50_000
"""Tokens of NEW_TOKEN that were used, remembered for a lifetime so that each is good once; past it none is."""

# 0-RTT packets that overtook their Initial packet

MAX_EARLY_PACKETS_KEPT = 32
"""Buffers of datagrams that one endpoint keeps for half a second, of all strangers together."""

MAX_EARLY_BYTES_KEPT = 128 * 1024
"""Their bytes."""

# What a client remembers

MAX_SERVERS_REMEMBERED = 256
"""Servers of which a store in memory keeps sessions and tokens."""

MAX_SESSIONS_PER_SERVER = 4
"""Sessions kept of one server."""

MAX_TOKENS_PER_SERVER = 4
"""Address tokens kept of one server."""

STATELESS_RESETS_PER_SECOND = 100
"""Stateless resets sent per second by one endpoint."""

# Events

MAX_NEW_TOKENS = 4
"""Tokens of NEW_TOKEN frames per connection handed to the application."""

MAX_TICKETS_KEPT = 4
"""Session tickets per connection handed to the application."""
