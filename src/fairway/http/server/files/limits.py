"""What a client, or a file, can make the file server spend."""

from __future__ import annotations

MAX_PATH_BYTES = 4096  # of a decoded request path: Linux's PATH_MAX
MAX_STEPS = 128  # components walked for one path, those of symbolic links included; also the descriptors held meanwhile
MAX_LINKS = 40  # symbolic links followed for one path: Linux's MAXSYMLINKS

MAX_FIELD_BYTES = 4096  # of a request field that is parsed; a longer one is taken for malformed
MAX_NEGOTIATION_BYTES = 512  # of Accept-Encoding and Accept, whose parsed forms are remembered
MAX_RANGES = 16  # of one Range field; with more of them the field is ignored (RFC 9110 section 14.2)

MAX_LISTED = 10_000  # names in a listing; it says when there are more

SMALL_BYTES = 64 * 1024  # a file up to this size is read whole, and kept
CHUNK_BYTES = 256 * 1024  # of a larger file, for each message to the server
MIN_COMPRESSED_BYTES = 1024  # below, a coding saves no packet
MAX_COMPRESSED_WHOLE_BYTES = 1024 * 1024  # up to this a file is compressed whole, and kept; above, while it is sent
COMPRESSING_THREADS = 2  # so that compression never takes the event loop's own threads

MAX_KEPT_BYTES = 32 * 1024 * 1024  # each of the two caches: replies, compressed bodies
MAX_KEPT_ENTRIES = 4096  # of each cache
ENTRY_BYTES = 2048  # what an entry is taken to cost beside its body

RACY_NS = 2_000_000_000  # a file changed so lately may change again without a new timestamp
