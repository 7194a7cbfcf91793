"""Putting the plugin in place, and taking it away: whole, and never over what is somebody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairway.cli import main
from fairway.net.cni import shim
from fairway.net.cni.install import Place, install_configuration, install_plugin, status, uninstall
from fairway.net.model.errors import NotOursError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "bin", tmp_path / "net.d", tmp_path / "cni.sock", tmp_path / "pending")


def standard(place: Place, name: str, *versions: str) -> None:
    """A plugin of the standard set, as far as it is asked for its versions."""
    place.bin_directory.mkdir(parents=True, exist_ok=True)
    program = place.bin_directory / name
    program.write_text(f"#!/bin/sh\necho '{json.dumps({'supportedVersions': versions})}'\n")
    program.chmod(0o755)


def written(place: Place) -> dict[str, object]:
    found = json.loads(place.configuration.read_text())
    assert isinstance(found, dict)
    return found


def test_alone_the_list_has_ours_in_every_version(place: Place) -> None:
    assert install_configuration(place, "pods") == ["fairway"]
    found = written(place)
    assert (found["name"], found["cniVersion"]) == ("pods", "1.0.0")
    assert found["cniVersions"] == ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    assert found["plugins"] == [{"type": "fairway", "capabilities": {"ips": True, "mac": True}}]


def test_standard_plugins_beside_ours_follow_it_in_the_versions_of_all(place: Place) -> None:
    standard(place, "portmap", "0.3.0", "0.3.1", "0.4.0")
    standard(place, "bandwidth", "0.4.0", "1.0.0")
    assert install_configuration(place, "pods") == ["fairway", "portmap", "bandwidth"]
    assert (written(place)["cniVersion"], written(place)["cniVersions"]) == ("0.4.0", ["0.4.0"])
    assert install_configuration(place, "pods", chain=False) == ["fairway"]


def test_a_plugin_that_has_no_version_in_common_does_not_follow(place: Place) -> None:
    standard(place, "portmap", "0.2.0")
    assert install_configuration(place, "pods") == ["fairway"]


def test_installed_again_everything_is_written_anew_and_nothing_else_is_there(place: Place) -> None:
    for kind in ("python", shim.best()):
        install_plugin(place, kind)
        install_configuration(place, "pods")
        assert status(place).shim == kind
    assert [path.name for path in place.bin_directory.iterdir()] == ["fairway"]
    assert [path.name for path in place.conf_directory.iterdir()] == ["10-fairway.conflist"]


def test_what_is_not_ours_is_never_overwritten_nor_removed(place: Place) -> None:
    place.bin_directory.mkdir()
    place.conf_directory.mkdir()
    place.plugin.write_text("#!/bin/sh\n")
    place.configuration.write_text('{"plugins": [{"type": "bridge"}]}')
    with pytest.raises(NotOursError, match="fairway exists and is not Fairway's"):
        install_plugin(place, "python")
    with pytest.raises(NotOursError, match=r"10-fairway.conflist exists and is not Fairway's"):
        install_configuration(place, "pods")
    assert uninstall(place) == []
    assert place.plugin.exists()
    assert place.configuration.exists()


def test_uninstalled_it_is_gone(place: Place) -> None:
    install_plugin(place, "python")
    install_configuration(place, "pods")
    assert uninstall(place) == [place.configuration, place.plugin]
    assert uninstall(place) == []


def test_status_tells_what_a_runtime_takes_first_and_how_many_deletions_wait(place: Place) -> None:
    install_plugin(place, "python")
    install_configuration(place, "pods")
    (place.conf_directory / "87-podman-bridge.conflist").write_text("{}")
    assert status(place).first == ""
    (place.conf_directory / "05-other.conf").write_text("{}")
    place.pending.mkdir()
    (place.pending / "1.1").write_bytes(b"\0")
    found = status(place)
    assert (found.first, found.pending, found.network) == ("05-other.conf", 1, "pods")
    assert "no agent answers" in found.agent


class TestCommand:
    def run(self, place: Place, *arguments: str) -> tuple[int, str]:
        folders = ["--bin-dir", str(place.bin_directory), "--conf-dir", str(place.conf_directory)]
        done = CliRunner().invoke(main, ["cni", *arguments, *folders])
        return done.exit_code, done.output

    def test_install_says_where_and_with_what(self, place: Place) -> None:
        code, printed = self.run(place, "install", "--network", "pods", "--pool", "10.7.0.0/16")
        assert code == 0, printed
        assert f"{place.plugin}: the plugin, in {shim.best().capitalize()}" in printed
        assert "the network pods: fairway" in printed
        assert "10.7.0.0/16" in CliRunner().invoke(main, ["pool", "ls"]).output

    def test_install_refuses_a_name_that_is_none_before_it_writes(self, place: Place) -> None:
        code, printed = self.run(place, "install", "--network", "-x")
        assert code != 0
        assert "network name '-x' is not valid" in printed
        assert not place.plugin.exists()

    def test_status_ends_with_1_while_no_agent_answers(self, place: Place) -> None:
        self.run(place, "install")
        code, printed = self.run(place, "status", "--json")
        assert (code, json.loads(printed)["ready"]) == (1, False)

    def test_uninstall_lists_what_it_removed(self, place: Place) -> None:
        self.run(place, "install")
        assert self.run(place, "uninstall")[1].count("removed") == 2
        assert "nothing of Fairway's" in self.run(place, "uninstall")[1]
