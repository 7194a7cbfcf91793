"""What a peer still has to be told: computed from our own table whenever its streams have room, never queued."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fairway.net.exchange import limits
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
    encode,
)
from fairway.net.exchange.own import Own, Said

_ENTRY_BYTES = 32
"""The longest an entry is encoded to: a 16-byte prefix with its head, and three varints that are rarely long."""

_BATCH = limits.BATCH_BYTES // _ENTRY_BYTES


class Sender:
    """One peer's view of our table: how far each stream has told it, and the table that it is being sent."""

    __slots__ = ("_announced", "_begun", "_own", "_started", "_table", "_withdrawn", "tables")

    def __init__(self, own: Own) -> None:
        self._own = own
        self._started = False
        self._announced = 0
        self._withdrawn = 0
        self._table: Iterator[Message] | None = None
        self._begun = False
        self.tables = 0
        """Whole tables that were begun."""

    def begin(self, holds: Held | None) -> Resume | None:
        """The peer has said what it holds: go on from there, or with a whole table."""
        own = self._own
        self._started = True
        if holds is not None and own.can_resume(holds):
            self._announced = self._withdrawn = holds.sequence
            return Resume(own.epoch, holds.sequence)
        self.begin_table()
        return None

    def asked(self) -> None:
        """The peer misses something: it gets a table, unless one that has not begun will do."""
        if self._table is None or self._begun:
            self.begin_table()

    def begin_table(self) -> None:
        """Send everything, and changes from now on."""
        own = self._own
        self._announced = self._withdrawn = own.sequence
        self._table = _table(own.epoch, own.sequence, own.announcements())
        self._begun = False
        self.tables += 1

    def pending(self, channel: Channel) -> bool:
        """Whether there is something to say on one of the channels of our table."""
        self._keep_up()
        own = self._own
        if not self._started:
            return False
        if channel is Channel.TABLE:
            return self._table is not None
        if channel is Channel.WITHDRAWALS:
            return own.last_withdrawn > self._withdrawn
        return own.last_announced > self._announced or self._withdrawn - self._announced >= limits.PROGRESS_EVERY

    def next(self, channel: Channel) -> bytes:
        """The next message of the channel; only when it is `pending`."""
        if channel is Channel.TABLE:
            return self._next_of_table()
        since = self._withdrawn if channel is Channel.WITHDRAWALS else self._announced
        said = self._own.said
        if said is None or said.after != (channel, since, self._own.sequence):
            said = self._own.said = _change(self._own, channel, since)
        if channel is Channel.WITHDRAWALS:
            self._withdrawn = said.upto
        else:
            self._announced = said.upto
        return said.message

    def _next_of_table(self) -> bytes:
        assert self._table is not None, "there is no table to send"
        self._begun = True
        message = next(self._table)
        if isinstance(message, TableEnd):
            self._table = None
        return encode(message)

    def _keep_up(self) -> None:
        """A peer to whom withdrawals can no longer be told one by one gets a table."""
        if self._started and self._withdrawn < self._own.floor:
            self.begin_table()


def _change(own: Own, channel: Channel, since: int) -> Said:
    """What somebody has to be told who was told so much on that channel."""
    message: Announce | Withdraw
    if channel is Channel.WITHDRAWALS:
        gone = own.withdrawn_since(since)
        upto = gone[_BATCH - 1][1] if len(gone) > _BATCH else own.sequence
        message = Withdraw(own.epoch, since, upto, tuple(gone[:_BATCH]))
    else:
        new = own.announced_since(since)
        upto = new[_BATCH - 1].sequence if len(new) > _BATCH else own.sequence
        message = Announce(own.epoch, since, upto, tuple(new[:_BATCH]))
    return Said((channel, since, own.sequence), upto, encode(message))


def _table(epoch: int, upto: int, announcements: Sequence[Announcement]) -> Iterator[Message]:
    yield TableBegin(epoch, upto)
    for start in range(0, len(announcements), _BATCH):
        yield TableEntries(tuple(announcements[start : start + _BATCH]))
    yield TableEnd()
