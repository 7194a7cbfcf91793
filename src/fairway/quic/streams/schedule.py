"""Which stream sends next (RFC 9218's two parameters, without its frames).

Urgency goes first, always: a stream sends only when all more urgent ones have nothing that may be sent. Among equals
(section 10), those that are not incremental go one after the other in the order of their IDs, each until it has
nothing more to send, and those that are share, a batch each in turn. Where both kinds wait, every other batch is for
one that is not incremental, which are first: they are of use only once they are whole, and yet an endless one must not
starve the others.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from heapq import heappop, heappush

from fairway.quic.streams.send import SendStream

_SLACK = 16  # IDs of streams that have left which an order may keep whatever its length


class Level:
    """The streams of one urgency. All takes constant time, or logarithmic where an order of IDs is kept."""

    __slots__ = ("alone", "order", "shared", "sharing", "urgency")

    def __init__(self, urgency: int) -> None:
        self.urgency = urgency
        self.alone: dict[int, SendStream] = {}
        """Those that are not incremental."""
        self.order: list[int] = []
        """A heap of their IDs, and of some of those that have left."""
        self.shared: OrderedDict[int, SendStream] = OrderedDict()
        """Those that are incremental, the one whose turn it is first."""
        self.sharing = False
        """True if the next batch is for one of `shared`."""

    def __lt__(self, other: Level) -> bool:
        return self.urgency < other.urgency

    def add(self, stream: SendStream) -> None:
        """One that waits."""
        stream_id = stream.stream_id
        if stream.incremental:
            self.shared[stream_id] = stream
            return
        self.alone[stream_id] = stream
        heappush(self.order, stream_id)
        if len(self.order) > 2 * len(self.alone) + _SLACK:
            self.order = sorted(self.alone)

    def remove(self, stream: SendStream) -> None:
        """One that waits no more."""
        del (self.shared if stream.incremental else self.alone)[stream.stream_id]

    def first(self) -> SendStream | None:
        """The one whose turn it is."""
        alone, shared = self.alone, self.shared
        if alone and not (self.sharing and shared):
            order = self.order
            while order[0] not in alone:
                heappop(order)
            return alone[order[0]]
        return next(iter(shared.values())) if shared else None


class Schedule:
    """Streams that have something to send, in the order in which they may."""

    __slots__ = ("_levels", "_order", "_waiting", "blocked")

    def __init__(self) -> None:
        self._levels: dict[int, Level] = {}
        """The urgencies that were ever used."""
        self._order: list[Level] = []
        """The same, the most urgent first."""
        self._waiting = 0
        """Streams in all levels; each knows its level itself."""
        self.blocked: dict[int, SendStream] = {}
        """Streams held up by the connection's flow control, in the order in which they were."""

    def __bool__(self) -> bool:
        return self._waiting > 0

    def add(self, stream: SendStream) -> None:
        """The stream has something to send."""
        if stream.level is not None:
            return
        level = self._levels.get(stream.urgency)
        if level is None:
            level = self._levels[stream.urgency] = Level(stream.urgency)
            insort(self._order, level)
        stream.level = level
        self._waiting += 1
        level.add(stream)

    def first(self) -> SendStream | None:
        """The stream whose turn it is."""
        if self._waiting:
            for level in self._order:
                stream = level.first()
                if stream is not None:
                    return stream
        return None

    def served(self, stream: SendStream) -> None:
        """A stream has sent a batch: whose turn is next among its equals, if it still waits."""
        level = stream.level
        if level is None:
            return
        level.sharing = not stream.incremental
        if stream.incremental:
            level.shared.move_to_end(stream.stream_id)

    def remove(self, stream: SendStream) -> None:
        """The stream has nothing to send."""
        level = stream.level
        if level is not None:
            stream.level = None
            self._waiting -= 1
            level.remove(stream)
        if self.blocked:
            self.blocked.pop(stream.stream_id, None)

    def prioritize(self, stream: SendStream, urgency: int, incremental: bool) -> None:
        """Change a stream's priority, wherever it waits; one that keeps it keeps its place."""
        if (urgency, incremental) == (stream.urgency, stream.incremental):
            return
        level = stream.level
        if level is not None:
            stream.level = None
            self._waiting -= 1
            level.remove(stream)
        stream.urgency, stream.incremental = urgency, incremental
        if level is not None:
            self.add(stream)

    def block(self, stream: SendStream) -> None:
        """The stream waits for the connection's flow control."""
        self.remove(stream)
        self.blocked[stream.stream_id] = stream

    def unblock(self) -> None:
        """The connection's limit rose."""
        blocked, self.blocked = self.blocked, {}
        for stream in blocked.values():
            self.add(stream)
