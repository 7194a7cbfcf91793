"""Putting the plugin and a network's configuration where runtimes look, and taking them away again."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairway.net.cni import shim
from fairway.net.cni.configuration import CAPABILITIES, PLUGIN_TYPE
from fairway.net.cni.pending import waiting_in
from fairway.net.cni.server import SOCKET
from fairway.net.cni.service import PENDING
from fairway.net.cni.versions import SUPPORTED
from fairway.net.cni.wire import Request, ask, message_of
from fairway.net.model.errors import FairwayError, NotOursError

BIN_DIRECTORIES = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
"""Where runtimes look for plugins: upstream's folder, and Debian's."""

CONTAINERD_CONFIGURATION = Path("/etc/containerd/config.toml")
CONF_DIRECTORY = Path("/etc/cni/net.d")
CONF_NAME = "10-fairway.conflist"

PARTNERS = {"portmap": "portMappings", "bandwidth": "bandwidth"}
"""Plugins that follow ours where they are installed, and what they are asked for by."""

_SAFE_VERSION = "1.0.0"  # the newest that a libcni of before 2024 takes; newer ones look at cniVersions


@dataclass(frozen=True, slots=True)
class Place:
    """Where things are put."""

    bin_directory: Path
    conf_directory: Path = CONF_DIRECTORY
    socket: Path = SOCKET
    pending: Path = PENDING

    @property
    def plugin(self) -> Path:
        """The executable."""
        return self.bin_directory / PLUGIN_TYPE

    @property
    def configuration(self) -> Path:
        """The network list."""
        return self.conf_directory / CONF_NAME


@dataclass(slots=True)
class Status:
    """What there is, and what a runtime would find."""

    plugin: Path
    shim: str = ""  # "perl", "python"; empty: no plugin there, or not ours
    configuration: Path = CONF_DIRECTORY / CONF_NAME
    network: str = ""  # empty: no configuration there, or not ours
    first: str = ""  # the file of the configuration directory that a runtime takes, if it is another
    agent: str = ""  # what STATUS says; empty: ready
    pending: int = 0  # deletions that wait for the agent
    plugins: list[str] = field(default_factory=list)


def default_bin_directory() -> Path:
    """The folder that containerd's configuration names, else the first of the usual ones that there is."""
    named = _containerd_bin_directory()
    if named is not None:
        return named
    return next((path for path in BIN_DIRECTORIES if path.is_dir()), BIN_DIRECTORIES[0])


def _containerd_bin_directory() -> Path | None:
    try:
        document = tomllib.loads(CONTAINERD_CONFIGURATION.read_text())
        return Path(document["plugins"]["io.containerd.grpc.v1.cri"]["cni"]["bin_dir"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def install_plugin(place: Place, kind: str) -> None:
    """Write the executable, with the shim of that kind."""
    _refuse_foreign(place.plugin, ours=_is_our_plugin(place.plugin))
    _write(place.plugin, shim.source(kind, place.socket, place.pending), 0o755)


def install_configuration(place: Place, network: str, *, chain: bool = True) -> list[str]:
    """Write the network list; returns the plugins in it. With `chain`, the standard ones beside ours follow it."""
    _refuse_foreign(place.configuration, ours=_our_list(place.configuration) is not None)
    versions = set(SUPPORTED)
    plugins: list[dict[str, Any]] = [{"type": PLUGIN_TYPE, "capabilities": dict.fromkeys(CAPABILITIES, True)}]
    for name, capability in PARTNERS.items() if chain else ():
        spoken = _versions(place.bin_directory / name)
        if versions & spoken:
            versions &= spoken
            plugins.append({"type": name, "capabilities": {capability: True}})
    common = [version for version in SUPPORTED if version in versions]
    document = {
        "cniVersion": _SAFE_VERSION if _SAFE_VERSION in common else common[-1],
        "cniVersions": common,
        "name": network,
        "plugins": plugins,
    }
    _write(place.configuration, json.dumps(document, indent=2) + "\n", 0o644)
    return [str(plugin["type"]) for plugin in plugins]


def uninstall(place: Place) -> list[Path]:
    """Take away the network list, then the executable, if they are ours; returns what was taken away."""
    removed = []
    if _our_list(place.configuration) is not None:
        place.configuration.unlink()
        removed.append(place.configuration)
    if _is_our_plugin(place.plugin):
        place.plugin.unlink()
        removed.append(place.plugin)
    return removed


def status(place: Place) -> Status:
    """What there is."""
    found = Status(place.plugin, configuration=place.configuration, pending=len(waiting_in(place.pending)))
    if _is_our_plugin(place.plugin):
        found.shim = "perl" if "perl" in _beginning(place.plugin).splitlines()[0] else "python"
    document = _our_list(place.configuration)
    if document is not None:
        found.network = str(document.get("name", ""))
        found.plugins = [str(plugin.get("type")) for plugin in document["plugins"]]
    found.first = _first_other(place.configuration)
    found.agent = _ask_agent(place.socket)
    return found


def _ask_agent(socket: Path) -> str:
    request = {"cniVersion": SUPPORTED[-1], "name": PLUGIN_TYPE, "type": PLUGIN_TYPE}
    try:
        answer = ask(socket, Request({"CNI_COMMAND": "STATUS"}, json.dumps(request).encode()))
    except (OSError, ValueError):
        return f"no agent answers at {socket}"
    return "" if answer.exit_code == 0 else message_of(answer)


def _first_other(configuration: Path) -> str:
    """The file that a runtime takes before ours, as it takes the first by name; empty if it takes ours."""
    if not configuration.parent.is_dir():
        return ""
    suffixes = (".conf", ".conflist", ".json")
    names = sorted(path.name for path in configuration.parent.iterdir() if path.suffix in suffixes)
    return names[0] if names and names[0] != configuration.name else ""


def _versions(plugin: Path) -> set[str]:
    """What a standard plugin speaks; nothing if it is not there."""
    try:
        done = subprocess.run(
            [plugin], input=b'{"cniVersion":"1.0.0"}', env={"CNI_COMMAND": "VERSION"}, capture_output=True, timeout=10
        )
        return set(json.loads(done.stdout)["supportedVersions"])
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return set()


def _refuse_foreign(path: Path, *, ours: bool) -> None:
    if path.exists() and not ours:
        raise NotOursError(f"{path} exists and is not Fairway's", mend="choose another place, or remove it")


def _is_our_plugin(path: Path) -> bool:
    return shim.MARK in _beginning(path)


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(400).decode(errors="replace")
    except OSError:
        return ""


def _our_list(path: Path) -> dict[str, Any] | None:
    """The network list at `path`, if its first plugin is ours."""
    try:
        document = json.loads(path.read_text())
        return document if document["plugins"][0]["type"] == PLUGIN_TYPE else None
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def _write(path: Path, text: str, mode: int) -> None:
    """The whole file or none of it, whatever happens meanwhile: a runtime may look at any moment."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.chmod(mode)
        new.rename(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise FairwayError(
            f"cannot write {path}: {error.strerror}", mend="run it as root, or choose a folder"
        ) from None


def names_of(plugins: Sequence[str]) -> str:
    """Plugins in a sentence: "fairway, then portmap and bandwidth"."""
    first, *others = plugins
    return f"{first}, then {' and '.join(others)}" if others else first
