"""Paths: the names in them, and that walking never leaves the directory."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from files_driver import files, request, tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairway.http.server.files import limits
from fairway.http.server.files.errors import Refused
from fairway.http.server.files.path import below_mount, location_of, names_of
from fairway.http.server.files.tree import Tree


class TestNames:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/", ((), True)),
            ("", ((), False)),
            ("/a", (("a",), False)),
            ("/a/b/", (("a", "b"), True)),
            ("/%2e%2e/a", (("%2e%2e", "a"), False)),  # decoded already: these are the name's own characters
            ("/a b/ü", (("a b", "ü"), False)),
            ("/a...", (("a...",), False)),
        ],
    )
    def test_a_path_is_its_names_and_whether_it_ends_in_a_slash(
        self, path: str, expected: tuple[tuple[str, ...], bool]
    ) -> None:
        assert names_of(path, hidden=False) == expected

    @pytest.mark.parametrize(
        "path",
        [
            *("a", "//", "//a", "/a//b", "/..", "/../a", "/a/..", "/a/../b", "/.", "/./a", "/a\0b", "/a\\b", "/..\\a"),
            *("/\ud800", "/\udcff", "/" + "a" * limits.MAX_PATH_BYTES, "/a" * (limits.MAX_STEPS + 1), "*"),
        ],
    )
    def test_a_doubtful_path_is_refused(self, path: str) -> None:
        with pytest.raises(Refused) as refused:
            names_of(path, hidden=True)
        assert refused.value.status == 404

    @given(st.text(st.sampled_from("./\\\0ab%é\ud800"), max_size=30))
    def test_no_name_leads_up_or_to_another_place(self, path: str) -> None:
        try:
            names, _ = names_of("/" + path, hidden=True)
        except Refused:
            return
        assert all(name not in ("", ".", "..") and not set(name) & set("/\\\0") for name in names)

    @given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=5), max_size=4), st.binary(max_size=10))
    def test_a_redirection_stays_on_this_host_and_in_one_line(self, mount: str, names: list[str], query: bytes) -> None:
        path = "/" + "/".join(names)
        try:
            found, _ = names_of(path, hidden=True)
            mount.encode()
        except (Refused, UnicodeEncodeError):
            return
        location = location_of(mount, found, query)
        assert location.startswith(b"/")
        assert not location.startswith((b"//", b"/\\"))
        assert location.isascii()
        assert not set(location) & set(b"\r\n \0\\")

    def test_a_mount_is_taken_off_only_whole(self) -> None:
        assert below_mount("/static/a", "/static") == "/a"
        assert below_mount("/static/a", "/static/") == "/a"
        assert below_mount("/statics/a", "/static") == "/statics/a"
        assert below_mount("/a", "/static") == "/a"
        assert below_mount("/static", "/static") == ""


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """A directory with links of every kind, and a secret beside it."""
    root = tree(tmp_path / "root", {"a/file": b"inside", "a/b/deep": b"inside", "x": b"inside", "2/x": b"inside"})
    tree(tmp_path, {"secret": b"outside", "root2/x": b"outside"})
    links = {
        "up": "..",
        "a/up": "..",
        "a/out": "../../secret",
        "a/b/back": "../../x",
        "abs-in": str(root / "a"),
        "abs-out": str(tmp_path / "secret"),
        "abs-beside": str(tmp_path / "root2" / "x"),
        "abs-tricky": str(root / "a" / ".." / ".." / "secret"),
        "loop": "loop",
        "self": ".",
        "twice": "abs-in/b/back",
        "etc": "/etc",
        "a/chain": "../up/secret",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    return root


class TestSymbolicLinks:
    @pytest.mark.parametrize(
        "path", ["a/b/back", "a/up/x", "abs-in/file", "twice", "self/self/x", "a/up/a/up/x", "abs-in/up/x"]
    )
    def test_those_that_stay_inside_are_followed(self, ground: Path, path: str) -> None:
        assert request(files(ground), "/" + path).body == b"inside"
        assert request(files(ground, symlinks="never"), "/" + path).status == 404
        assert request(files(ground, symlinks="anywhere"), "/" + path).body == b"inside"

    @pytest.mark.parametrize(
        "path",
        ["up/secret", "a/out", "abs-out", "abs-beside", "abs-tricky", "etc/hostname", "a/chain", "self/up/secret"],
    )
    def test_those_that_lead_outside_are_not(self, ground: Path, path: str) -> None:
        assert request(files(ground), "/" + path).status == 404
        assert request(files(ground, symlinks="never"), "/" + path).status == 404
        assert request(files(ground, symlinks="anywhere"), "/" + path).status == 200

    def test_a_loop_is_nothing(self, ground: Path) -> None:
        for symlinks in ("inside", "never", "anywhere"):
            assert request(files(ground, symlinks=symlinks), "/loop").status == 404

    def test_a_mounted_configuration_is_served_through_its_hidden_links(self, tmp_path: Path) -> None:
        tree(tmp_path, {"..2026/app.conf": b"x"})  # what Kubernetes makes of a ConfigMap
        (tmp_path / "..data").symlink_to("..2026")
        (tmp_path / "app.conf").symlink_to("..data/app.conf")
        assert request(files(tmp_path), "/app.conf").body == b"x"

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
    @given(
        st.lists(
            st.sampled_from(
                [
                    "up",
                    "a",
                    "b",
                    "out",
                    "back",
                    "abs-in",
                    "self",
                    "twice",
                    "etc",
                    "chain",
                    "x",
                    "file",
                    "secret",
                    "root",
                ]
            ),
            max_size=7,
        )
    )
    def test_whatever_is_opened_lies_inside(self, ground: Path, names: list[str]) -> None:
        try:
            found = Tree(ground).open(tuple(names))
        except OSError:
            return
        try:
            place = Path(f"/proc/self/fd/{found.descriptor}").readlink()
            assert f"{place}/".startswith(str(ground) + "/")
            assert stat.S_ISREG(found.status.st_mode) or stat.S_ISDIR(found.status.st_mode)
        finally:
            found.close()
