"""Every bound against a peer, and every time that the exchange works by. Sizes are bytes, times seconds."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 16_384
"""Body of one message; a longer one is a protocol error before any of it is kept."""

BATCH_BYTES = 8_192
"""About how much of a table, or of changes, we put into one message."""

MAX_PREFIXES = 16_384
"""Announcements held of one peer; further ones are refused and counted."""

MAX_VERSION = 2**32 - 1
"""Of an announcement: a higher one is refused. Nobody moves a pod so often, and a node that follows must find one."""

MAX_CONFLICTS = 100
"""Conflicts that are told at once: the first say enough."""

MAX_TOMBSTONES = 16_384
"""Withdrawals remembered of one peer until no older announcement can come any more; past it, a resync is asked for."""

WITHDRAWALS_KEPT = 4_096
"""Withdrawals of our own that are kept for peers who missed them; who is further behind gets the whole table."""

PROGRESS_EVERY = 256
"""Withdrawals after which the announcements' stream says how far it is, so that the peer may forget them."""

SHORT_TABLES = 3
"""Tables in a row that end before what the peer has told already; with one more it is given up."""

MAX_ENDPOINTS = 8
"""Addresses by which one node says it can be reached."""

MAX_MEMBERS = 8_192
"""Nodes of which we know; further ones that peers tell of are not taken in."""

MAX_HEARSAY = 1_024
HEARSAY_ATTEMPTS = 4
"""Members that were only told of, and never spoken with; each is called so often before it makes room for another."""

BYTES_PER_S = 1_000_000
BYTES_BURST = 4_000_000
WORK_PER_S = 5_000
WORK_BURST = 50_000
"""What is read of one peer, in bytes, and in messages, changes and members told of; a faster one is left unread, and
QUIC's flow control holds it back."""

WALKED_AS_ONE = 4
"""Entries of a table that are gone through at once count as one change."""

RESTART_S = 120.0
"""Graceful restart: how long the routes of a node whose agent is away are kept (RFC 4724 has the idea)."""

VERDICT_S = 0.25
"""How long a peer that fell silent is given for its host to show a sign of life, before its routes go."""

MEMBERS_INTERVAL_S = 30.0
"""How often the list of members goes to one peer, each in its turn."""

NEWS_FANOUT = 64
"""Peers that are told of a new member at once; in a larger network the newcomer's own calls reach the others."""

FORGET_S = 3600.0
"""A member that nobody has spoken with for so long is forgotten."""

DIAL_FIRST_S = 0.1
DIAL_LONGEST_S = 1.5
"""Between two attempts to reach a member: doubled from the first to the longest; a partition is to heal soon."""

DIAL_HEARSAY_S = 30.0
"""The longest for a member of whom only others tell: what they tell may be wrong, or a lie."""

DIAL_MISLED_S = 600.0
"""Until the next attempt to reach a member where somebody else was found."""

DIAL_REFUSED_S = 30.0
"""Until the next attempt to reach a member that has refused us."""

STABLE_S = 10.0
"""A session that lasted so long was a good one: if it is lost, its peer is called at once."""

DIAL_YIELD_S = 0.5
"""The node with the higher name leaves it so long to the other to call."""

HELLO_S = 5.0
"""How long a connection may last without the peer's hello."""

EARLY_BYTES = 65_536
"""Taken from streams that overtake the peer's hello, until that is there."""
