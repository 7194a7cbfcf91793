"""Who announced what: peers and this node itself; the best of those for one prefix; and what contradicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fairway.net.exchange import limits
from fairway.net.exchange.messages import Announcement
from fairway.net.model.facts import IPNetwork


@dataclass(slots=True, eq=False)
class Entry:
    """What one node announces of one prefix."""

    node: str
    announcement: Announcement
    epoch: int
    since: float
    """When we first heard of it."""
    transfer: int = 0
    """The table in which it came last."""
    stale: bool = False
    """The node has not confirmed it since its session was lost."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two nodes announce what only one of them can have."""

    prefix: IPNetwork
    node: str
    other_prefix: IPNetwork
    other_node: str

    def __str__(self) -> str:
        if self.prefix == self.other_prefix:
            return f"{self.node} and {self.other_node} both announce {self.prefix}"
        return f"{self.prefix} of {self.node} overlaps {self.other_prefix} of {self.other_node}"


class Rib:
    """All that is announced. `changed` gathers the prefixes about which something is new, until they are taken."""

    def __init__(self) -> None:
        self._entries: dict[IPNetwork, tuple[Entry, ...]] = {}
        self._changed: set[IPNetwork] = set()
        self._may_conflict = False

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """A node announces a prefix that it did not announce before."""
        prefix = entry.announcement.prefix
        entries = self._entries.get(prefix)
        self._entries[prefix] = (entry,) if entries is None else (*entries, entry)
        self._note(entry)

    def touch(self, entry: Entry) -> None:
        """Something about an entry is new."""
        self._note(entry)

    def remove(self, entry: Entry) -> None:
        """A node announces a prefix no more."""
        prefix = entry.announcement.prefix
        rest = tuple(other for other in self._entries[prefix] if other is not entry)
        if rest:
            self._entries[prefix] = rest
        else:
            del self._entries[prefix]
        self._note(entry)

    def of(self, prefix: IPNetwork) -> tuple[Entry, ...]:
        """Every node's entry for `prefix`."""
        return self._entries.get(prefix, ())

    def best(self, prefix: IPNetwork) -> Entry | None:
        """The entry that is to be followed: of the highest version, then the lowest metric, then the lowest name."""
        entries = self._entries.get(prefix)
        if entries is None:
            return None
        return entries[0] if len(entries) == 1 else min(entries, key=_preference)

    def all_best(self) -> Iterator[Entry]:
        """The best entry of each prefix."""
        for entries in self._entries.values():
            yield entries[0] if len(entries) == 1 else min(entries, key=_preference)

    def all(self) -> Iterator[Entry]:
        """Every entry."""
        for entries in self._entries.values():
            yield from entries

    def take_changed(self) -> set[IPNetwork]:
        """Prefixes about which something is new since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    @property
    def changed(self) -> bool:
        """Whether `take_changed` would give something."""
        return bool(self._changed)

    def take_may_conflict(self) -> bool:
        """Whether `conflicts` may be others than at the last call."""
        changed, self._may_conflict = self._may_conflict, False
        return changed

    def conflicts(self) -> list[Conflict]:
        """What contradicts: blocks of two nodes that overlap, and one address of two nodes in the same version.

        A single address in another node's block is no conflict: the pod lives there.
        """
        found: list[Conflict] = []
        blocks: list[tuple[tuple[int, int, int], Entry]] = []
        for prefix, entries in self._entries.items():
            if not entries[0].announcement.single:
                blocks += [(_order(prefix), entry) for entry in entries]
            elif len(entries) > 1 and (same := _same_version(entries)):
                found.append(Conflict(prefix, same[0].node, prefix, same[1].node))
        blocks.sort(key=lambda pair: (pair[0], pair[1].node))
        around: list[Entry] = []  # the blocks that the present one lies in
        for _, entry in blocks:
            prefix = entry.announcement.prefix
            while around and not _contains(around[-1].announcement.prefix, prefix):
                around.pop()
            for outer in around:
                if outer.node != entry.node and len(found) < limits.MAX_CONFLICTS:
                    found.append(Conflict(outer.announcement.prefix, outer.node, prefix, entry.node))
            around.append(entry)
        return found[: limits.MAX_CONFLICTS]

    def _note(self, entry: Entry) -> None:
        prefix = entry.announcement.prefix
        self._changed.add(prefix)
        if not self._may_conflict:
            self._may_conflict = not entry.announcement.single or len(self.of(prefix)) > 1


def _preference(entry: Entry) -> tuple[int, int, str]:
    return (-entry.announcement.version, entry.announcement.metric, entry.node)


def _same_version(entries: tuple[Entry, ...]) -> list[Entry]:
    """The two best entries, if neither is better by its version."""
    first, second, *_ = sorted(entries, key=_preference)
    return [first, second] if first.announcement.version == second.announcement.version else []


def _order(prefix: IPNetwork) -> tuple[int, int, int]:
    """By version, then place; what contains comes before what is contained."""
    return (prefix.version, int(prefix.network_address), prefix.prefixlen)


def _contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]
