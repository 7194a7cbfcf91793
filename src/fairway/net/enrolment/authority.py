"""The network's authority, on the node that began it: who may join as what, who has which block, who is revoked."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from fairway.net.enrolment import files
from fairway.net.enrolment.blocks import Block, free_block
from fairway.net.enrolment.certificate import (
    fingerprint_of,
    issue,
    issue_authority,
    new_key,
    requested_key,
)
from fairway.net.enrolment.ledger import Ledger
from fairway.net.enrolment.membership import Network
from fairway.net.enrolment.messages import Granted, JoinRequest, RenewRequest
from fairway.net.enrolment.revocation import MAX_ENTRIES, RevocationList
from fairway.net.enrolment.token import SECRET_BYTES, Token, proof
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import IPNetwork
from fairway.net.model.names import check_name
from fairway.net.model.permit import Permit, within

TOKEN_LIFETIME = timedelta(hours=1)
MAX_TOKENS = 1_000
REMEMBERED = timedelta(days=800)
"""How long a certificate is known beyond its end: were it forgotten while this host's clock is ahead, then it would be
good again for whoever was revoked, and unknown for whoever renews, once the clock is right."""
MAX_CERTIFICATES = 8
"""Of one node, valid at once: all of them have to fit into the list of the revoked, with those of others."""

_REVOKED, _BARRED = 1, 2
"""Of a certificate; 0 for a good one. A barred one renews no more; others take it, as the list has no place for it."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node that the authority knows."""

    name: str
    blocks: tuple[IPNetwork, ...]
    expires: datetime | None
    """When its newest certificate that is not revoked ends; None if it has none."""


