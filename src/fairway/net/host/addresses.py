"""Addresses in the state file: who has which, which of them rest, how many of each pool are taken.

Nothing is searched for: a pool is given out from its first address to its last, up to the mark `last`; what is freed
rests in a queue, by age. So an address up to the mark is taken or in the queue, and one behind it is neither, unless
somebody asked for it by itself. What is kept for a sticky key rests apart, and goes to others when nothing else is
left, or after a day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from fairway.net.host.state_file import StateFile
from fairway.net.ipam import ahead, capacity
from fairway.net.model.errors import ExhaustedError, UsageError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.pool import Pool, PoolUse

_KEPT_S = 86_400.0
_FRESH_FIRST = 1 << 16
"""Up to this offset, what was never given is given before what has rested; behind it the queue would grow for ever."""

_LARGEST = 2**62  # what SQLite's integers hold of an IPv6 pool's offsets


class Addresses:
    """The addresses and pools of one state file; `now` tells the time in seconds since 1970."""

    def __init__(self, file: StateFile, now: Callable[[], float]) -> None:
        self._file = file
        self._now = now

    def holder(self, address: IPAddress) -> str:
        """The pod that has `address`; empty if it is free."""
        for (name,) in self._file.rows("SELECT pod FROM addresses WHERE address = ?", str(address)):
            return str(name)
        return ""

    def choose(self, pools: Sequence[Pool], sticky: str = "") -> IPAddress:
        """An address of one of `pools` that nobody has.

        The one kept for the key; or one that was never given, or has rested as long as its pool wants; or, when no
        pool has such a one, the one that has rested longest: a pod that can be had is worth more than the rest.
        """
        blocks = {str(pool.block): pool for pool in pools}
        for address, block in self._file.rows(
            "SELECT address, pool FROM resting WHERE sticky = ? AND sticky <> '' ORDER BY since DESC", sticky
        ):
            if block in blocks:
                return ip_address(address)
        for pool in pools:
            found = self._fresh(pool, _FRESH_FIRST) or self._rested(pool, pool.cooldown_s) or self._fresh(pool)
            if found is not None:
                return found
        for kept in (0, 1):
            for pool in pools:
                oldest = self._oldest(pool, kept)
                if oldest is not None:
                    return oldest[0]
        names = tuple(dict.fromkeys(pool.title for pool in pools))
        words = ", ".join(names)
        raise ExhaustedError(
            f"every address of the pool {words} is taken", mend="remove a pod, or: fairway pool add CIDR", pools=names
        )

    def take(self, pod: str, addresses: Sequence[IPAddress], sticky: str = "") -> None:
        """Give `addresses` to the pod; one that is taken is an error that says by whom."""
        with self._file.transaction() as database:
            for position, address in enumerate(addresses):
                holder = self.holder(address)
                if holder:
                    raise UsageError(f"{address} is taken by the pod {holder}", mend="choose another address, or none")
                block = self._block_of(address)
                row = (str(address), pod, position, block, sticky)
                database.execute("INSERT INTO addresses VALUES (?, ?, ?, ?, ?)", row)
                database.execute("DELETE FROM resting WHERE address = ?", (str(address),))
                database.execute("UPDATE pools SET taken = taken + 1 WHERE network = ?", (block,))

    def release(self, pod: str) -> None:
        """Let the pod's addresses rest, for others or for its sticky key."""
        now = self._now()
        rows = self._file.rows("SELECT address, pool, sticky FROM addresses WHERE pod = ?", pod)
        with self._file.transaction() as database:
            database.execute("UPDATE resting SET kept = 0 WHERE kept AND since < ?", (now - _KEPT_S,))
            database.execute("DELETE FROM addresses WHERE pod = ?", (pod,))
            for address, block, sticky in rows:
                database.execute("UPDATE pools SET taken = taken - 1 WHERE network = ?", (block,))
                if block:
                    former = "UPDATE resting SET sticky = '', kept = 0 WHERE sticky = ? AND pool = ? AND sticky <> ''"
                    database.execute(former, (sticky, block))
                    row = (address, block, now, sticky, int(bool(sticky)))
                    database.execute("INSERT OR REPLACE INTO resting VALUES (?, ?, ?, ?, ?)", row)

    def pools(self) -> list[Pool]:
        """The pools, in the order they were added."""
        return [use.pool for use in self.statistics()]

    def statistics(self) -> list[PoolUse]:
        """How full each pool is; the counts are kept, and nothing is counted."""
        query = "SELECT network, name, whole, kubernetes_namespaces, networks, cooldown_s, masquerade, taken FROM pools"
        rows = self._file.rows(f"{query} ORDER BY position")
        pools = [(read_pool(row), taken) for *row, taken in rows]
        return [PoolUse(pool, capacity(pool.block), taken) for pool, taken in pools]

    def add_pool(self, pool: Pool) -> None:
        """Add a pool behind the others; of one that is there already all but its addresses is changed."""
        block = str(pool.block)
        values = (
            pool.name,
            str(pool.whole or ""),
            " ".join(sorted(pool.kubernetes_namespaces)),
            " ".join(sorted(pool.networks)),
            pool.cooldown_s,
            int(pool.masquerade),
        )
        with self._file.transaction() as database:
            new = "INSERT OR IGNORE INTO pools (network, last, position) SELECT ?, -1, coalesce(max(position), 0) + 1"
            if database.execute(f"{new} FROM pools", (block,)).rowcount:
                self._adopt(pool.block)
            columns = "name = ?, whole = ?, kubernetes_namespaces = ?, networks = ?, cooldown_s = ?, masquerade = ?"
            database.execute(f"UPDATE pools SET {columns} WHERE network = ?", (*values, block))

    def delete_pool(self, block: IPNetwork) -> None:
        """Forget a pool."""
        with self._file.transaction() as database:
            database.execute("DELETE FROM pools WHERE network = ?", (str(block),))
            database.execute("DELETE FROM resting WHERE pool = ?", (str(block),))
            database.execute("UPDATE addresses SET pool = '' WHERE pool = ?", (str(block),))

    def _adopt(self, block: IPNetwork) -> None:
        """Count what of a new pool's addresses pods have already."""
        with self._file.transaction() as database:
            for (text,) in self._file.rows("SELECT address FROM addresses WHERE pool = ''"):
                if ip_address(text) in block:
                    database.execute("UPDATE addresses SET pool = ? WHERE address = ?", (str(block), text))
                    database.execute("UPDATE pools SET taken = taken + 1 WHERE network = ?", (str(block),))

    def _block_of(self, address: IPAddress) -> str:
        for (network,) in self._file.rows("SELECT network FROM pools"):
            if address in ip_network(network):
                return str(network)
        return ""

    def _fresh(self, pool: Pool, limit: int = _LARGEST) -> IPAddress | None:
        """The first address behind the pool's mark that nobody has or had; each is looked at once, and never again."""
        rows = self._file.rows("SELECT last FROM pools WHERE network = ?", str(pool.block))
        last = rows[0][0] if rows else -1
        found = None
        mark = last
        for offset, address in ahead(pool.block, last):
            if offset >= limit:
                break
            mark = offset
            if not self._is_known(address):
                found = address
                break
        if mark != last:
            with self._file.transaction() as database:
                database.execute("UPDATE pools SET last = ? WHERE network = ?", (min(mark, _LARGEST), str(pool.block)))
        return found

    def _is_known(self, address: IPAddress) -> bool:
        text = str(address)
        query = "SELECT 1 FROM addresses WHERE address = ?1 UNION ALL SELECT 1 FROM resting WHERE address = ?1 LIMIT 1"
        return bool(self._file.rows(query, text))

    def _rested(self, pool: Pool, cooldown_s: float) -> IPAddress | None:
        oldest = self._oldest(pool, kept=0)
        return oldest[0] if oldest is not None and self._now() - oldest[1] >= cooldown_s else None

    def _oldest(self, pool: Pool, kept: int) -> tuple[IPAddress, float] | None:
        """The address of the pool that has rested longest, and since when."""
        query = "SELECT address, since FROM resting WHERE pool = ? AND kept = ? ORDER BY since LIMIT 1"
        for address, since in self._file.rows(query, str(pool.block), kept):
            return ip_address(address), since
        return None


def read_pool(row: Sequence[Any]) -> Pool:
    """The pool that a row of the file tells; ValueError if it tells none."""
    block, name, whole, namespaces, networks, cooldown_s, masquerade = row
    return Pool(
        ip_network(block),
        name,
        ip_network(whole) if whole else None,
        frozenset(namespaces.split()),
        frozenset(networks.split()),
        int(cooldown_s),
        bool(masquerade),
    )
