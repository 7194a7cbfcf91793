"""Requests made to get at what lies outside a served directory, or to make the server spend without bound."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from files_driver import ask, files, open_descriptors, request, tree
from quic_attacker import bounded

from fairway.http.server.files import Files, limits
from fairway.http.server.files.cache import Cache

SECRET = b"root:x:0:0"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory, and beside it what must stay there."""
    tree(tmp_path, {"secret": SECRET, "site-secret/secret": SECRET})
    return tree(tmp_path / "site", {"index.html": b"home", "docs/a.txt": b"a", "big.bin": bytes(500_000)})


def refused(app: Files, target: str, **options: Any) -> None:
    response = request(app, target, **options)
    assert response.status in (404, 307), (target, response.status)
    assert SECRET not in response.body
    location = response.headers.get("location", "/")
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


class TestTraversal:
    @pytest.mark.parametrize(
        "up", ["..", "%2e%2e", ".%2e", "%2E.", "%252e%252e", "..%00", "..;", "..%20", "%c0%ae%c0%ae"]
    )
    @pytest.mark.parametrize("slash", ["/", "%2f", "%2F", "%252f", "\\", "%5c", "//", "/./", "%c0%af", "%e2%88%95"])
    def test_no_spelling_of_the_parent_leads_there(self, site: Path, up: str, slash: str) -> None:
        app = files(site, listing=True, hidden=True)
        for prefix in ("/", "/docs/", "/docs/" + up + slash):
            for steps in (1, 2, 8):
                refused(app, prefix + (up + slash) * steps + "secret")
                refused(app, prefix + (up + slash) * steps + "site-secret/secret")
            refused(app, prefix + up + slash[:0] + "/")

    def test_no_absolute_path_and_no_other_host_is_reached(self, site: Path) -> None:
        app = files(site, listing=True)
        absolute = str(site.parent / "secret")
        for target in (absolute, "/" + absolute, "//" + absolute, "file://" + absolute, "/%2f" + absolute.lstrip("/")):
            refused(app, target)
        for target in (
            "//evil.example/docs",
            "//evil.example/%2e%2e/docs",
            "/\\evil.example/docs",
            "///docs",
            "/%09/docs",
        ):
            refused(app, target)
        refused(app, "/docs", root_path="")

    def test_a_directory_whose_name_begins_alike_is_outside(self, site: Path) -> None:
        (site / "in").symlink_to("../site-secret/secret")
        (site / "absolute").symlink_to(site.parent / "site-secret" / "secret")
        for name in ("in", "absolute"):
            refused(files(site), f"/{name}")

    def test_what_proc_would_show_is_not_shown(self, site: Path) -> None:
        (site / "self").symlink_to("/proc/self")
        for name in ("environ", "root/etc/passwd", "cwd/secret", "fd/0"):
            refused(files(site), f"/self/{name}")