class Authority:
    """The directory `network/authority` in a host's state: a key, a certificate, and a SQLite file.

    Everything is durable before it is told to anybody. Safe against other processes of the host.
    """

    def __init__(self, state: Path) -> None:
        self.directory = state / "network" / "authority"
        self._key_path = self.directory / "key.pem"
        self._certificate_path = self.directory / "certificate.pem"
        self._ledger = Ledger(self.directory)

    @property
    def here(self) -> bool:
        """Whether this host has the authority's key."""
        return self._certificate_path.exists()

    def create(self, node: str, pools: Sequence[Block], now: datetime, port: int) -> Network:
        """A new network whose authority is here, on `node`."""
        if self.here:
            raise UsageError("this host is the authority of a network already", mend="add others to it: fairway token")
        check_name("node", node)
        files.make_directory(self.directory)
        self._ledger.clear()  # what is left of a beginning that was cut off
        network = Network(os.urandom(16), tuple(pool.network for pool in pools), node, port=port)
        key = new_key()
        certificate = issue_authority(key, network.identity, now)
        with self._ledger.transaction() as database:
            database.execute("INSERT INTO network VALUES (?, 0)", (network.as_json(),))
            rows = [(str(pool.network), pool.length) for pool in pools]
            database.executemany("INSERT INTO pools VALUES (?, ?)", rows)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        files.write(self._key_path, pem, files.SECRET)
        files.write(self._certificate_path, certificate.public_bytes(Encoding.PEM), files.PUBLIC)  # from here it counts
        return network

    def close(self) -> None:
        """End the connection to the file."""
        self._ledger.close()

    # Joining

    def token(
        self,
        now: datetime,
        *,
        node: str = "",
        blocks: Sequence[IPNetwork] = (),
        lifetime: timedelta = TOKEN_LIFETIME,
        mobile: bool = True,
    ) -> Token:
        """A token for one host: for `node` and these blocks if any are given; `mobile` lets pods move there."""
        if node:
            check_name("node", node)
        number, secret = os.urandom(8), os.urandom(SECRET_BYTES)
        with self._ledger.transaction() as database:
            self._check_blocks(blocks, node)
            database.execute("DELETE FROM tokens WHERE expires < ?", (_seconds(now - timedelta(days=1)),))
            ((count,),) = database.execute("SELECT count(*) FROM tokens").fetchall()
            if count >= MAX_TOKENS:
                raise FairwayError(f"there are {count} tokens already", mend="wait until some have expired")
            row = (
                number.hex(),
                hashlib.sha256(secret).hexdigest(),
                _seconds(now + lifetime),
                node,
                " ".join(map(str, blocks)),
                int(mobile),
                "",
            )
            database.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return Token(self.fingerprint, number, secret)

    def admit(self, asked: JoinRequest, now: datetime) -> Granted:
        """Let a host join by its token, which is used up by that; only the same key may ask again."""
        key = requested_key(asked.request)
        holder = fingerprint_of(key).hex()
        with self._ledger.transaction() as database:
            row = database.execute(
                "SELECT hash, expires, node, blocks, mobile, used_by FROM tokens WHERE number = ?",
                (asked.number.hex(),),
            ).fetchone()
            if row is None or not hmac.compare_digest(
                proof(bytes.fromhex(row[0]), asked.node, asked.request), asked.proof
            ):
                raise UsageError("the token is not known here", mend="make a new one on the first host: fairway token")
            _, expires, node, blocks, mobile, used_by = row
            if expires < _seconds(now):
                raise UsageError("the token has expired", mend="make a new one on the first host: fairway token")
            if used_by not in ("", holder):
                raise UsageError("the token has been used", mend="make a new one on the first host: fairway token")
            if node and node != asked.node:
                raise UsageError(f"the token is for {node}, not for {asked.node}", mend=f"join with --name {node}")
            self._check_free(asked.node, holder, now)
            # From now on it is for that name only, and goes with it when that is revoked.
            database.execute(
                "UPDATE tokens SET used_by = ?, node = ? WHERE number = ?", (holder, asked.node, asked.number.hex())
            )
            wanted = tuple(ip_network(block) for block in blocks.split())
            return self._grant(asked.node, key, wanted, mobile=bool(mobile), now=now)

    def enrol(self, node: str, request: bytes, now: datetime, blocks: Sequence[IPNetwork] = ()) -> Granted:
        """The authority's own node: it needs no token."""
        with self._ledger.transaction():
            return self._grant(node, requested_key(request), tuple(blocks), mobile=True, now=now)

    def renew(self, permit: Permit, asked: RenewRequest, now: datetime) -> Granted:
        """The next certificate of a node that showed one which says `permit`."""
        with self._ledger.transaction() as database:
            row = database.execute(
                "SELECT node, revoked FROM certificates WHERE serial = ?", (str(permit.serial),)
            ).fetchone()
            if row is None or row != (permit.node, 0):
                raise UsageError("the certificate is revoked, or not of this authority", mend="join anew with a token")
            return self._grant(permit.node, requested_key(asked.request), (), mobile=None, now=now)

    # Revoking

    def revoke(self, node: str, now: datetime) -> RevocationList:
        """Revoke every certificate of `node`; its blocks are free.

        Where the list has no place for them the node is barred: it renews no more, so that it ends with them, and keeps
        name and blocks until then; `FairwayError` says so, and a later call revokes it.
        """
        with self._ledger.transaction() as database:
            if not database.execute("SELECT 1 FROM nodes WHERE name = ?", (node,)).fetchone():
                raise UsageError(f"no node {node!r} has joined", mend="see: fairway peers")
            if node == self.network().authority:
                raise UsageError(f"{node} is the network's authority itself", mend="name another node")
            database.execute("DELETE FROM tokens WHERE node = ?", (node,))
            full = self._would_be_revoked(node, now) > MAX_ENTRIES
            mark = _BARRED if full else _REVOKED
            database.execute("UPDATE certificates SET revoked = ? WHERE node = ?", (mark, node))
            if not full:
                database.execute("DELETE FROM blocks WHERE node = ?", (node,))
                database.execute("DELETE FROM nodes WHERE name = ?", (node,))
                database.execute("UPDATE network SET list = list + 1")
                return self._list(now)
        ends = next((record.expires for record in self.nodes() if record.name == node), None)
        raise FairwayError(
            f"the list of revoked certificates is full: {node} renews no more, but others hear it until {ends}",
            mend="stop its agent, or drop its packets; revoke it again when some of the others have expired",
        )

    @property
    def list_number(self) -> int:
        """The number of the newest list; 0 if nobody was ever revoked."""
        with self._ledger.transaction() as database:
            ((number,),) = database.execute("SELECT list FROM network").fetchall()
            return int(number)

    def revocations(self, now: datetime) -> RevocationList | None:
        """The list as it is now; None if nobody was ever revoked."""
        with self._ledger.transaction() as database:
            ((number,),) = database.execute("SELECT list FROM network").fetchall()
            return self._list(now) if number else None

    # What is known

    @property
    def certificate(self) -> x509.Certificate:
        """The authority's own certificate."""
        return x509.load_pem_x509_certificate(self._certificate_path.read_bytes())

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of it."""
        return hashlib.sha256(self.certificate.public_bytes(Encoding.DER)).digest()

    def network(self) -> Network:
        """The network."""
        with self._ledger.transaction() as database:
            ((description,),) = database.execute("SELECT description FROM network").fetchall()
            return Network.from_json(description)

    def set_endpoints(self, endpoints: Sequence[str]) -> None:
        """Where the authority's node is: those who join later are told."""
        network = self.network()
        moved = Network(network.identity, network.pools, network.authority, tuple(endpoints), network.port)
        with self._ledger.transaction() as database:
            database.execute("UPDATE network SET description = ?", (moved.as_json(),))

    def nodes(self) -> list[NodeRecord]:
        """Every node, by name."""
        with self._ledger.transaction() as database:
            newest = dict(
                database.execute(
                    "SELECT node, max(expires) FROM certificates WHERE revoked != ? GROUP BY node", (_REVOKED,)
                ).fetchall()
            )
            names = [name for (name,) in database.execute("SELECT name FROM nodes ORDER BY name").fetchall()]
            ends = {name: datetime.fromtimestamp(at, UTC) for name, at in newest.items()}
            return [NodeRecord(name, self._blocks_of(name), ends.get(name)) for name in names]

    # Within

    def _grant(
        self,
        node: str,
        key: ec.EllipticCurvePublicKey,
        blocks: tuple[IPNetwork, ...],
        *,
        mobile: bool | None,
        now: datetime,
    ) -> Granted:
        database = self._ledger.database
        row = database.execute("SELECT mobile FROM nodes WHERE name = ?", (node,)).fetchone()
        if row is None:
            database.execute("INSERT INTO nodes VALUES (?, ?)", (node, int(bool(mobile))))
            for block in blocks or self._free_blocks():
                self._check_blocks((block,), node)
                database.execute("INSERT INTO blocks VALUES (?, ?)", (str(block), node))
        may_move = bool(row[0]) if row is not None else bool(mobile)
        network = self.network()
        serial = self._serial(node, fingerprint_of(key).hex(), now)
        permit = Permit(node, self._blocks_of(node), network.pools if may_move else (), serial)
        authority = self.certificate
        own_key = self._key()
        certificate = issue(authority, own_key, permit, key, now)
        database.execute("DELETE FROM certificates WHERE expires < ?", (_seconds(now - REMEMBERED),))
        database.execute(
            "INSERT OR REPLACE INTO certificates VALUES (?, ?, ?, ?, 0)",
            (str(permit.serial), node, fingerprint_of(key).hex(), _seconds(certificate.not_valid_after_utc)),
        )
        ((number,),) = database.execute("SELECT list FROM network").fetchall()
        granted = Granted(
            certificate.public_bytes(Encoding.DER),
            authority.public_bytes(Encoding.DER),
            network.as_json(),
            self._list(now).signed if number else b"",
        )
        return replace(granted, signature=own_key.sign(granted.signed, ec.ECDSA(hashes.SHA256())))

    def _serial(self, node: str, key: str, now: datetime) -> int:
        """The serial number of the node's next certificate: for a key that is asked for again, the same again."""
        rows = self._ledger.database.execute(
            "SELECT serial, key FROM certificates WHERE node = ? AND NOT revoked AND expires >= ?",
            (node, _seconds(now)),
        ).fetchall()
        for serial, holder in rows:
            if holder == key:
                return int(serial)
        if len(rows) >= MAX_CERTIFICATES:
            raise FairwayError(
                f"{node} has {len(rows)} valid certificates", mend=f"revoke them: fairway revoke {node}, and join anew"
            )
        return x509.random_serial_number()

    def _check_free(self, node: str, holder: str, now: datetime) -> None:
        """A name is somebody's while a certificate for it, with another key, is valid; the authority's always is."""
        rows = self._ledger.database.execute(
            "SELECT 1 FROM certificates WHERE node = ? AND revoked != ? AND expires >= ? AND key != ?",
            (node, _REVOKED, _seconds(now), holder),
        )
        if rows.fetchone() or node == self.network().authority:
            raise UsageError(
                f"there is a node {node} already", mend=f"choose another name, or first: fairway revoke {node}"
            )

    def _check_blocks(self, blocks: Sequence[IPNetwork], node: str) -> None:
        pools = self.network().pools
        for block in blocks:
            if not within(block, pools):
                raise UsageError(f"{block} is not in the network's pools: {', '.join(map(str, pools))}")
            for taken, holder in self._ledger.database.execute("SELECT block, node FROM blocks").fetchall():
                other = ip_network(taken)
                if holder != node and other.version == block.version and other.overlaps(block):
                    raise UsageError(f"{block} overlaps {other}, which {holder} has", mend="choose another block")

    def _free_blocks(self) -> list[IPNetwork]:
        """One block of each IP version, out of the first pool that has one."""
        database = self._ledger.database
        taken = [ip_network(block) for (block,) in database.execute("SELECT block FROM blocks").fetchall()]
        pools = database.execute("SELECT network, length FROM pools ORDER BY rowid").fetchall()
        found: dict[int, IPNetwork] = {}
        for text, length in pools:
            pool = Block(ip_network(text), length)
            if pool.network.version not in found and (block := free_block(pool, taken)) is not None:
                found[pool.network.version] = block
        missing = {ip_network(text).version for text, _ in pools} - found.keys()
        if missing:
            raise FairwayError(
                "every block of the network's pools is taken", mend="revoke a node that is gone: fairway revoke NAME"
            )
        return list(found.values())

    def _blocks_of(self, node: str) -> tuple[IPNetwork, ...]:
        rows = self._ledger.database.execute(
            "SELECT block FROM blocks WHERE node = ? ORDER BY rowid", (node,)
        ).fetchall()
        return tuple(ip_network(block) for (block,) in rows)

    def _would_be_revoked(self, node: str, now: datetime) -> int:
        """How many certificates the list would have with those of `node`, which may have been revoked before."""
        ((count,),) = self._ledger.database.execute(
            "SELECT count(*) FROM certificates WHERE expires >= ? AND (node = ? OR revoked = ?)",
            (_seconds(now), node, _REVOKED),
        )
        return int(count)

    def _list(self, now: datetime) -> RevocationList:
        database = self._ledger.database
        ((number,),) = database.execute("SELECT list FROM network").fetchall()
        serials = database.execute(
            "SELECT serial FROM certificates WHERE revoked = ? AND expires >= ?", (_REVOKED, _seconds(now))
        ).fetchall()
        return RevocationList.sign(self.certificate, self._key(), number, [int(serial) for (serial,) in serials], now)

    def _key(self) -> ec.EllipticCurvePrivateKey:
        key = load_pem_private_key(self._key_path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
