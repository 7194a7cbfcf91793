"""What the state file's tables are, and how a file of an earlier version becomes one of this."""

from __future__ import annotations

import sqlite3
from ipaddress import ip_address, ip_network

from fairway.net.model.names import host_interface

VERSION = 6

_FIRST = """
CREATE TABLE pods (name TEXT PRIMARY KEY, mtu INTEGER NOT NULL, state TEXT NOT NULL) STRICT;
CREATE TABLE addresses (address TEXT PRIMARY KEY, pod TEXT NOT NULL REFERENCES pods, position INTEGER NOT NULL) STRICT;
CREATE INDEX addresses_of_pod ON addresses (pod, position);
CREATE TABLE pools (network TEXT PRIMARY KEY, last INTEGER NOT NULL, position INTEGER NOT NULL) STRICT;
CREATE TABLE ground (times_removed INTEGER NOT NULL) STRICT;
INSERT INTO ground VALUES (0);
CREATE TABLE routes (destination TEXT PRIMARY KEY, gateway TEXT NOT NULL) STRICT;
"""

_SECOND = """
ALTER TABLE pods ADD COLUMN link TEXT NOT NULL DEFAULT '';
ALTER TABLE pods ADD COLUMN interface TEXT NOT NULL DEFAULT 'eth0';
ALTER TABLE pods ADD COLUMN mac TEXT NOT NULL DEFAULT '';
ALTER TABLE pods ADD COLUMN default_route INTEGER NOT NULL DEFAULT 1;
UPDATE pods SET link = host_interface(name);
CREATE UNIQUE INDEX pods_by_link ON pods (link);
ALTER TABLE pools ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE pools ADD COLUMN whole TEXT NOT NULL DEFAULT '';
ALTER TABLE pools ADD COLUMN kubernetes_namespaces TEXT NOT NULL DEFAULT '';
ALTER TABLE pools ADD COLUMN networks TEXT NOT NULL DEFAULT '';
ALTER TABLE pools ADD COLUMN cooldown_s INTEGER NOT NULL DEFAULT 60;
ALTER TABLE pools ADD COLUMN taken INTEGER NOT NULL DEFAULT 0;
ALTER TABLE addresses ADD COLUMN pool TEXT NOT NULL DEFAULT '';
ALTER TABLE addresses ADD COLUMN sticky TEXT NOT NULL DEFAULT '';
UPDATE addresses SET pool = coalesce((SELECT network FROM pools WHERE contains(network, address)), '');
UPDATE pools SET last = -1, taken = (SELECT count(*) FROM addresses WHERE pool = network);
CREATE TABLE resting (
    address TEXT PRIMARY KEY, pool TEXT NOT NULL, since REAL NOT NULL, sticky TEXT NOT NULL, kept INTEGER NOT NULL
) STRICT;
CREATE INDEX resting_by_age ON resting (pool, kept, since);
CREATE INDEX resting_by_key ON resting (sticky, since) WHERE sticky <> '';
CREATE INDEX resting_kept ON resting (since) WHERE kept;
CREATE TABLE attachments (
    pod TEXT PRIMARY KEY REFERENCES pods,
    container TEXT NOT NULL,
    network TEXT NOT NULL,
    path TEXT NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    boot TEXT NOT NULL,
    kubernetes_namespace TEXT NOT NULL,
    kubernetes_pod TEXT NOT NULL,
    labels TEXT NOT NULL,
    annotations TEXT NOT NULL,
    config TEXT NOT NULL,
    result TEXT NOT NULL
) STRICT;
"""

_THIRD = """
ALTER TABLE pools ADD COLUMN masquerade INTEGER NOT NULL DEFAULT 0;
CREATE TABLE policy_documents (
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) STRICT;
CREATE TABLE learned (destination TEXT PRIMARY KEY, gateway TEXT NOT NULL, node TEXT NOT NULL) STRICT;
"""

_FOURTH = """
ALTER TABLE pods ADD COLUMN seal INTEGER NOT NULL DEFAULT 0;
"""

_FIFTH = """
CREATE TABLE versions (prefix TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT;
"""

_SIXTH = """
ALTER TABLE learned ADD COLUMN tunnelled INTEGER NOT NULL DEFAULT 0;
CREATE TABLE tunnel (node TEXT NOT NULL, mtu INTEGER NOT NULL, port INTEGER NOT NULL) STRICT;
"""

_STEPS = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH)


def bring_up_to_date(database: sqlite3.Connection, version: int) -> None:
    """Make a file of `version`, 0 for an empty one, into one of VERSION: all of it or none."""
    database.create_function("host_interface", 1, host_interface, deterministic=True)
    database.create_function("contains", 2, _contains, deterministic=True)
    database.execute("BEGIN IMMEDIATE")
    try:
        for step in _STEPS[version:]:
            for statement in step.split(";"):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {VERSION}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _contains(network: str, address: str) -> bool:
    return ip_address(address) in ip_network(network)
