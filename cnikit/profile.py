"""What the kit must know of a plugin to use it: its configuration, and what it can do beyond the SPEC's minimum."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnikit.isolation import KitError

PLUGIN_PATH = "/usr/lib/cni:/opt/cni/bin"
"""Where the standard plugins are looked for: as delegates, and as partners in a chain."""

_SHIPPED = Path(__file__).parent / "profiles"
_KEYS = {"program", "config", "scarce", "dual", "capabilities", "daemon", "private", "path", "files"}


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process that the plugin needs: started in the kit's namespaces before each case, ready once `ready` exists."""

    command: tuple[str, ...]
    ready: Path


@dataclass(frozen=True, slots=True)
class Variant:
    """Another network of the plugin's: another configuration, and another daemon where it is the daemon that knows."""

    config: dict[str, Any]
    daemon: Daemon | None = None
    addresses: int = 0  # how many it has for containers, where that is what it is for


@dataclass(frozen=True, slots=True)
class Profile:
    """A plugin under test. `config` is its plugin configuration object, without the keys that a runtime sets."""

    name: str
    program: Path
    config: dict[str, Any] = field(default_factory=dict)
    scarce: Variant | None = None  # that has few addresses
    dual: Variant | None = None  # that gives a container IPv4 and IPv6
    capabilities: frozenset[str] = frozenset()
    daemon: Daemon | None = None
    private: tuple[Path, ...] = (Path("/var/lib/cni"),)
    files: dict[str, str] = field(default_factory=dict)  # written before the daemon starts, under /run or `private`
    path: str = PLUGIN_PATH

    @property
    def delegates(self) -> bool:
        """Whether the plugin calls others, and so cannot do without CNI_PATH."""
        return bool(self.config.get("ipam", {}).get("type"))

    @property
    def search_path(self) -> str:
        """CNI_PATH as a runtime would give it: the plugin's own folder first."""
        return f"{self.program.parent}:{self.path}"


def profile_for(program: Path, config: Path | None = None) -> Profile:
    """The profile of a plugin: from `config` (a profile in TOML, or a plugin's configuration in JSON), else shipped."""
    if config is None:
        shipped = _SHIPPED / f"{program.name}.toml"
        return _from_toml(shipped, program) if shipped.exists() else Profile(program.name, program)
    if config.suffix == ".toml":
        return _from_toml(config, program)
    try:
        written = json.loads(config.read_text())
    except (OSError, ValueError) as error:
        raise KitError(f"{config}: {error}") from None
    if not isinstance(written, dict):
        raise KitError(f"{config}: a plugin's configuration is a JSON object")
    first = written["plugins"][0] if written.get("plugins") else written
    own = {key: value for key, value in first.items() if key not in ("cniVersion", "name", "type", "capabilities")}
    return Profile(program.name, program, own, capabilities=frozenset(first.get("capabilities", {})))


def shipped_profiles() -> list[Profile]:
    """Every plugin that a profile is shipped for and that is on this machine, ours to read in a stable order."""
    found = [_from_toml(path) for path in sorted(_SHIPPED.glob("*.toml"))]
    return [profile for profile in found if profile.program.exists()]


def _from_toml(path: Path, program: Path | None = None) -> Profile:
    try:
        written = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise KitError(f"{path}: {error}") from None
    if unknown := written.keys() - _KEYS:
        raise KitError(f"{path}: unknown key {sorted(unknown)[0]!r}; known are {', '.join(sorted(_KEYS))}")
    if program is None and "program" not in written:
        raise KitError(f"{path}: it names no `program`, and none was given")
    program = program or Path(written["program"])
    return Profile(
        name=path.stem,
        program=program,
        config=written.get("config", {}),
        scarce=_variant(written, "scarce", path),
        dual=_variant(written, "dual", path),
        capabilities=frozenset(written.get("capabilities", ())),
        daemon=_daemon(written.get("daemon")),
        private=tuple(Path(one) for one in written.get("private", ["/var/lib/cni"])),
        files=written.get("files", {}),
        path=written.get("path", PLUGIN_PATH),
    )


def _variant(written: dict[str, Any], key: str, path: Path) -> Variant | None:
    table = written.get(key)
    if table is None:
        return None
    if key == "scarce" and not table.get("addresses"):
        raise KitError(f"{path}: [scarce] must say how many `addresses` there are")
    config = table.get("config", written.get("config", {}))
    return Variant(config, _daemon(table.get("daemon")), table.get("addresses", 0))


def _daemon(table: dict[str, Any] | None) -> Daemon | None:
    return None if table is None else Daemon(tuple(table["command"]), Path(table["ready"]))
