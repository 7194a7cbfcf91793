"""Ranges of a file: RFC 9110 section 14."""

from __future__ import annotations

import email
from itertools import pairwise
from pathlib import Path

import pytest
from files_driver import files, request, tree
from hypothesis import given
from hypothesis import strategies as st

from fairway.http.server.files import limits
from fairway.http.server.files.ranges import coalesced, parse_ranges

SMALL = bytes(range(100))
BIG = bytes(range(251)) * 2000  # two chunks


@pytest.fixture(params=["small.bin", "big.bin"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, bytes]:
    assert len(SMALL) <= limits.SMALL_BYTES < limits.CHUNK_BYTES < len(BIG)
    site = tree(tmp_path / "site", {"small.bin": SMALL, "big.bin": BIG, "empty": b""})
    return site, "/" + request.param, SMALL if request.param == "small.bin" else BIG


Case = tuple[Path, str, bytes]


class TestOneRange:
    @pytest.mark.parametrize(
        ("value", "start", "stop"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=10-19", 10, 20),
            ("bytes=90-", 90, None),
            ("bytes=-10", -10, None),
            ("bytes=-99999999999999999999999", 0, None),
            ("bytes=5-99999999999999999999999", 5, None),
            ("BYTES = 1-2".replace(" ", ""), 1, 3),
            ("bytes= 1-2 ,", 1, 3),
            ("bytes=0-9,5-14", 0, 15),  # overlapping: one
            ("bytes=10-19,0-9", 0, 20),  # adjacent: one
            ("bytes=0-4,99999999999-", 0, 5),  # one of two can be satisfied
        ],
    )
    def test_its_bytes_are_sent_with_their_place(self, case: Case, value: str, start: int, stop: int | None) -> None:
        site, target, data = case
        response = request(files(site), target, {"range": value})
        first, after, _ = slice(start, stop).indices(len(data))
        assert response.status == 206
        assert response.body == data[first:after]
        assert response.headers["content-length"] == str(after - first)
        assert response.headers["content-range"] == f"bytes {first}-{after - 1}/{len(data)}"
        assert response.headers["etag"].startswith('"')
        assert response.complete

    @pytest.mark.parametrize("value", ["bytes=99999999999-", "bytes=-0", "bytes=-0,99999999999-99999999999"])
    def test_one_that_cannot_be_satisfied_is_told_the_length(self, case: Case, value: str) -> None:
        site, target, data = case
        response = request(files(site), target, {"range": value})
        assert response.status == 416
        assert response.headers["content-range"] == f"bytes */{len(data)}"

    @pytest.mark.parametrize(
        "value",
        [
            *("lines=1-2", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "bytes=1-2-3", "bytes=0-1;2-3"),
            *("bytes=0x1-2", "bytes=+1-2", "bytes=1 - 2", "bytes=--1", "bytes=\u00b2-", "bytes=0-" + "9" * 1000),
            "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(limits.MAX_RANGES + 1)),
            "bytes=0-1" + " " * limits.MAX_FIELD_BYTES,
        ],
    )
    def test_a_field_that_is_no_range_is_ignored(self, case: Case, value: str) -> None:
        site, target, data = case
        response = request(files(site), target, {"range": value})
        assert (response.status, response.body) == (200, data)
        assert response.headers["accept-ranges"] == "bytes"

    def test_head_has_no_ranges(self, case: Case) -> None:
        site, target, data = case
        response = request(files(site), target, {"range": "bytes=0-1"}, method="HEAD")
        assert (response.status, response.headers["content-length"]) == (200, str(len(data)))

    def test_an_empty_file_is_sent_whole_for_its_last_bytes(self, case: Case) -> None:
        app = files(case[0])
        assert request(app, "/empty", {"range": "bytes=-5"}).status == 200
        assert request(app, "/empty", {"range": "bytes=0-"}).status == 416


class TestSeveralRanges:
    def test_they_come_as_parts_each_with_its_place(self, case: Case) -> None:
        site, target, data = case
        response = request(files(site), target, {"range": "bytes=-3,0-1, 50-59"})
        assert response.status == 206
        assert "content-range" not in response.headers
        assert len(response.body) == int(response.headers["content-length"])
        kind = response.headers["content-type"].encode()
        message = email.message_from_bytes(b"content-type: " + kind + b"\r\n\r\n" + response.body)
        assert message.get_content_type() == "multipart/byteranges"
        parts = [(p["content-range"], p.get_content_type(), p.get_payload(decode=True)) for p in message.get_payload()]
        size = len(data)
        assert parts == [
            (f"bytes 0-1/{size}", "application/octet-stream", data[:2]),
            (f"bytes 50-59/{size}", "application/octet-stream", data[50:60]),
            (f"bytes {size - 3}-{size - 1}/{size}", "application/octet-stream", data[-3:]),
        ]
        assert response.complete


ITEM = st.one_of(
    st.builds("{}-{}".format, st.integers(0, 300), st.integers(0, 300)),
    st.builds("{}-".format, st.integers(0, 300)),
    st.builds("-{}".format, st.integers(0, 300)),
)


def wanted(item: str, size: int) -> set[int] | None:
    """The positions that one range means; None if it is malformed."""
    first, _, last = item.partition("-")
    if not first:
        return set(range(max(0, size - int(last)), size))
    if last and int(last) < int(first):
        return None
    return set(range(int(first), min(size, int(last) + 1 if last else size)))


class TestParser:
    @given(st.lists(ITEM, min_size=1, max_size=limits.MAX_RANGES), st.integers(1, 250))
    def test_the_spans_are_the_bytes_asked_for_each_once(self, items: list[str], size: int) -> None:
        spans = parse_ranges(("bytes=" + ",".join(items)).encode(), size)
        meant = [wanted(item, size) for item in items]
        if None in meant:
            assert spans is None
            return
        assert spans is not None
        positions = [position for start, stop in spans for position in range(start, stop)]
        assert positions == sorted(set().union(*(part for part in meant if part is not None)))
        assert all(before[1] < after[0] for before, after in pairwise(spans))

    @given(st.binary(max_size=80), st.integers(0, 1000))
    def test_any_bytes_give_spans_within_the_file_or_none(self, value: bytes, size: int) -> None:
        for field in (value, b"bytes=" + value):
            for start, stop in parse_ranges(field, size) or ():
                assert 0 <= start < stop <= size

    @given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)).map(lambda pair: (pair[0], sum(pair)))))
    def test_coalescing_loses_and_adds_nothing(self, spans: list[tuple[int, int]]) -> None:
        def covered(of: list[tuple[int, int]]) -> set[int]:
            return {position for start, stop in of for position in range(start, stop)}

        assert covered(coalesced(spans)) == covered(spans)
