"""Sets of integers kept as half-open ranges, for acknowledged packet numbers and for the bytes of a stream."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

_NONE: list[int] = []
"""What all empty sets share: many stay empty. Nothing is ever put into it."""


class RangeSet:
    """A set of integers as disjoint half-open ranges in ascending order; ranges that touch are one.

    Looking up is logarithmic in the number of ranges. Adding at the end, the common case, takes constant time.
    """

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = _NONE
        self._stops: list[int] = _NONE
        if ranges:
            self.merge(ranges)

    def add(self, start: int, stop: int) -> None:
        """Put the integers from `start` up to but not including `stop` in; an empty range adds nothing."""
        if start >= stop:
            return
        starts, stops = self._starts, self._stops
        if not stops:
            self._starts, self._stops = [start], [stop]
            return
        if start > stops[-1]:
            starts.append(start)
            stops.append(stop)
            return
        if start >= starts[-1]:
            if stop > stops[-1]:
                stops[-1] = stop
            return
        first = bisect_left(stops, start)  # the first range that touches or follows `start`
        after = bisect_right(starts, stop)  # the first range that begins beyond `stop`
        if first < after:
            start = min(start, starts[first])
            stop = max(stop, stops[after - 1])
        starts[first:after] = (start,)
        stops[first:after] = (stop,)

    def remove(self, start: int, stop: int) -> None:
        """Take the integers from `start` up to but not including `stop` out; those not in it are ignored."""
        if start >= stop:
            return
        starts, stops = self._starts, self._stops
        first = bisect_right(stops, start)  # the first range that ends after `start`
        after = bisect_left(starts, stop)  # the first range that begins at or after `stop`
        if first >= after:
            return
        kept = []
        if starts[first] < start:
            kept.append((starts[first], start))
        if stops[after - 1] > stop:
            kept.append((stop, stops[after - 1]))
        starts[first:after] = [low for low, _ in kept]
        stops[first:after] = [high for _, high in kept]

    def merge(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Add every range of `ranges`, which may be another set."""
        for start, stop in list(ranges):
            self.add(start, stop)

    def covers(self, start: int, stop: int) -> bool:
        """Whether all integers from `start` up to but not including `stop` are in it (an empty range is)."""
        if start >= stop:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and stop <= self._stops[at]

    def gaps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The ranges within `start` to `stop` that are not in it, ascending."""
        at = bisect_right(self._stops, start)
        while start < stop:
            if at == len(self._starts) or self._starts[at] >= stop:
                yield start, stop
                return
            if start < self._starts[at]:
                yield start, self._starts[at]
            start = self._stops[at]
            at += 1

    def pop_first(self) -> tuple[int, int]:
        """Take the lowest range out and return it. The set must not be empty."""
        return self._starts.pop(0), self._stops.pop(0)

    def clear(self) -> None:
        """Take everything out."""
        self._starts = self._stops = _NONE

    @property
    def smallest(self) -> int:
        """The lowest integer in it. The set must not be empty."""
        return self._starts[0]

    @property
    def largest(self) -> int:
        """The highest integer in it. The set must not be empty."""
        return self._stops[-1] - 1

    @property
    def size(self) -> int:
        """How many integers are in it; `len` is how many ranges."""
        return sum(self._stops) - sum(self._starts)

    def __contains__(self, value: int) -> bool:
        at = bisect_right(self._starts, value) - 1
        return at >= 0 and value < self._stops[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)

    def __reversed__(self) -> Iterator[tuple[int, int]]:
        return zip(reversed(self._starts), reversed(self._stops), strict=True)

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self._starts[index], self._stops[index]

    def __len__(self) -> int:
        return len(self._starts)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"
