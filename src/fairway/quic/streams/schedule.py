"""Which stream sends next: by urgency, then in turn (RFC 9218's two parameters, without its frames)."""

from __future__ import annotations

from bisect import insort
from collections import deque

from fairway.quic.streams.send import SendStream


class Schedule:
    """Streams that have something to send, in the order in which they may."""

    __slots__ = ("_order", "_queued", "_queues", "blocked")

    def __init__(self) -> None:
        self._order: list[int] = []
        """Urgencies that were ever used, the most urgent first; queues are made when they are needed."""
        self._queues: dict[int, deque[SendStream]] = {}
        self._queued: dict[int, int] = {}
        self.blocked: dict[int, SendStream] = {}
        """Streams held up by the connection's flow control."""

    def __bool__(self) -> bool:
        return bool(self._queued)

    def add(self, stream: SendStream) -> None:
        """The stream has something to send."""
        known = self._queued.get(stream.stream_id)
        if known == stream.urgency:
            return
        if known is not None:
            self._queues[known].remove(stream)
        self._queued[stream.stream_id] = stream.urgency
        if stream.urgency not in self._queues:
            self._queues[stream.urgency] = deque()
            insort(self._order, stream.urgency)
        self._queues[stream.urgency].append(stream)

    def first(self) -> SendStream | None:
        """The stream whose turn it is."""
        if self._queued:
            for urgency in self._order:
                queue = self._queues[urgency]
                if queue:
                    return queue[0]
        return None

    def served(self, stream: SendStream) -> None:
        """The first stream has sent a batch: others of its urgency come next, unless it wants to be alone."""
        queue = self._queues[self._queued[stream.stream_id]]
        if stream.incremental and len(queue) > 1:
            queue.rotate(-1)

    def remove(self, stream: SendStream) -> None:
        """The stream has nothing to send."""
        urgency = self._queued.pop(stream.stream_id, None)
        if urgency is not None:
            queue = self._queues[urgency]
            if queue[0] is stream:
                queue.popleft()
            else:
                queue.remove(stream)
        self.blocked.pop(stream.stream_id, None)

    def block(self, stream: SendStream) -> None:
        """The stream waits for the connection's flow control."""
        self.remove(stream)
        self.blocked[stream.stream_id] = stream

    def unblock(self) -> None:
        """The connection's limit rose."""
        blocked, self.blocked = self.blocked, {}
        for stream in blocked.values():
            self.add(stream)
