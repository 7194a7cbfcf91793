"""Our copy of one peer's table: from streams that may overtake each other, and kept while the peer restarts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fairway.net.exchange import limits
from fairway.net.exchange.errors import PeerFault
from fairway.net.exchange.messages import (
    Announce,
    Announcement,
    Channel,
    Held,
    Message,
    Resume,
    TableBegin,
    TableEnd,
    TableEntries,
    Withdraw,
)
from fairway.net.exchange.pace import Counters
from fairway.net.exchange.rib import Entry, Rib
from fairway.net.model.facts import IPNetwork
from fairway.net.model.permit import Permit

_FORMER = -1
"""The epoch of what was said in a former life."""
_CHANGES = (Channel.ANNOUNCEMENTS, Channel.WITHDRAWALS)


@dataclass(slots=True)
class _Transfer:
    """A table that is being received."""

    number: int
    upto: int


class Replica:
    """What one peer announces.

    For each prefix the highest sequence wins, so the order between streams does not matter. A withdrawal is remembered
    until the stream of announcements has passed it, and while a table is on its way: so an older announcement that
    comes late raises nothing from the dead.
    """

    def __init__(self, permit: Permit, rib: Rib, counters: Counters) -> None:
        self.permit = permit
        self._rib = rib
        self._counters = counters
        self._entries: dict[IPNetwork, Entry] = {}
        self._gone: dict[IPNetwork, int] = {}
        self._epoch = -1
        self._upto: dict[Channel, int | None] = dict.fromkeys(_CHANGES)
        """How far each stream of changes has come in this session; None before it is known where it began."""
        self._missing = 0
        """Something up to this sequence was not told: only a table from there on makes the copy complete."""
        self._complete = False
        self._held = 0
        """Up to where the copy was complete when the session, or its last table, began."""
        self._transfer: _Transfer | None = None
        self._transfers = 0
        self._overflowed = False
        self._short_tables = 0
        self.walked = 0
        """Entries that were gone through, one and all, by what the peer said: a short message may cost that much."""
        self.wants_table = False
        """Something is missing: ask for the whole table, and set this back."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def complete(self) -> bool:
        """Whether this is all that the peer announces."""
        return self._complete

    @property
    def stale(self) -> int:
        """Entries that the peer has not confirmed since its session was lost."""
        return sum(entry.stale for entry in self._entries.values())

    @property
    def epoch(self) -> int:
        """The life of the peer that the entries are of; -1 before the first."""
        return self._epoch

    @property
    def holds(self) -> Held | None:
        """How much of the peer's table this is; None if there are gaps."""
        if not self._complete:
            return None
        return Held(self._epoch, min(self._held if at is None else at for at in self._upto.values()))

    # A session begins and ends

    def begin(self, epoch: int) -> None:
        """A session begins, in that life of the peer: its streams start anew.

        The life counts from which the peer speaks now, though we may have heard of a later one: it has lost its state.
        """
        if epoch != self._epoch:
            self._enter(epoch)
        self._held = 0 if self.holds is None else self.holds.sequence
        self._upto = dict.fromkeys(_CHANGES)
        self._transfer = None
        self._missing = 0
        self.wants_table = False

    def suspend(self) -> None:
        """The session is lost: what is held is kept, but not vouched for."""
        self._transfer = None
        self._mark_stale()

    def touch(self) -> None:
        """The peer's address is another: every route to it is."""
        self.walked += len(self._entries)
        for entry in self._entries.values():
            self._rib.touch(entry)

    def sweep(self) -> None:
        """The peer has not confirmed in time what it once said: let it go."""
        for entry in [entry for entry in self._entries.values() if entry.stale]:
            self._drop(entry)

    def clear(self) -> None:
        """Forget everything."""
        for entry in list(self._entries.values()):
            self._drop(entry)
        self._gone.clear()
        self._complete = False

    def limit(self, permit: Permit) -> None:
        """The peer's certificate has changed: what it no longer allows goes."""
        self.permit = permit
        for entry in [entry for entry in self._entries.values() if not permit.allows(entry.announcement.prefix)]:
            self._drop(entry)

    # Messages

    def receive(self, message: Message, now: float) -> None:
        """Take in a message about the peer's table."""
        _HANDLERS[type(message)](self, message, now)

    def _resume(self, message: Resume, now: float) -> None:
        if message.epoch != self._epoch or not self._complete or message.since > self._held:
            self.wants_table = True  # it goes on from where we are not
            return
        for entry in self._entries.values():
            if entry.stale:
                entry.stale = False
                self._rib.touch(entry)
        for channel, upto in self._upto.items():
            if upto is None:
                self._upto[channel] = message.since

    def _announce(self, message: Announce, now: float) -> None:
        self._follow(Channel.ANNOUNCEMENTS, message)
        for announcement in message.announcements:
            self._put(announcement, now)
        self._forget_withdrawals()

    def _withdraw(self, message: Withdraw, now: float) -> None:
        self._follow(Channel.WITHDRAWALS, message)
        for prefix, sequence in message.prefixes:
            self._counters.changes += 1
            entry = self._entries.get(prefix)
            if entry is not None and (entry.epoch < self._epoch or entry.announcement.sequence < sequence):
                self._drop(entry)
            if sequence > self._gone.pop(prefix, -1):
                self._gone[prefix] = sequence
        self._forget_withdrawals()
        if len(self._gone) > limits.MAX_TOMBSTONES:
            self._gone.clear()
            self._gap(message.upto)
        if self._overflowed and len(self._entries) < limits.MAX_PREFIXES * 9 // 10:
            self._overflowed = False
            self._gap(message.upto)

    def _table_begin(self, message: TableBegin, now: float) -> None:
        self._check_epoch(message.epoch)
        self._complete = False
        self._transfers += 1
        self._transfer = _Transfer(self._transfers, message.upto)
        for channel, upto in self._upto.items():  # which skip to where the table is complete
            self._upto[channel] = max(upto or 0, message.upto)

    def _table_entries(self, message: TableEntries, now: float) -> None:
        if self._transfer is not None:
            for announcement in message.announcements:
                self._put(announcement, now)

    def _table_end(self, message: TableEnd, now: float) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is None:
            return
        self.walked += len(self._entries)
        for entry in list(self._entries.values()):
            current = entry.epoch == self._epoch and entry.announcement.sequence > transfer.upto
            if not current and entry.transfer != transfer.number:
                self._drop(entry)
        if transfer.upto >= self._missing:
            self._complete = True
            self._held = transfer.upto
        self.wants_table = not self._complete
        self._short_tables = self._short_tables + 1 if self.wants_table else 0
        if self._short_tables > limits.SHORT_TABLES:
            raise PeerFault("its tables do not have what it has told")
        self._forget_withdrawals()

    # Within

    def _enter(self, epoch: int) -> None:
        """The peer begins a new life: nothing of the former ones is vouched for any more."""
        for entry in self._entries.values():
            entry.epoch = _FORMER
        self._epoch = epoch
        self._upto = dict.fromkeys(_CHANGES)
        self._gone.clear()
        self._transfer = None
        self._complete = False
        self._missing = 0
        self._mark_stale()

    def _follow(self, channel: Channel, message: Announce | Withdraw) -> None:
        """A message of changes comes; notes where something before it is missing."""
        self._check_epoch(message.epoch)
        former = self._upto[channel]
        if former is None:
            if not self._complete or message.since > self._held:  # a table with all before it is on its way
                self._missing = max(self._missing, message.since)
                self._complete = False
        elif message.since > former:
            self._gap(message.since)
        self._upto[channel] = max(message.upto, former or 0)

    def _check_epoch(self, epoch: int) -> None:
        if epoch != self._epoch:
            raise PeerFault(f"it speaks of another life, {epoch}, than its hello, {self._epoch}")

    def _gap(self, upto: int) -> None:
        self._missing = max(self._missing, upto)
        self._complete = False
        self.wants_table = True

    def _put(self, announcement: Announcement, now: float) -> None:
        prefix = announcement.prefix
        self._counters.changes += 1
        if announcement.version > limits.MAX_VERSION or not self.permit.allows(prefix):
            self._counters.refused += 1
            return
        if announcement.sequence <= self._gone.get(prefix, -1):
            return
        transfer = 0 if self._transfer is None else self._transfer.number
        entry = self._entries.get(prefix)
        if entry is None:
            if len(self._entries) >= limits.MAX_PREFIXES:
                self._overflowed = True
                self._counters.over_limit += 1
                return
            entry = self._entries[prefix] = Entry(self.permit.node, announcement, self._epoch, now, transfer)
            self._rib.add(entry)
            return
        if (entry.epoch, entry.announcement.sequence) <= (self._epoch, announcement.sequence):
            changed = entry.stale or entry.announcement != announcement
            entry.announcement, entry.epoch, entry.stale = announcement, self._epoch, False
            if changed:
                self._rib.touch(entry)
        entry.transfer = transfer

    def _drop(self, entry: Entry) -> None:
        del self._entries[entry.announcement.prefix]
        self._rib.remove(entry)

    def _mark_stale(self) -> None:
        for entry in self._entries.values():
            if not entry.stale:
                entry.stale = True
                self._rib.touch(entry)

    def _forget_withdrawals(self) -> None:
        """No announcement older than the stream's progress can come, unless a table is on its way."""
        passed = self._upto[Channel.ANNOUNCEMENTS]
        if not self._complete or passed is None:
            return
        while self._gone:  # which are in the order of their sequences, as they came
            oldest, sequence = next(iter(self._gone.items()))
            if sequence > passed:
                break
            del self._gone[oldest]


_HANDLERS: dict[type[Message], Callable[..., None]] = {
    Resume: Replica._resume,
    Announce: Replica._announce,
    Withdraw: Replica._withdraw,
    TableBegin: Replica._table_begin,
    TableEntries: Replica._table_entries,
    TableEnd: Replica._table_end,
}
TABLE_MESSAGES = frozenset(_HANDLERS)
"""What a replica takes in."""
