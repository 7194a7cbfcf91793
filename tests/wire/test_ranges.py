from hypothesis import given
from hypothesis import strategies as st

from fairway.wire import RangeSet

bounds = st.integers(0, 60)
operation = st.tuples(st.sampled_from(["add", "remove"]), bounds, bounds)


def as_ranges(numbers: set[int]) -> list[tuple[int, int]]:
    starts = sorted(n for n in numbers if n - 1 not in numbers)
    stops = sorted(n + 1 for n in numbers if n + 1 not in numbers)
    return list(zip(starts, stops, strict=True))


@given(st.lists(operation, max_size=40))
def test_it_behaves_like_a_set_of_integers(operations: list[tuple[str, int, int]]) -> None:
    ranges, model = RangeSet(), set[int]()
    for name, start, stop in operations:
        getattr(ranges, name)(start, stop)
        if name == "add":
            model |= set(range(start, stop))
        else:
            model -= set(range(start, stop))
        assert list(ranges) == as_ranges(model)
    assert list(reversed(ranges)) == as_ranges(model)[::-1]
    assert [ranges[i] for i in range(len(ranges))] == as_ranges(model)
    assert ranges.size == len(model)
    assert bool(ranges) == bool(model)
    if model:
        assert (ranges.smallest, ranges.largest) == (min(model), max(model))


@given(st.lists(st.tuples(bounds, bounds), max_size=12), bounds, bounds)
def test_covers_contains_and_gaps_agree_with_the_integers(pairs: list[tuple[int, int]], start: int, stop: int) -> None:
    ranges = RangeSet(pairs)
    model = {n for low, high in pairs for n in range(low, high)}
    asked = set(range(start, stop))
    assert ranges.covers(start, stop) == (asked <= model)
    assert list(ranges.gaps(start, stop)) == as_ranges(asked - model)
    assert (start in ranges) == (start in model)


@given(st.lists(st.tuples(bounds, bounds), max_size=12), st.lists(st.tuples(bounds, bounds), max_size=12))
def test_merging_is_the_union(some: list[tuple[int, int]], more: list[tuple[int, int]]) -> None:
    merged = RangeSet(some)
    merged.merge(RangeSet(more))
    assert merged == RangeSet(some + more)


def test_a_set_may_be_merged_with_itself() -> None:
    ranges = RangeSet([(1, 2), (4, 6)])
    ranges.merge(ranges)
    assert list(ranges) == [(1, 2), (4, 6)]


def test_the_lowest_range_is_popped_first() -> None:
    ranges = RangeSet([(4, 6), (1, 2)])
    assert ranges.pop_first() == (1, 2)
    assert list(ranges) == [(4, 6)]
    ranges.clear()
    assert not ranges


def test_equality_is_by_content_only_among_range_sets() -> None:
    assert RangeSet([(1, 3)]) == RangeSet([(1, 2), (2, 3)])
    assert RangeSet() != []
    assert repr(RangeSet([(1, 3)])) == "RangeSet([(1, 3)])"
