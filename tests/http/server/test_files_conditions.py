"""Preconditions, in the order of RFC 9110 section 13.2.2, and dates in their three forms."""

from __future__ import annotations

from pathlib import Path

import pytest
from files_driver import EARLIER, LAST_MODIFIED, LATER, files, request, tree
from hypothesis import given
from hypothesis import strategies as st

from fairway.http.server.files.conditional import matches
from fairway.http.server.files.dates import format_date, parse_date

NOW = 1_800_000_000  # 2027


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tree(tmp_path / "site", {"a.txt": b"0123456789"})


def answer(site: Path, headers: dict[str, str], method: str = "GET") -> int:
    """The status; ETAG in a field stands for the right one."""
    app = files(site)
    etag = request(app, "/a.txt").headers["etag"]
    return request(app, "/a.txt", {k: v.replace("ETAG", etag) for k, v in headers.items()}, method=method).status


class TestPreconditions:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"if-match": "ETAG"}, 200),
            ({"if-match": '"other", ETAG'}, 200),
            ({"if-match": "*"}, 200),
            ({"if-match": '"other"'}, 412),
            ({"if-match": "W/ETAG"}, 412),  # 13.1.1: strong comparison
            ({"if-match": "garbage"}, 412),
            ({"if-unmodified-since": LAST_MODIFIED}, 200),
            ({"if-unmodified-since": LATER}, 200),
            ({"if-unmodified-since": EARLIER}, 412),
            ({"if-unmodified-since": "garbage"}, 200),
            ({"if-none-match": "ETAG"}, 304),
            ({"if-none-match": "W/ETAG"}, 304),  # 13.1.2: weak comparison
            ({"if-none-match": '"a","b" , ETAG'}, 304),
            ({"if-none-match": "*"}, 304),
            ({"if-none-match": '"other"'}, 200),
            ({"if-none-match": "garbage"}, 200),
            ({"if-modified-since": LAST_MODIFIED}, 304),
            ({"if-modified-since": LATER}, 304),
            ({"if-modified-since": EARLIER}, 200),
            ({"if-modified-since": "garbage"}, 200),
            ({"if-modified-since": "Tuesday, 14-Nov-23 22:13:20 GMT"}, 304),
            ({"if-modified-since": "Tue Nov 14 22:13:20 2023"}, 304),
        ],
    )
    def test_each_has_its_answer(self, site: Path, headers: dict[str, str], status: int) -> None:
        assert answer(site, headers) == status
        assert answer(site, headers, "HEAD") == status

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"if-match": "ETAG", "if-unmodified-since": EARLIER}, 200),  # If-Match comes first, the date is ignored
            ({"if-match": '"other"', "if-none-match": "ETAG"}, 412),
            ({"if-match": "ETAG", "if-none-match": "ETAG"}, 304),
            ({"if-unmodified-since": EARLIER, "if-none-match": "ETAG"}, 412),
            ({"if-none-match": '"other"', "if-modified-since": LAST_MODIFIED}, 200),  # If-None-Match: no date counts
            ({"if-none-match": "ETAG", "if-modified-since": EARLIER}, 304),
            ({"if-none-match": "ETAG", "range": "bytes=0-1"}, 304),
            ({"if-match": '"other"', "range": "bytes=0-1"}, 412),
            ({"if-match": "ETAG", "range": "bytes=99-"}, 416),
        ],
    )
    def test_they_go_before_each_other_in_order(self, site: Path, headers: dict[str, str], status: int) -> None:
        assert answer(site, headers) == status

    @pytest.mark.parametrize(
        ("condition", "status"),
        [
            ("ETAG", 206),
            ('"other"', 200),
            ("W/ETAG", 200),
            (LAST_MODIFIED, 206),
            (LATER, 200),  # 13.1.5: a date must be the same
            ("garbage", 200),
        ],
    )
    def test_if_range_chooses_between_the_range_and_the_whole(self, site: Path, condition: str, status: int) -> None:
        assert answer(site, {"if-range": condition, "range": "bytes=0-1"}) == status

    def test_304_repeats_the_validators_and_says_nothing_of_a_body(self, site: Path) -> None:
        app = files(site, cache_control="max-age=5")
        response = request(app, "/a.txt", {"if-none-match": "*"})
        assert set(response.headers) == {"etag", "last-modified", "vary", "cache-control"}
        assert response.body == b""
        assert response.complete

    def test_the_etag_is_another_after_each_change(self, site: Path) -> None:
        app = files(site)
        seen = {request(app, "/a.txt").headers["etag"]}
        path = site / "a.txt"
        tree(site, {"a.txt": b"longer than before"})  # the size
        seen.add(request(app, "/a.txt").headers["etag"])
        path.write_bytes(b"changed to as many")  # the time
        seen.add(request(app, "/a.txt").headers["etag"])
        tree(site, {"b": b"changed to as many"})
        (site / "b").rename(path)  # the inode, and the time
        response = request(app, "/a.txt")
        seen.add(response.headers["etag"])
        assert len(seen) == 4

    def test_the_etag_of_a_file_that_changed_just_now_is_weak(self, site: Path) -> None:
        status = (site / "a.txt").stat()
        young = files(site, clock=lambda: status.st_mtime_ns + 1_000_000)
        response = request(young, "/a.txt")
        assert response.headers["etag"].startswith('W/"')
        etag = response.headers["etag"]
        assert request(young, "/a.txt", {"if-none-match": etag}).status == 304
        for condition in (etag, etag.removeprefix("W/"), LAST_MODIFIED):
            assert request(young, "/a.txt", {"if-range": condition, "range": "bytes=0-1"}).status == 200


