"""What a node announces itself: it alone writes this table, and everyone else has a copy of it."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.net.exchange import limits
from fairway.net.exchange.messages import Announcement, Channel, Held
from fairway.net.model.facts import IPNetwork


@dataclass(frozen=True, slots=True)
class Said:
    """A message about changes. Most peers have been told the same before it, and are told it at the same time."""

    after: tuple[Channel, int, int]
    """The channel, the sequence up to which the peer had been told there, and ours at the time."""
    upto: int
    message: bytes


class Own:
    """A node's own table. Every change has the next `sequence`; `epoch` is new with every start of the node.

    Only the state is kept and no log of messages: what a peer still needs is what changed after the sequence that it
    has, so a peer that reads slowly costs nothing, and changes that undo each other are never sent.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.sequence = 0
        self.last_announced = 0
        self.last_withdrawn = 0
        self.floor = 0
        """Withdrawals up to this sequence are forgotten."""
        self.said: Said | None = None
        """The last one."""
        self._announced: dict[IPNetwork, Announcement] = {}  # both in the order of their sequences
        self._withdrawn: dict[IPNetwork, int] = {}

    def __len__(self) -> int:
        return len(self._announced)

    def announce(self, prefix: IPNetwork, version: int = 0, metric: int = 0) -> Announcement | None:
        """Announce `prefix`, or change how; what is said already is not said again: None."""
        former = self._announced.get(prefix)
        if former is not None and (former.version, former.metric) == (version, metric):
            return None
        self.sequence += 1
        self.last_announced = self.sequence
        self._announced.pop(prefix, None)
        self._withdrawn.pop(prefix, None)
        announcement = self._announced[prefix] = Announcement(prefix, self.sequence, version, metric)
        return announcement

    def withdraw(self, prefix: IPNetwork) -> bool:
        """Announce `prefix` no more; False if it was not announced."""
        if self._announced.pop(prefix, None) is None:
            return False
        self.sequence += 1
        self.last_withdrawn = self.sequence
        self._withdrawn[prefix] = self.sequence
        if len(self._withdrawn) > limits.WITHDRAWALS_KEPT:
            oldest = next(iter(self._withdrawn))
            self.floor = self._withdrawn.pop(oldest)
        return True

    def get(self, prefix: IPNetwork) -> Announcement | None:
        """What is announced of `prefix`."""
        return self._announced.get(prefix)

    def announcements(self) -> list[Announcement]:
        """All of it."""
        return list(self._announced.values())

    def announced_since(self, sequence: int) -> list[Announcement]:
        """What was announced after `sequence` and still is, the oldest first."""
        found = []
        for announcement in reversed(self._announced.values()):
            if announcement.sequence <= sequence:
                break
            found.append(announcement)
        return found[::-1]

    def withdrawn_since(self, sequence: int) -> list[tuple[IPNetwork, int]]:
        """What was withdrawn after `sequence` and still is, the oldest first. Only above `floor` is that all."""
        found = []
        for prefix, at in reversed(self._withdrawn.items()):
            if at <= sequence:
                break
            found.append((prefix, at))
        return found[::-1]

    def can_resume(self, held: Held | None) -> bool:
        """Whether a peer that holds that much needs no table."""
        return held is not None and held.epoch == self.epoch and self.floor <= held.sequence <= self.sequence
