"""Every bound against a peer's handshake messages. Sizes are of a message's body, without its four bytes of header."""

from __future__ import annotations

MAX_CLIENT_HELLO_BYTES = 16_384
"""A browser's, with a hybrid key share and an encrypted client hello, has about 2,000."""

MAX_SERVER_HELLO_BYTES = 8_192
"""A hybrid key share has about 1,200; a HelloRetryRequest's cookie is what else may be long."""

MAX_ENCRYPTED_EXTENSIONS_BYTES = 8_192
"""Transport parameters and the application protocol have a few hundred."""

MAX_CERTIFICATE_REQUEST_BYTES = 32_768
"""Names of certificate authorities are what makes it long."""

MAX_CERTIFICATE_MESSAGE_BYTES = 65_536
"""The certificates of a whole chain with their extensions."""

MAX_CERTIFICATE_VERIFY_BYTES = 2_048
"""An RSA signature of `MAX_RSA_BITS` has half of it."""

MAX_FINISHED_BYTES = 64
"""The longest hash of a suite in use has 48."""

MAX_NEW_SESSION_TICKET_BYTES = 16_384
"""A ticket that holds a client's certificate chain may have several thousand."""

MAX_CERTIFICATE_BYTES = 16_384
"""One certificate of a chain."""

MAX_CHAIN_CERTIFICATES = 12
"""Certificates in one Certificate message."""

MAX_CHAIN_DEPTH = 10
"""Certificate authorities between a leaf and the trust anchor, neither counted."""

MAX_VERDICTS = 64
"""Chains found good that one `Trust` remembers; the oldest go."""

MAX_REMEMBERED_CHAIN_BYTES = 16_384
"""Longer chains are judged every time."""

VERDICT_LIFETIME_S = 600
"""How long a chain's verdict is remembered; the validity of its certificates is looked at every time."""

MAX_RSA_BITS = 8_192
"""Longer keys cost more to verify than an honest peer would ask for."""

MAX_EXTENSIONS = 128
"""Extensions in one message; browsers send about 20."""

MAX_SESSION_TICKETS = 16
"""NewSessionTicket messages that a client hands on in one connection; further ones are dropped."""

MAX_TICKET_LIFETIME_S = 604_800
"""RFC 8446 section 4.6.1: seven days."""

MAX_TICKETS_TRIED = 4
"""Tickets of one ClientHello that a server looks at."""

MAX_TICKET_CERTIFICATE_BYTES = 4_096
"""A client's certificates that go into its ticket; with longer ones it gets none, as each return would carry them."""

EARLY_DATA_WINDOW_MS = 10_000
"""How far a ticket's age may differ by the clocks of client and server if early data is to be taken."""

MAX_STRIKES = 100_000
"""Uses that one generation of a strike register remembers, some 10 MB."""
