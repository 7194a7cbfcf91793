"""The agent's configuration: a TOML file, checked whole; an error names the file, the key and what is expected."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from fairway.net.agent.peers.options import PeerOptions
from fairway.net.agent.protocol import DEFAULT_SOCKET
from fairway.net.cni import PENDING as CNI_PENDING
from fairway.net.cni import SOCKET as CNI_SOCKET
from fairway.net.host.host import DEFAULT_STATE
from fairway.net.ipam import check_pool
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress
from fairway.net.model.pod import VXLAN_PORT
from fairway.net.model.pool import DEFAULT_COOLDOWN_S, Pool

DEFAULT_PATH = Path("/etc/fairway/agent.toml")

EXAMPLE = """\
# The agent of this host; every line below is what holds without it.
state = "/var/lib/fairway"
socket = "/run/fairway/agent.sock"
leave_foreign_chains = false   # true: add no rules to other programs' FORWARD chains that drop

[cni]
socket = "/run/fairway/cni.sock"   # of the plugin that container runtimes call; beside the agent's own by default
pending = "/var/lib/fairway/cni-pending"   # where it notes deletions while no agent runs; in `state` by default

[repair]
enabled = true                 # false: what drifts is said, and left
every_s = 60                   # a look at everything; changes are seen at once, by the kernel's own messages
settings_every_s = 2           # of some settings, and of iptables-legacy, the kernel tells nothing

[metrics]
listen = ""                    # such as "127.0.0.1:9469": /metrics for Prometheus, /healthz, /readyz

[log]
format = "text"                # "json": an object a line
level = "info"                 # "debug", "warning", "error"

[peers]                        # other hosts of the network, once this one has joined it
addresses = []                 # this host's own, for the others; [] finds them
port = 0                       # UDP; 0: the network's
call = []                      # whom to call besides those that are known: "192.0.2.1", "[2001:db8::1]:7946"
only_these = false             # true: call nobody of whom only other peers tell
detection_s = 1.0              # how soon the routes of a host that is dead go
cross_subnet = "router"        # "vxlan": to hosts behind routers that know no pods, within VXLAN; all hosts alike
vxlan_port = 4789              # UDP
restart_s = 120.0              # how long those of a host are kept while its agent is away