class TestRaces:
    def test_a_directory_exchanged_for_a_link_at_every_step_never_leads_outside(
        self, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before each call of the system that names something, `docs` becomes a link to the outside, at one of them."""
        tree(tmp_path / "outside", {"a.txt": SECRET})
        docs, aside = site / "docs", site / "aside"
        calls = {name: getattr(os, name) for name in ("open", "stat", "readlink")}
        exchanged = 0
        for step in range(12):
            count = 0

            def racing(name: str, at: int = step) -> Any:
                def call(*arguments: Any, **options: Any) -> Any:
                    nonlocal count, exchanged
                    count += 1
                    if count == at + 1:
                        exchanged += 1
                        docs.rename(aside)
                        docs.symlink_to(tmp_path / "outside")
                    return calls[name](*arguments, **options)

                return call

            app = files(site)
            with monkeypatch.context() as patched:
                for name in calls:
                    patched.setattr(os, name, racing(name))
                response = request(app, "/docs/a.txt")
            assert response.body in (b"a", b"404 Not Found\n")
            if docs.is_symlink():
                again = request(app, "/docs/a.txt")  # what was kept of the file inside is not what is there now
                assert again.status == 404
                docs.unlink()
                aside.rename(docs)
        assert exchanged >= 4

    def test_a_file_exchanged_for_a_link_after_it_was_looked_at_is_not_there(
        self, site: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = site / "docs" / "a.txt"
        real = os.stat

        def racing(name: Any, *arguments: Any, **options: Any) -> os.stat_result:
            status = real(name, *arguments, **options)
            if name == "a.txt" and not file.is_symlink():
                file.unlink()
                file.symlink_to(site.parent / "secret")
            return status

        app = files(site, symlinks="inside")
        monkeypatch.setattr(os, "stat", racing)
        assert request(app, "/docs/a.txt").status == 404
        assert file.is_symlink()

    def test_a_directory_exchanged_for_a_link_all_the_time_never_leads_outside(
        self, site: Path, tmp_path: Path
    ) -> None:
        tree(tmp_path / "outside", {"a.txt": SECRET})
        (site / "link").symlink_to(tmp_path / "outside")
        stop = threading.Event()

        def exchange() -> None:
            while not stop.is_set():
                for source, target in (("docs", "aside"), ("link", "docs"), ("docs", "link"), ("aside", "docs")):
                    (site / source).rename(site / target)

        thread = threading.Thread(target=exchange)
        thread.start()
        before = open_descriptors()
        bodies = set()
        try:
            for symlinks in ("inside", "never"):
                app = files(site, symlinks=symlinks)

                async def many(app: Files = app) -> None:
                    for _ in range(2000):
                        bodies.add((await ask(app, "/docs/a.txt")).body)

                asyncio.run(many())
        finally:
            stop.set()
            thread.join()
        assert SECRET not in bodies
        assert bodies <= {b"a", b"404 Not Found\n"}
        assert open_descriptors() == before


class TestSpecialFiles:
    @pytest.mark.parametrize("symlinks", ["inside", "never", "anywhere"])
    def test_a_fifo_or_a_device_is_not_there_and_is_not_opened(
        self, site: Path, symlinks: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.mkfifo(site / "fifo")
        os.mkfifo(site / "docs" / "index.html")
        (site / "zero").symlink_to("/dev/zero")
        app = files(site, symlinks=symlinks)
        opened = []
        real = os.open

        def watched(name: str, flags: int, *arguments: Any, **options: Any) -> int:
            if not flags & os.O_PATH:
                opened.append(name)
            return real(name, flags, *arguments, **options)

        monkeypatch.setattr(os, "open", watched)
        for target in ("/fifo", "/docs/", "/zero", "/fifo/"):
            refused(app, target)
        assert opened == []
        request(app, "/docs/a.txt")
        assert opened

    def test_a_fifo_as_a_compressed_neighbour_is_none(self, site: Path) -> None:
        os.mkfifo(site / "index.html.gz")
        assert request(files(site), "/index.html", {"accept-encoding": "gzip"}).body == b"home"


class TestSpending:
    def test_many_ranges_cost_one_whole_file_at_most(self, site: Path) -> None:
        app = files(site)
        size = (site / "big.bin").stat().st_size
        for value in (
            "bytes=" + ",".join(["0-"] * 1000),
            "bytes=" + ",".join(f"{n}-" for n in range(limits.MAX_RANGES)),
            "bytes=" + ",".join(["-400000"] * limits.MAX_RANGES),
            "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 4000, 2)),
            "bytes=" + "," * 3000 + "0-1",
        ):
            with bounded(steps=12_000, megabytes=4.0):
                response = request(app, "/big.bin", {"range": value})
            assert response.complete
            assert len(response.body) <= size

    def test_deep_and_long_paths_are_refused_before_they_cost(self, site: Path) -> None:
        app = files(site)
        (site / "self").symlink_to(".")
        before = open_descriptors()
        with bounded(steps=40_000, megabytes=4.0):
            for target in (
                "/" + "a" * 256,
                "/" + "a" * 100_000,
                "/a" * 50_000,
                "/docs" * 100,
                "/" + "self/" * 60 + "index.html",
                "/" + "%2e" * 1000,
                "/docs/" + "ü" * 255,
            ):
                refused(app, target)
        assert open_descriptors() == before

    def test_links_that_multiply_are_followed_a_bounded_number_of_times(self, site: Path) -> None:
        (site / "l0").symlink_to("docs")
        for level in range(1, 30):
            (site / f"l{level}").symlink_to("/".join([f"l{level - 1}/.."] * 2 + [f"l{level - 1}"]))
        with bounded(steps=8_000, megabytes=1.0):
            refused(files(site), "/l29/a.txt")
        assert request(files(site), "/l2/a.txt").body == b"a"
        (site / "weave").symlink_to("docs/../" * 100 + "docs")
        (site / "twice").symlink_to("weave/../weave")
        assert request(files(site), "/weave/a.txt").body == b"a"
        refused(files(site), "/twice/a.txt")

    def test_what_is_kept_is_bounded_however_a_file_is_asked_for(self, site: Path) -> None:
        app = files(site)
        (site / "self").symlink_to(".")

        async def many() -> None:
            for number in range(3000):
                q = f"0.{number % 1000:03}"
                target = "/" + "self/" * (number % 30) + "index.html"
                headers = {"accept-encoding": f"br;q={q}, gzip;q=0.5, x{number}", "if-none-match": f'"{number}"'}
                assert (await ask(app, target, headers)).status == 200

        asyncio.run(many())
        with bounded(steps=2_000_000, megabytes=1.0):
            asyncio.run(many())

    def test_fields_of_any_length_are_answered(self, site: Path) -> None:
        app = files(site)
        with bounded(steps=250_000, megabytes=8.0):
            for name in (
                "accept-encoding",
                "accept",
                "range",
                "if-none-match",
                "if-match",
                "if-modified-since",
                "if-range",
            ):
                for value in (
                    "," * 60_000,
                    '"' * 60_000,
                    "W/" * 30_000,
                    "9" * 60_000,
                    "a;q=" * 15_000,
                    "bytes=" * 9_000,
                ):
                    assert request(app, "/big.bin", {name: value}).status in (200, 412)


@pytest.mark.parametrize(("size", "kept"), [(0, 4_096), (64 * 1024, 496), (33 << 20, 0)])
def test_what_was_served_is_remembered_up_to_a_number_and_to_a_size(size: int, kept: int) -> None:
    cache: Cache[int, bytes] = Cache()
    for name in range(10_000):
        cache.put(name, b"", size)
    assert len(cache) == kept
    assert cache.cost <= 32 << 20
