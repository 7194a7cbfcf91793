"""What each request is answered: methods, types, directories, listings, errors."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from files_driver import LAST_MODIFIED, files, open_descriptors, request, tree

from fairway.http.server.files import Files, limits


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tree(
        tmp_path / "site",
        {
            "index.html": b"<p>home</p>",
            "a.txt": b"hello",
            "empty": b"",
            "docs/index.html": b"<p>docs</p>",
            "bare/one.txt": b"1",
            "bare/.secret": b"s",
            ".well-known/x": b"hidden",
            "naïve file.txt": b"n",
        },
    )


class TestMethods:
    def test_get_sends_the_file_with_its_length_type_and_validators(self, site: Path) -> None:
        response = request(files(site), "/a.txt")
        assert (response.status, response.body, response.complete) == (200, b"hello", True)
        assert response.headers["content-length"] == "5"
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["last-modified"] == LAST_MODIFIED
        assert response.headers["etag"].startswith('"')
        assert response.headers["vary"] == "accept-encoding"
        assert "cache-control" not in response.headers

    @pytest.mark.parametrize("target", ["/a.txt", "/empty", "/", "/docs", "/nothing", "/docs/", "/bare/"])
    def test_head_sends_the_same_fields_and_no_body(self, site: Path, target: str) -> None:
        app = files(site, listing=True)
        get, head = request(app, target), request(app, target, method="HEAD")
        assert (head.status, head.headers) == (get.status, get.headers)
        assert int(get.headers["content-length"]) == len(get.body)
        assert head.body == b""
        assert head.complete

    def test_options_says_what_is_allowed(self, site: Path) -> None:
        for target in ("/a.txt", "*"):
            response = request(files(site), target, method="OPTIONS")
            assert (response.status, response.headers, response.body) == (204, {"allow": "GET, HEAD, OPTIONS"}, b"")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "BREW"])
    def test_any_other_method_is_not_allowed(self, site: Path, method: str) -> None:
        response = request(files(site), "/a.txt", method=method)
        assert response.status == 405
        assert response.headers["allow"] == "GET, HEAD, OPTIONS"

    def test_cache_control_is_sent_when_it_is_given(self, site: Path) -> None:
        app = files(site, cache_control="public, max-age=60")
        assert request(app, "/a.txt").headers["cache-control"] == "public, max-age=60"


class TestTypes:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("x.html", "text/html; charset=utf-8"),
            ("x.css", "text/css; charset=utf-8"),
            ("x.mjs", "text/javascript; charset=utf-8"),
            ("x.js", "text/javascript; charset=utf-8"),
            ("x.md", "text/markdown; charset=utf-8"),
            ("x.wasm", "application/wasm"),
            ("x.json", "application/json"),
            ("x.toml", "application/toml"),
            ("x.avif", "image/avif"),
            ("x.webp", "image/webp"),
            ("x.svg", "image/svg+xml"),
            ("x.woff2", "font/woff2"),
            ("x.PNG", "image/png"),
            ("x.tar.gz", "application/gzip"),
            ("x.unheard-of", "application/octet-stream"),
            ("README", "application/octet-stream"),
            ("data:text,html", "application/octet-stream"),
        ],
    )
    def test_the_name_tells_the_type(self, tmp_path: Path, name: str, expected: str) -> None:
        tree(tmp_path, {name: b"."})
        assert request(files(tmp_path), "/" + name).headers["content-type"] == expected


class TestPaths:
    def test_a_name_is_decoded_once(self, site: Path) -> None:
        assert request(files(site), "/na%C3%AFve%20file.txt").body == b"n"
        assert request(files(site), "/na%25C3%25AFve%2520file.txt").status == 404

    def test_a_file_has_no_trailing_slash(self, site: Path) -> None:
        assert request(files(site), "/a.txt/").status == 404
        assert request(files(site), "/a.txt/x").status == 404

    def test_hidden_names_are_served_when_asked_for(self, site: Path) -> None:
        assert request(files(site), "/.well-known/x").status == 404
        assert request(files(site, hidden=True), "/.well-known/x").body == b"hidden"

    def test_a_directory_is_sent_to_its_slash_with_the_query_as_it_came(self, site: Path) -> None:
        response = request(files(site), "/docs?a=%2F&b=1")
        assert (response.status, response.headers["location"]) == (307, "/docs/?a=%2F&b=1")
        (site / "näh:x").mkdir()
        assert request(files(site), "/n%C3%A4h:x").headers["location"] == "/n%C3%A4h:x/"

    def test_a_directory_is_answered_by_its_index(self, site: Path) -> None:
        assert request(files(site), "/").body == b"<p>home</p>"
        assert request(files(site), "/docs/").body == b"<p>docs</p>"
        assert request(files(site), "/bare/").status == 404
        assert request(files(site, index="one.txt"), "/bare/").body == b"1"
        assert request(files(site, index=None), "/docs/").status == 404

    def test_a_mounted_application_serves_what_follows_its_mount(self, site: Path) -> None:
        app = files(site)
        assert request(app, "/static/a.txt", root_path="/static").body == b"hello"
        assert request(app, "/static/docs", root_path="/static").headers["location"] == "/static/docs/"
        assert request(app, "/static", root_path="/static").headers["location"] == "/static/"
        assert request(app, "/static/", root_path="/static").body == b"<p>home</p>"

    def test_a_root_that_is_exchanged_is_served_as_it_is_now(self, tmp_path: Path) -> None:
        tree(tmp_path, {"one/x": b"1", "two/x": b"2"})
        (tmp_path / "current").symlink_to("one")
        app = files(tmp_path / "current")
        assert request(app, "/x").body == b"1"
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(tmp_path / "current")
        assert request(app, "/x").body == b"2"


class TestListing:
    def test_a_page_lists_what_would_be_served(self, site: Path) -> None:
        (site / "bare" / "inside").symlink_to("one.txt")
        (site / "bare" / "outside").symlink_to("/etc/hostname")
        (site / "bare" / "sub").mkdir()
        os.mkfifo(site / "bare" / "fifo")
        response = request(files(site, listing=True), "/bare/")
        page = response.body.decode()
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert 'href="./sub/"' in page
        assert page.index('href="./sub/"') < page.index('href="./one.txt"')
        assert 'href="./inside"' in page
        assert 'href="../"' in page
        for absent in ("outside", "fifo", "secret"):
            assert absent not in page

    def test_a_name_is_text_wherever_it_is_shown(self, tmp_path: Path) -> None:
        name = "<script>alert('x')&\"; javascript:x"
        tree(tmp_path, {f"{name}/{name}": b"x"})
        response = request(files(tmp_path, listing=True), "/%3Cscript%3Ealert('x')&%22; javascript:x/")
        page = response.body.decode()
        assert response.status == 200
        assert "<script" not in page
        assert 'href="./%3Cscript%3Ealert%28%27x%27%29%26%22%3B%20javascript%3Ax"' in page
        assert response.headers["content-security-policy"].startswith("default-src 'none'")

    def test_json_lists_names_types_sizes_and_times(self, site: Path) -> None:
        response = request(files(site, listing=True), "/bare/", {"accept": "application/json"})
        assert response.headers["content-type"] == "application/json"
        assert response.headers["vary"] == "accept"
        entry = {"name": "one.txt", "type": "file", "size": 1, "modified": "2023-11-14T22:13:20+00:00"}
        assert json.loads(response.body) == {"entries": [entry], "complete": True}

    @pytest.mark.parametrize(
        ("accept", "is_json"),
        [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
            ("*/*", False),
            ("application/json, */*;q=0.1", True),
            ("application/json;q=0.5, text/html", False),
            ("application/json;q=0", False),
            ("nonsense", False),
        ],
    )
    def test_html_unless_json_is_wanted_more(self, site: Path, accept: str, is_json: bool) -> None:
        response = request(files(site, listing=True), "/bare/", {"accept": accept})
        assert (response.headers["content-type"] == "application/json") is is_json

    def test_a_listing_is_bounded_and_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tree(tmp_path, {f"{number}.txt": b"" for number in range(12)})
        monkeypatch.setattr("fairway.http.server.files.listing.MAX_LISTED", 10)
        document = json.loads(request(files(tmp_path, listing=True), "/", {"accept": "application/json"}).body)
        assert len(document["entries"]) == 10
        assert document["complete"] is False
        assert b"Only 10 of more" in request(files(tmp_path, listing=True), "/").body


class TestErrors:
    @pytest.mark.parametrize(
        ("number", "status"), [(errno.EACCES, 403), (errno.EMFILE, 503), (errno.ENAMETOOLONG, 404), (errno.ELOOP, 404)]
    )
    def test_what_the_file_system_refuses_has_a_status(
        self, site: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
    ) -> None:
        app = files(site)

        def refuse(*_: object, **__: object) -> int:
            raise OSError(number, "refused")

        monkeypatch.setattr(os, "open", refuse)
        response = request(app, "/a.txt")
        assert response.status == status
        assert len(response.body) == int(response.headers["content-length"])

    def test_an_error_of_the_disk_is_not_hidden_from_the_server(
        self, site: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = files(site)

        def fail(*_: object, **__: object) -> bytes:
            raise OSError(errno.EIO, "disk")

        monkeypatch.setattr(os, "pread", fail)
        before = open_descriptors()
        with pytest.raises(OSError, match="disk"):
            request(app, "/a.txt")
        assert open_descriptors() == before

    def test_a_bad_directory_or_option_is_named(self, site: Path) -> None:
        with pytest.raises(NotADirectoryError, match="no directory to serve files from"):
            Files(site / "a.txt")
        for option in ({"index": "../x"}, {"index": ""}, {"symlinks": "some"}, {"cache_control": "a\r\nb: c"}):
            with pytest.raises(ValueError, match=next(iter(option))):
                Files(site, **option)  # type: ignore[arg-type]

    def test_no_answer_leaves_a_descriptor_open(self, site: Path) -> None:
        tree(site, {"big": bytes(limits.SMALL_BYTES + 1)})
        (site / "link").symlink_to("docs/../a.txt")
        app = files(site, listing=True)
        asked = [
            ("/a.txt", {}),
            ("/big", {}),
            ("/big", {"if-none-match": "*"}),
            ("/big", {"if-match": '"x"'}),
            ("/big", {"range": "bytes=99999999-"}),
            ("/big", {"range": "bytes=0-1,3-4"}),
            ("/big", {"accept-encoding": "identity;q=0"}),
            ("/docs", {}),
            ("/docs/", {}),
            ("/bare/", {}),
            ("/a.txt/", {}),
            ("/link", {}),
            ("/none/at/all", {}),
            ("/docs/none", {}),
        ]
        before = open_descriptors()
        for method in ("GET", "HEAD"):
            for target, headers in asked:
                assert request(app, target, headers, method=method).status
        assert open_descriptors() == before


class TestOtherScopes:
    def test_a_lifespan_is_agreed_to(self, site: Path) -> None:
        waiting = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent: list[str] = []

        async def receive() -> Any:
            return waiting.pop(0)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        asyncio.run(files(site)({"type": "lifespan"}, receive, send))
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    def test_a_websocket_is_refused(self, site: Path) -> None:
        sent: list[str] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        asyncio.run(files(site)({"type": "websocket", "path": "/"}, receive, send))
        assert sent == ["websocket.close"]
