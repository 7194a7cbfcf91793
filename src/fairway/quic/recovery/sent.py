"""What was sent and is not yet acknowledged or lost, as runs of packets.

A run is a row of packets with consecutive numbers, equal sizes and one sending time. A run of more than one
packet carries consecutive, equally long pieces of one stream and nothing else; a run of one packet may carry any
frames besides. An acknowledged range retires whole runs in one step; where it covers only a part, the run splits.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


class Run:
    """`count` packets from number `first` on, `size` bytes each, sent at `time`.

    Packet i carries `step` bytes of stream `stream_id` from `offset + i * step`; `stream_id` -1 means none.
    `frames` are the other frames (tuples that `transmit` made and understands) of a run of one.
    """

    __slots__ = (
        "count", "eliciting", "fin", "first", "frames", "in_flight", "offset", "size", "step", "stream_id", "time",
    )  # fmt: skip

    def __init__(
        self,
        first: int,
        count: int,
        size: int,
        time: float,
        stream_id: int = -1,
        offset: int = 0,
        step: int = 0,
        fin: bool = False,
        frames: tuple[tuple[int, ...], ...] = (),
        eliciting: bool = True,
        in_flight: bool = True,
    ) -> None:
        self.first = first
        self.count = count
        self.size = size
        self.time = time
        self.stream_id = stream_id
        self.offset = offset
        self.step = step
        self.fin = fin
        self.frames = frames
        self.eliciting = eliciting
        self.in_flight = in_flight

    @property
    def last(self) -> int:
        """The last packet number of the run."""
        return self.first + self.count - 1

    @property
    def length(self) -> int:
        """Bytes of the stream that the run carries."""
        return self.count * self.step

    def split(self, number: int) -> Run:
        """Cut before packet `number`; this run keeps what is lower, the rest is given back."""
        kept = number - self.first
        rest = Run(
            number,
            self.count - kept,
            self.size,
            self.time,
            self.stream_id,
            self.offset + kept * self.step,
            self.step,
            self.fin,
            (),
            self.eliciting,
            self.in_flight,
        )
        self.count = kept
        self.fin = False  # the stream's end, if any, is in the last packet
        return rest


def _first(run: Run) -> int:
    return run.first


_NO_RUNS: list[Run] = []
"""What all share that have nothing in flight. Nothing is ever put into it."""


class SentPackets:
    """The runs of one packet number space in the order of their numbers, and their total."""

    __slots__ = ("_runs", "bytes_in_flight", "eliciting_in_flight")

    def __init__(self) -> None:
        self._runs: list[Run] = _NO_RUNS
        self.bytes_in_flight = 0
        self.eliciting_in_flight = 0
        """Ack-eliciting packets that are neither acknowledged nor lost."""

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def runs(self) -> Sequence[Run]:
        """All runs, the lowest number first."""
        return self._runs

    def add(self, run: Run) -> None:
        """Remember a run; its numbers are above all that were added before."""
        if self._runs:
            self._runs.append(run)
        else:
            self._runs = [run]
        if run.in_flight:
            self.bytes_in_flight += run.size * run.count
        if run.eliciting:
            self.eliciting_in_flight += run.count

    def take(self, first: int, last: int) -> list[Run]:
        """Remove the packets `first` to `last` (inclusive) as far as they are here; give them as runs."""
        runs = self._runs
        if not runs or last < runs[0].first:
            return []
        if first <= runs[0].first and last >= runs[-1].last:  # all of them, as it mostly is
            return self.clear()
        low = bisect_right(runs, first, key=_first) - 1 if first > runs[0].first else 0
        if runs[low].last < first:
            low += 1
        elif runs[low].first < first:
            runs.insert(low + 1, runs[low].split(first))
            low += 1
        high = low
        size = len(runs)
        while high < size and runs[high].first <= last:
            run = runs[high]
            high += 1
            if run.first + run.count - 1 > last:
                runs.insert(high, run.split(last + 1))
                break
        taken = runs[low:high]
        del runs[low:high]
        for run in taken:
            if run.in_flight:
                self.bytes_in_flight -= run.size * run.count
            if run.eliciting:
                self.eliciting_in_flight -= run.count
        return taken

    def leave_path(self) -> None:
        """The connection goes on over another path: what is under way no longer counts (RFC 9000 section 9.4)."""
        for run in self._runs:
            run.in_flight = False
        self.bytes_in_flight = 0

    def clear(self) -> list[Run]:
        """Forget everything and give it (keys discarded, Retry)."""
        taken, self._runs = self._runs, _NO_RUNS
        self.bytes_in_flight = self.eliciting_in_flight = 0
        return taken