# What pods take their addresses from; as many as you like.
# [[pool]]
# network = "10.0.3.0/24"      # this host's block
# of = "10.0.0.0/16"           # of this network
# name = "main"
# namespaces = ["shop"]        # only for pods of these Kubernetes namespaces
# networks = ["podnet"]        # only for pods of these CNI networks
# cooldown_s = 60
"""


@dataclass(frozen=True, slots=True)
class Config:
    """What an agent is told. Times are in seconds."""

    state: Path = DEFAULT_STATE
    socket: Path = DEFAULT_SOCKET
    cni_socket: Path = CNI_SOCKET
    cni_pending: Path = CNI_PENDING
    leave_foreign_chains: bool = False
    repair: bool = True
    every_s: float = 60.0
    settings_every_s: float = 2.0
    metrics: tuple[str, int] | None = None
    log_format: str = "text"
    log_level: str = "info"
    pools: tuple[Pool, ...] = field(default=())
    peers: PeerOptions = field(default=PeerOptions())


_LIVE = ("repair", "every_s", "settings_every_s", "log_format", "log_level", "pools")
"""What an agent that runs can take over; the rest holds from its next start."""


def reloaded(running: Config, new: Config) -> tuple[Config, list[str]]:
    """What holds for an agent that runs and is told `new`, and the names of what else of that differs."""
    others = [each.name for each in fields(Config) if each.name not in _LIVE]
    later = [name for name in others if getattr(running, name) != getattr(new, name)]
    return replace(running, **{name: getattr(new, name) for name in _LIVE}), later


def load(path: Path) -> Config:
    """The configuration in the file at `path`; a file that is missing or wrong is a UsageError."""
    try:
        text = path.read_bytes().decode()
        document = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", mend="see: fairway agent config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", mend="it is to be TOML; see: fairway agent config") from None
    return parse(document, str(path))


def parse(document: dict[str, Any], where: str) -> Config:
    """The configuration in a TOML `document`; `where` is what errors call it."""
    top = _Table(document, where, "")
    cni, repair, metrics, log, peers = (top.table(name) for name in ("cni", "repair", "metrics", "log", "peers"))
    socket = top.path("socket", DEFAULT_SOCKET)
    state = top.path("state", DEFAULT_STATE)
    config = Config(
        state=state,
        socket=socket,
        cni_socket=cni.path("socket", socket.with_name(CNI_SOCKET.name)),
        cni_pending=cni.path("pending", state / CNI_PENDING.name),
        leave_foreign_chains=top.flag("leave_foreign_chains", default=False),
        repair=repair.flag("enabled", default=True),
        every_s=repair.seconds("every_s", 60.0),
        settings_every_s=repair.seconds("settings_every_s", 2.0),
        metrics=_listen(metrics),
        log_format=log.choice("format", ("text", "json")),
        log_level=log.choice("level", ("info", "debug", "warning", "error")),
        pools=_pools(top.tables("pool")),
        peers=_peers(peers),
    )
    for table in (top, cni, repair, metrics, log, peers):
        table.finish()
    return config


def _listen(table: _Table) -> tuple[str, int] | None:
    text = table.text("listen", "")
    if not text:
        return None
    host, _, port = text.rpartition(":")
    try:
        address = str(ip_address(host.strip("[]")))
        if not 0 < int(port) < 65536:
            raise ValueError
    except ValueError:
        raise table.wrong("listen", 'an address and a port, such as "127.0.0.1:9469"', text) from None
    return address, int(port)


def _peers(table: _Table) -> PeerOptions:
    return PeerOptions(
        addresses=tuple(table.address("addresses", text) for text in table.texts("addresses")),
        port=table.port("port", 0),
        peers=tuple(table.texts("call")),
        static_only=table.flag("only_these", default=False),
        detection_s=table.seconds("detection_s", 1.0),
        vxlan_port=_vxlan_port(table),
        restart_s=table.seconds("restart_s", 120.0),
    )


def _vxlan_port(table: _Table) -> int:
    port = table.port("vxlan_port", VXLAN_PORT) or VXLAN_PORT
    return port if table.choice("cross_subnet", ("router", "vxlan")) == "vxlan" else 0


def _pools(tables: Iterable[_Table]) -> tuple[Pool, ...]:
    pools: list[Pool] = []
    for table in tables:
        whole = table.text("of", "")
        pool = Pool(
            table.parsed("network", ip_network, table.text("network")),
            table.text("name", ""),
            table.parsed("of", ip_network, whole) if whole else None,
            frozenset(table.texts("namespaces")),
            frozenset(table.texts("networks")),
            int(table.seconds("cooldown_s", DEFAULT_COOLDOWN_S)),
        )
        table.finish()
        try:
            pools.append(check_pool(pool, [other.block for other in pools]))
        except UsageError as error:
            raise UsageError(f"{table.place}: {error.message}", mend=error.mend) from None
    return tuple(pools)


class _Table:
    """One table of the file, and which of its keys were asked for."""

    def __init__(self, document: dict[str, Any], where: str, name: str) -> None:
        self._document = document
        self._where = where
        self._name = name
        self._known: set[str] = set()

    @property
    def place(self) -> str:
        """The file and the table."""
        return f"{self._where}: {self._name}" if self._name else self._where

    def wrong(self, key: str, expected: str, found: object) -> UsageError:
        """The error of a value that is not as it should be."""
        name = f"{self._name}.{key}" if self._name else key
        return UsageError(f"{self._where}: {name} is {found!r}", mend=f"it is to be {expected}")

    def finish(self) -> None:
        """An error if there is a key that nobody asked for."""
        for key in self._document:
            if key not in self._known:
                name = f"{self._name}.{key}" if self._name else key
                known = ", ".join(sorted(self._known))
                raise UsageError(f"{self._where}: {name} is not a key of an agent's", mend=f"there are: {known}")

    def table(self, key: str) -> _Table:
        """A table in this one; an empty one if it is not there."""
        found = self._get(key, {})
        if not isinstance(found, dict):
            raise self.wrong(key, "a table", found)
        return _Table(found, self._where, key)

    def tables(self, key: str) -> list[_Table]:
        """The tables of an array."""
        found = self._get(key, [])
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise self.wrong(key, f"tables, each beginning with [[{key}]]", found)
        return [_Table(each, self._where, f"{key} {number}") for number, each in enumerate(found, 1)]

    def text(self, key: str, default: str | None = None) -> str:
        """Text; without a default it must be there."""
        found = self._get(key, default)
        if not isinstance(found, str):
            raise self.wrong(key, "text", found)
        return found

    def texts(self, key: str) -> list[str]:
        """A list of texts."""
        found = self._get(key, [])
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise self.wrong(key, "a list of texts", found)
        return found

    def path(self, key: str, default: Path) -> Path:
        """An absolute path."""
        found = self.text(key, str(default))
        if not found.startswith("/"):
            raise self.wrong(key, "an absolute path", found)
        return Path(found)

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        found = self._get(key, default)
        if not isinstance(found, bool):
            raise self.wrong(key, "true or false", found)
        return found

    def seconds(self, key: str, default: float) -> float:
        """A number of seconds, from a tenth to a day."""
        found = self._get(key, default)
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0.1 <= found <= 86_400:
            raise self.wrong(key, "a number of seconds, from 0.1 to 86400", found)
        return float(found)

    def address(self, key: str, text: str) -> IPAddress:
        """The address in `text`."""
        try:
            return ip_address(text)
        except ValueError as error:
            raise self.wrong(key, f"addresses, such as 192.0.2.1 ({error})", text) from None

    def port(self, key: str, default: int) -> int:
        """A port's number, or 0."""
        found = self._get(key, default)
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 65536:
            raise self.wrong(key, "the number of a port", found)
        return found

    def choice(self, key: str, words: tuple[str, ...]) -> str:
        """One of `words`, the first of which is the default."""
        found = self._get(key, words[0])
        if found not in words:
            raise self.wrong(key, f"one of {', '.join(words)}", found)
        return str(found)

    def parsed(self, key: str, parse: Callable[[str], Any], text: str) -> Any:
        """What `parse` makes of `text`; its ValueError becomes one that names the key."""
        try:
            return parse(text)
        except ValueError as error:
            raise self.wrong(key, f"a network, such as 10.0.3.0/24 ({error})", text) from None

    def _get(self, key: str, default: Any) -> Any:
        self._known.add(key)
        return self._document.get(key, default)
