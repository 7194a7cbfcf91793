"""One node in the exchange of routes: its own table, a copy of every peer's, the best of all, and whom to call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fairway.net.exchange import limits
from fairway.net.exchange.members import Call, Directory
from fairway.net.exchange.messages import NETWORK_ID_BYTES, Endpoint
from fairway.net.exchange.own import Own
from fairway.net.exchange.peers import Peers, Settings
from fairway.net.exchange.rib import Conflict, Entry, Rib
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.permit import within


@dataclass(frozen=True, slots=True)
class LearnedRoute:
    """The best of what peers announce of one prefix."""

    prefix: IPNetwork
    node: str
    via: IPAddress | None
    """The node's own address: the next hop; None if it has none of the prefix's IP version."""
    version: int
    metric: int
    since: float
    """When we first heard of it, in seconds of the exchange's clock."""
    stale: bool
    """Whether the node has yet to confirm it, since its session was lost."""


class Exchange:
    """One node. No I/O: `now` is seconds of one monotonic clock, `jitter` gives numbers from 0 to 1.

    Whoever does the I/O calls `peers.connect` for every authenticated connection, moves bytes between its streams and
    the session, and calls `peers.lost` when it is over. `epoch` is another than in any former life of the node, and
    should be higher: so peers know at once which of two connections is of the later life.
    """

    def __init__(
        self,
        name: str,
        network: bytes,
        epoch: int,
        *,
        jitter: Callable[[], float],
        endpoints: Iterable[Endpoint] = (),
        settings: Settings | None = None,
    ) -> None:
        if len(network) != NETWORK_ID_BYTES:
            raise ValueError(f"a network's ID has {NETWORK_ID_BYTES} bytes")
        self.name = name
        self.own = Own(epoch)
        self.rib = Rib()
        self.directory = Directory(name, jitter)
        self.peers = Peers(name, network, self.own, self.rib, self.directory, tuple(endpoints), settings or Settings())
        self.news = self.peers.news
        self._own_entries: dict[IPNetwork, Entry] = {}

    # Our own table

    def announce(self, prefix: IPNetwork, now: float, *, version: int = 0, metric: int = 0) -> bool:
        """Announce `prefix` to everybody, or change how; whether that is news."""
        announcement = self.own.announce(prefix, version, metric)
        if announcement is None:
            return False
        entry = self._own_entries.get(prefix)
        if entry is None:
            entry = self._own_entries[prefix] = Entry(self.name, announcement, self.own.epoch, now)
            self.rib.add(entry)
        else:
            entry.announcement = announcement
            self.rib.touch(entry)
        return True

    def withdraw(self, prefix: IPNetwork) -> bool:
        """Announce `prefix` no more; whether that is news."""
        if not self.own.withdraw(prefix):
            return False
        self.rib.remove(self._own_entries.pop(prefix))
        return True

    def next_version(self, prefix: IPNetwork) -> int:
        """The version with which `prefix`, announced from here, is followed whoever else announces it.

        Where somebody has taken the highest that there is, that too: then it is a conflict, and everybody is told.
        """
        others = [entry.announcement.version for entry in self.rib.of(prefix) if entry.node != self.name]
        return min(max(others, default=-1) + 1, limits.MAX_VERSION)

    # What is known

    def route(self, prefix: IPNetwork) -> LearnedRoute | None:
        """The route to `prefix`; None if nobody announces it, or nobody better than this node."""
        entry = self.rib.best(prefix)
        return None if entry is None or entry.node == self.name else self._learned(entry)

    def is_elsewhere(self, prefix: IPNetwork) -> bool:
        """Whether packets for `prefix` go to another node, which announces it or has a block that it lies in."""
        return any(entry.node != self.name for entry in self.rib.of(prefix)) or any(
            within(prefix, peer.replica.permit.blocks) for peer in self.peers
        )

    def routes(self) -> list[LearnedRoute]:
        """The routes to all that other nodes have."""
        return [self._learned(entry) for entry in self.rib.all_best() if entry.node != self.name]

    def conflicts(self) -> list[Conflict]:
        """What nodes announce that cannot all be true."""
        return self.rib.conflicts()

    def _learned(self, entry: Entry) -> LearnedRoute:
        said = entry.announcement
        via = self.peers[entry.node].next_hop(said.prefix.version)
        return LearnedRoute(said.prefix, entry.node, via, said.version, said.metric, entry.since, entry.stale)

    # Time

    def calls(self, now: float) -> list[Call]:
        """Whom to call now."""
        return self.directory.due(now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` or `calls` has something to do."""
        times = [when for when in (self.peers.next_timeout(), self.directory.next_timeout()) if when is not None]
        return min(times, default=None)

    def handle_timeout(self, now: float) -> None:
        """Time has passed."""
        self.peers.handle_timeout(now)
