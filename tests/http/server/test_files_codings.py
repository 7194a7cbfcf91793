"""Content codings: what is negotiated (RFC 9110 section 12.5.3), from where it comes, what is kept."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import os
import random
from pathlib import Path
from typing import Any

import brotli
import pytest
from files_driver import ask, files, request, tree
from hypothesis import given
from hypothesis import strategies as st

from fairway.http.server.files import limits
from fairway.http.server.files.accept import preference
from fairway.http.server.files.cache import Cache

SCRIPT = b"function answer() { return 42; }\n" * 100
LARGE = b"".join(b"line %d of a large file\n" % number for number in range(60_000))
DECODE = {"br": brotli.decompress, "gzip": gzip.decompress, "identity": bytes}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    assert limits.MIN_COMPRESSED_BYTES < len(SCRIPT) < limits.SMALL_BYTES
    assert len(LARGE) > limits.MAX_COMPRESSED_WHOLE_BYTES
    noise = random.Random(1).randbytes(5000)
    return tree(
        tmp_path / "site",
        {
            "app.js": SCRIPT,
            "tiny.js": b"1",
            "photo.png": SCRIPT,
            "large.txt": LARGE,
            "noise.txt": noise,
            "empty.js": b"",
        },
    )


class TestPreference:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (None, ("identity",)),
            (b"", ("identity",)),
            (b"gzip, deflate, br, zstd", ("br", "gzip", "identity")),
            (b"gzip", ("gzip", "identity")),
            (b"x-gzip", ("gzip", "identity")),
            (b"GZIP;Q=0.5", ("gzip", "identity")),
            (b"br;q=0.5, gzip", ("gzip", "br", "identity")),
            (b"br;q=0, *", ("gzip", "identity")),
            (b"*", ("br", "gzip", "identity")),
            (b"*;q=0", ()),
            (b"*;q=0, identity", ("identity",)),
            (b"identity;q=0", ()),
            (b"identity;q=0.000, gzip;q=0.001", ("gzip",)),
            (b"identity, gzip;q=0.5", ("identity", "gzip")),
            (b"gzip;q=2, br;q=nan, gzip;x=1", ("identity",)),
            (b"gzip ; q=0.9 ,, br ;\tq=1.000", ("br", "gzip", "identity")),
            (b"gzip," + b" " * limits.MAX_NEGOTIATION_BYTES, ("identity",)),
        ],
    )
    def test_a_field_orders_the_codings(self, value: bytes | None, expected: tuple[str, ...]) -> None:
        assert preference(value) == expected

    @given(st.dictionaries(st.sampled_from(["br", "gzip", "identity", "*", "deflate"]), st.integers(0, 1000)))
    def test_what_is_weighed_is_ordered_by_its_weight(self, weights: dict[str, int]) -> None:
        value = ",".join(f"{coding};q={weight / 1000:.3f}" for coding, weight in weights.items()).encode()
        result = preference(value)
        others = weights.get("*")
        full = {coding: weights.get(coding, others or 0) for coding in ("br", "gzip")}
        full["identity"] = weights.get("identity", 0.5 if others is None else others)
        assert set(result) == {coding for coding, weight in full.items() if weight}
        assert all(full[before] >= full[after] for before, after in itertools.pairwise(result))

    @given(st.binary(max_size=100))
    def test_any_bytes_give_known_codings(self, value: bytes) -> None:
        assert set(preference(value)) <= {"br", "gzip", "identity"}


class TestCompressedHere:
    @pytest.mark.parametrize("coding", ["br", "gzip"])
    @pytest.mark.parametrize(("name", "data"), [("app.js", SCRIPT), ("large.txt", LARGE)])
    def test_text_is_compressed_and_says_so(self, site: Path, coding: str, name: str, data: bytes) -> None:
        app = files(site)
        plain = request(app, f"/{name}")
        response = request(app, f"/{name}", {"accept-encoding": coding})
        assert response.headers["content-encoding"] == coding
        assert response.headers["vary"] == plain.headers["vary"] == "accept-encoding"
        assert DECODE[coding](response.body) == data
        assert len(response.body) < len(data) / 2
        assert response.complete
        assert "accept-ranges" not in response.headers
        if name == "app.js":
            assert response.headers["content-length"] == str(len(response.body))
        else:
            assert "content-length" not in response.headers

    def test_head_has_the_same_fields(self, site: Path) -> None:
        app = files(site)
        for name in ("app.js", "large.txt"):
            get = request(app, f"/{name}", {"accept-encoding": "gzip"})
            head = request(app, f"/{name}", {"accept-encoding": "gzip"}, method="HEAD")
            assert (head.headers, head.body) == (get.headers, b"")

    def test_each_coding_has_an_etag_of_its_own_and_it_is_weak(self, site: Path) -> None:
        app = files(site)
        tags = [
            request(app, "/app.js", {"accept-encoding": coding}).headers["etag"]
            for coding in ("br", "gzip", "identity")
        ]
        assert len(set(tags)) == 3
        assert [tag.startswith("W/") for tag in tags] == [True, True, False]
        assert request(app, "/app.js", {"accept-encoding": "br", "if-none-match": tags[0]}).status == 304
        assert request(app, "/app.js", {"accept-encoding": "br", "if-none-match": tags[1]}).status == 200

    @pytest.mark.parametrize("name", ["tiny.js", "photo.png", "noise.txt", "empty.js"])
    def test_what_gains_nothing_stays_as_it_is(self, site: Path, name: str) -> None:
        response = request(files(site), f"/{name}", {"accept-encoding": "br, gzip"})
        assert "content-encoding" not in response.headers
        assert response.body == (site / name).read_bytes()

    @pytest.mark.parametrize("name", ["tiny.js", "photo.png", "noise.txt", "empty.js", "app.js", "large.txt"])
    def test_it_is_compressed_all_the_same_for_who_refuses_identity(self, site: Path, name: str) -> None:
        response = request(files(site), f"/{name}", {"accept-encoding": "gzip, identity;q=0", "range": "bytes=0-1"})
        assert (response.status, response.headers["content-encoding"]) == (200, "gzip")
        assert gzip.decompress(response.body) == (site / name).read_bytes()

    def test_406_only_if_nothing_remains(self, site: Path) -> None:
        app = files(site)
        for value in ("*;q=0", "identity;q=0", "identity;q=0, zstd"):
            response = request(app, "/app.js", {"accept-encoding": value})
            assert (response.status, response.headers["vary"]) == (406, "accept-encoding")
        for value in ("br;q=0, gzip;q=0", "zstd", "gzip;q=0, *;q=0, identity;q=0.1"):
            assert request(app, "/app.js", {"accept-encoding": value}).status == 200

    def test_a_range_is_of_the_file_as_it_is(self, site: Path) -> None:
        app = files(site)
        for name, data in (("app.js", SCRIPT), ("large.txt", LARGE)):
            response = request(app, f"/{name}", {"accept-encoding": "br, gzip", "range": "bytes=5-9"})
            assert (response.status, response.body) == (206, data[5:10])
            assert "content-encoding" not in response.headers
            assert response.headers["etag"] == request(app, f"/{name}").headers["etag"]
            compressed = request(app, f"/{name}", {"accept-encoding": "br"}).headers["etag"]
            again = {"accept-encoding": "br", "range": "bytes=5-9", "if-range": compressed}
            assert request(app, f"/{name}", again).status == 200

    def test_nothing_is_negotiated_when_compression_is_off(self, site: Path) -> None:
        tree(site, {"app.js.gz": gzip.compress(SCRIPT)})
        response = request(files(site, compress=False), "/app.js", {"accept-encoding": "gzip, identity;q=0"})
        assert response.body == SCRIPT
        assert "vary" not in response.headers

    def test_without_brotli_gzip_is_chosen(self, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fairway.http.server.files.representation.APPLIED", ("gzip",))
        response = request(files(site), "/app.js", {"accept-encoding": "br, gzip"})
        assert response.headers["content-encoding"] == "gzip"


class TestNeighbours:
    @pytest.fixture
    def made(self, site: Path) -> Path:
        compressed = {"app.js.br": brotli.compress(SCRIPT + b"//br"), "app.js.gz": gzip.compress(SCRIPT + b"//gz")}
        return tree(site, compressed | {"photo.png.gz": gzip.compress(b"png")})

    @pytest.mark.parametrize(
        ("accept", "coding", "data"),
        [
            ("br, gzip", "br", SCRIPT + b"//br"),
            ("gzip", "gzip", SCRIPT + b"//gz"),
            ("gzip, br;q=0.1", "gzip", SCRIPT + b"//gz"),
            ("identity, br;q=0.1", None, SCRIPT),
        ],
    )
    def test_a_compressed_neighbour_is_sent(self, made: Path, accept: str, coding: str | None, data: bytes) -> None:
        response = request(files(made), "/app.js", {"accept-encoding": accept})
        assert response.headers.get("content-encoding") == coding
        assert DECODE[coding or "identity"](response.body) == data
        assert response.headers["content-type"] == "text/javascript; charset=utf-8"
        assert response.headers["content-length"] == str(len(response.body))
        assert not response.headers["etag"].startswith("W/")

    def test_it_is_preferred_to_compressing_here_by_a_better_coding(self, made: Path) -> None:
        (made / "app.js.br").unlink()
        response = request(files(made), "/app.js", {"accept-encoding": "br, gzip"})
        assert gzip.decompress(response.body) == SCRIPT + b"//gz"

    def test_it_is_sent_whatever_the_type(self, made: Path) -> None:
        assert gzip.decompress(request(files(made), "/photo.png", {"accept-encoding": "gzip"}).body) == b"png"

    def test_it_has_ranges_of_its_own_bytes(self, made: Path) -> None:
        response = request(files(made), "/app.js", {"accept-encoding": "gzip", "range": "bytes=2-5"})
        data = (made / "app.js.gz").read_bytes()
        assert (response.status, response.body) == (206, data[2:6])
        assert response.headers["content-range"] == f"bytes 2-5/{len(data)}"
        assert response.headers["content-encoding"] == "gzip"

    def test_an_older_one_is_not_sent(self, made: Path) -> None:
        os.utime(made / "app.js.br", ns=(1_600_000_000_000_000_000,) * 2)
        response = request(files(made), "/app.js", {"accept-encoding": "br"})
        assert brotli.decompress(response.body) == SCRIPT

    def test_a_kept_one_is_not_sent_once_the_file_has_changed(self, made: Path) -> None:
        app = files(made)
        request(app, "/app.js", {"accept-encoding": "br"})
        (made / "app.js").write_bytes(b"new();" * 1000)
        response = request(app, "/app.js", {"accept-encoding": "br"})
        assert brotli.decompress(response.body) == b"new();" * 1000

    def test_a_neighbour_that_leads_outside_is_none(self, made: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(gzip.compress(b"secret"))
        (made / "app.js.gz").unlink()
        (made / "app.js.gz").symlink_to(tmp_path / "secret")
        response = request(files(made), "/app.js", {"accept-encoding": "gzip"})
        assert gzip.decompress(response.body) == SCRIPT

    def test_asked_for_by_its_own_name_it_is_an_archive(self, made: Path) -> None:
        response = request(files(made), "/app.js.gz")
        assert response.headers["content-type"] == "application/gzip"
        assert "content-encoding" not in response.headers


class TestKept:
    def test_a_small_reply_is_kept_and_needs_no_file_to_be_opened(
        self, site: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = files(site)
        first = [request(app, "/app.js", {"accept-encoding": coding}) for coding in ("br", "gzip", "identity")]

        def refuse(*_: object, **__: object) -> int:
            raise AssertionError("opened")

        monkeypatch.setattr(os, "open", refuse)
        again = [asyncio.run(ask(app, "/app.js", {"accept-encoding": c})) for c in ("br", "gzip", "identity")]
        assert again == first

    def test_a_kept_reply_is_not_sent_once_the_file_is_another(self, site: Path) -> None:
        app = files(site)
        for body in (b"first", b"other", b"third"):
            (site / "new").write_bytes(body)
            os.utime(site / "new", ns=(5_000_000_000,) * 2)
            (site / "new").rename(site / "tiny.js")
            assert request(app, "/tiny.js").body == body
        (site / "tiny.js").unlink()
        assert request(app, "/tiny.js").status == 404

    def test_what_changed_just_now_is_not_kept(self, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = []
        real = os.open

        def watched(*arguments: Any, **options: Any) -> int:
            opened.append(arguments)
            return real(*arguments, **options)

        monkeypatch.setattr(os, "open", watched)
        changed = (site / "tiny.js").stat().st_ctime_ns
        for milliseconds, opens_again in ((1, True), (60_000, False)):
            app = files(site, clock=lambda at=changed + milliseconds * 1_000_000: at)
            request(app, "/tiny.js")
            opened.clear()
            assert request(app, "/tiny.js").body == b"1"
            assert any(arguments[0] == "tiny.js" for arguments in opened) is opens_again

    def test_a_file_is_compressed_once_for_all_who_wait(self, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from fairway.http.server.files import representation

        calls = []
        compressed_file = representation.compressed_file

        def counted(*arguments: object) -> object:
            calls.append(arguments)
            return compressed_file(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(representation, "compressed_file", counted)
        app = files(site)

        async def many() -> list[bytes]:
            return [
                response.body
                for response in await asyncio.gather(
                    *(ask(app, "/app.js", {"accept-encoding": "gzip"}) for _ in range(20))
                )
            ]

        assert {gzip.decompress(body) for body in asyncio.run(many())} == {SCRIPT}
        assert len(calls) == 1

    def test_who_leaves_does_not_take_the_compressed_body_from_the_others(self, site: Path) -> None:
        app = files(site)

        async def leave() -> bytes:
            first = asyncio.ensure_future(ask(app, "/app.js", {"accept-encoding": "gzip"}))
            second = asyncio.ensure_future(ask(app, "/app.js", {"accept-encoding": "gzip"}))
            await asyncio.sleep(0)
            first.cancel()
            return (await second).body

        assert gzip.decompress(asyncio.run(leave())) == SCRIPT


class TestCache:
    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9000))))
    def test_it_stays_within_its_bounds(self, puts: list[tuple[int, int]]) -> None:
        cache: Cache[int, int] = Cache(max_bytes=20_000, max_entries=4)
        for key, body_bytes in puts:
            cache.put(key, body_bytes, body_bytes)
            assert cache.cost <= 20_000
            assert len(cache) <= 4
            assert cache.get(key) == body_bytes
        for key in range(10):
            cache.drop(key)
        assert (cache.cost, len(cache)) == (0, 0)

    def test_the_least_recently_used_goes_first(self) -> None:
        cache: Cache[str, int] = Cache(max_entries=2)
        cache.put("a", 1, 1)
        cache.put("b", 2, 1)
        cache.get("a")
        cache.put("c", 3, 1)
        assert [cache.get(key) for key in "abc"] == [1, None, 3]

    def test_what_is_larger_than_the_cache_is_not_kept(self) -> None:
        cache: Cache[str, int] = Cache(max_bytes=5000)
        cache.put("a", 1, 1)
        cache.put("b", 2, 5000)
        assert [cache.get(key) for key in "ab"] == [1, None]