class TestEntityTags:
    @given(st.lists(st.from_regex(rb'\A(W/)?"[\x21\x23-\x7e\x80-\xff]{0,8}"\Z'), min_size=1, max_size=6))
    def test_every_tag_of_a_list_is_found(self, tags: list[bytes]) -> None:
        value = b" , ".join(tags)
        for tag in tags:
            assert matches(value, tag, weak=True)
            assert matches(value, tag, weak=False) is not tag.startswith(b"W/")

    @given(st.binary(max_size=60))
    def test_any_bytes_are_compared_without_an_error(self, value: bytes) -> None:
        assert matches(value, b'"' + b"z" * 99 + b'"', weak=True) is (value == b"*")


class TestDates:
    @given(st.integers(min_value=0, max_value=253_402_300_799))
    def test_a_date_is_read_as_it_was_written(self, seconds: int) -> None:
        assert parse_date(format_date(seconds), now=NOW) == seconds

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (b"Sun, 06 Nov 1994 08:49:37 GMT", 784111777),  # the three forms of 5.6.7
            (b"Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
            (b"Sun Nov  6 08:49:37 1994", 784111777),
            (b"Friday, 06-Nov-70 08:49:37 GMT", 3182489377),  # within fifty years from now
            (b"Sun, 31 Feb 1994 08:49:37 GMT", None),
            (b"Sun, 06 Now 1994 08:49:37 GMT", None),
            (b"Sun, 06 Nov 1994 24:49:37 GMT", None),
            (b"Sun, 00 Nov 1994 08:49:37 GMT", None),
            (b"Sun, 06 Nov 0000 08:49:37 GMT", None),
            (b"Sun, 06 Nov 1994 08:49:37 CET", None),
            (b"", None),
        ],
    )
    def test_the_forms_that_rfc_9110_allows(self, value: bytes, seconds: int | None) -> None:
        assert parse_date(value, now=NOW) == seconds

    @given(st.from_regex(rb"\A[A-Z][a-z]{2}, [0-9]{2} (Feb|Dec|Xxx) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT\Z"))
    def test_what_looks_like_a_date_is_one_or_none(self, value: bytes) -> None:
        seconds = parse_date(value, now=NOW)
        assert seconds is None or isinstance(seconds, int)
