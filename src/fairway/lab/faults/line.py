"""One direction of a link: what it does to the frames that a member sends. Time and chance are passed in.

In this order, as the kernel's netem: loss, packet by packet; rate, with a bounded queue that drops its tail; delay and
jitter. A super-frame counts as the packets it stands for: each may be lost by itself, each is charged for its headers.

Frames never overtake each other: a frame whose jitter would bring it out before its predecessor waits for it. (netem
without a rate does reorder.) Jitter is uniform in delay +- jitter; in a dense flow, where every frame waits for the
slowest before it, the delay tends to delay + jitter.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from fairway.lab.faults.frames import VNET, SuperFrame, super_frame
from fairway.lab.model import Faults

QUEUE_S = 0.1
"""How long a full queue before the rate takes to drain, at least; longer where a round trip is."""

QUEUE_PACKETS = 16
"""How many packets of 1500 bytes the queue before the rate holds, however slow the rate."""

HELD_BYTES = 128 << 20
"""How much all directions of a link hold together; beyond its part of that each drops. 500 Mbit/s for two seconds."""

_FRAME_OVERHEAD = 256  # what Python needs to hold a frame, beside its bytes
_ENDLESS = 1e15  # packets without a loss that nobody will see the end of; beyond, floats are no integers
_CHUNK_S = 0.001  # a super-frame is let go in parts of about this long at the rate


class Line:
    """Frames in by `accept`, out by `due` no earlier than the faults say."""

    def __init__(self, faults: Faults, chance: Callable[[], float], held_bytes: int = HELD_BYTES) -> None:
        self._delay_s = faults.delay_ms / 1000
        self._jitter_s = faults.jitter_ms / 1000
        self._bytes_s = faults.rate_bps / 8
        self._chance = chance
        self._loss = Loss(faults.loss, chance)
        self._whole = not faults.loss and not faults.rate_bps
        self._queue_bytes = max(self._bytes_s * max(QUEUE_S, 2 * self._delay_s), QUEUE_PACKETS * 1514)
        self._busy_until = 0.0  # when the rate will have let go all that was accepted
        self._held: deque[tuple[float, bytes]] = deque()  # in order of arrival: a later one waits behind an earlier
        self._held_bytes = 0
        self._most_bytes = held_bytes

    @property
    def next_due(self) -> float:
        """When `due` will next have a frame; infinity if none is held."""
        return self._held[0][0] if self._held else math.inf

    def accept(self, frame: bytes, now: float) -> None:
        """Take in a frame that the member sent at `now`."""
        if self._whole:
            if frame[1]:
                whole = super_frame(frame)
                if whole is not None and whole.tunnelled:
                    self._accept_segments(whole, now)
                    return
            self._hold(frame, now)
            return
        whole = super_frame(frame) if frame[1] else None
        if whole is not None:
            self._accept_segments(whole, now)
        elif self._loss.survivors(1):
            length = len(frame) - VNET
            if not self._bytes_s:
                self._hold(frame, now)
            elif self._room(now) >= length:
                self._hold(frame, self._transmit(length, now))

    def due(self, now: float) -> list[bytes]:
        """The frames to be sent on by `now`, in order."""
        held = self._held
        frames = []
        while held and held[0][0] <= now:
            frame = held.popleft()[1]
            self._held_bytes -= len(frame) + _FRAME_OVERHEAD
            frames.append(frame)
        return frames

    def _accept_segments(self, whole: SuperFrame, now: float) -> None:
        for first, last in self._loss.survivors(whole.count):
            step = whole.count if last - first == whole.count and not whole.tunnelled else whole.longest_run
            if self._bytes_s:
                step = min(step, max(1, int(self._bytes_s * _CHUNK_S / whole.segment)))
            for start in range(first, last, step):
                self._accept_run(whole, start, min(start + step, last), now)

    def _accept_run(self, whole: SuperFrame, first: int, last: int, now: float) -> None:
        released = now
        if self._bytes_s:
            last = min(last, first + int(self._room(now) / whole.segment))
            if last <= first:
                return
            released = self._transmit(whole.length(first, last), now)
        complete = last - first == whole.count and not whole.tunnelled
        self._hold(whole.frame if complete else whole.cut(first, last), released)

    def _room(self, now: float) -> float:
        return self._queue_bytes - max(0.0, self._busy_until - now) * self._bytes_s

    def _transmit(self, length: int, now: float) -> float:
        self._busy_until = max(self._busy_until, now) + length / self._bytes_s
        return self._busy_until

    def _hold(self, frame: bytes, released: float) -> None:
        due = released + self._delay_s
        if self._jitter_s:
            due = max(released, due + self._jitter_s * (2 * self._chance() - 1))
        charge = len(frame) + _FRAME_OVERHEAD
        if self._held_bytes + charge > self._most_bytes:
            return
        self._held_bytes += charge
        self._held.append((due, frame))


class Loss:
    """Which packets of a stream are lost, each independently with probability `share`.

    The gaps between losses are drawn (they are geometric), not the packets, so a packet that survives costs nothing.
    """

    def __init__(self, share: float, chance: Callable[[], float]) -> None:
        self._share = share
        self._chance = chance
        self._passing = self._gap()

    def survivors(self, count: int) -> list[tuple[int, int]]:
        """Of the next `count` packets those that pass, as ranges (first, after the last)."""
        if self._passing >= count:
            self._passing -= count
            return [(0, count)]
        ranges = []
        start = 0
        while start + self._passing < count:
            lost = start + int(self._passing)
            if lost > start:
                ranges.append((start, lost))
            start = lost + 1
            self._passing = self._gap()
        if start < count:
            ranges.append((start, count))
            self._passing -= count - start
        return ranges

    def _gap(self) -> float:
        """How many packets pass before the next is lost."""
        if self._share <= 0:
            return math.inf
        if self._share >= 1:
            return 0
        gap = math.log(1 - self._chance()) / math.log1p(-self._share)
        return math.floor(gap) if gap < _ENDLESS else math.inf
