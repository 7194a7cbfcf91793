"""fairway cni: the plugin that container runtimes call, put in place, looked at, taken away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from fairway.cli.host import this_host
from fairway.cli.output import json_option, plural, print_json
from fairway.net.cni import install as installing
from fairway.net.cni import shim
from fairway.net.cni.install import CONF_DIRECTORY, Place
from fairway.net.cni.server import SOCKET
from fairway.net.cni.service import PENDING
from fairway.net.model.names import check_network
from fairway.net.model.pod import parse_network

F = TypeVar("F", bound=Callable[..., Any])

_FOLDER = click.Path(path_type=Path, file_okay=False)


def _place_options(command: F) -> F:
    """Give `command` the options that say where things are."""
    for decorate in (
        click.option("--conf-dir", type=_FOLDER, default=CONF_DIRECTORY, show_default=True, help="Networks' folder."),
        click.option("--bin-dir", type=_FOLDER, help="Plugins' folder. Default: containerd's."),
    ):
        command = decorate(command)
    return command


def _place(bin_dir: Path | None, conf_dir: Path, socket: Path = SOCKET, pending: Path = PENDING) -> Place:
    return Place(bin_dir or installing.default_bin_directory(), conf_dir, socket, pending)


@click.group(epilog="\b\nExample:\n  fairway cni install --pool 10.0.1.0/24 && fairway cni status")
def cni() -> None:
    """The plugin that containerd, Podman and Kubernetes call for their pods."""


@cni.command(epilog="\b\nExample:\n  fairway cni install --network pods --pool 10.0.1.0/24")
@_place_options
@click.option("--network", default="fairway", show_default=True, help="The network's name.")
@click.option("--pool", "pools", multiple=True, metavar="CIDR", help="Add a pool, as `fairway pool add` does.")
@click.option("--chain/--no-chain", default=True, help="Have portmap and bandwidth follow, where they are installed.")
@click.option("--shim", "kind", type=click.Choice(["perl", "python"]), help="Default: perl where there is one.")
@click.option("--plugin-only", is_flag=True, help="Write no network's configuration.")
@click.option("--socket", type=click.Path(path_type=Path), default=SOCKET, hidden=True)
@click.option("--pending", type=click.Path(path_type=Path), default=PENDING, hidden=True)
@json_option
def install(
    bin_dir: Path | None,
    conf_dir: Path,
    network: str,
    pools: tuple[str, ...],
    chain: bool,
    kind: str | None,
    plugin_only: bool,
    socket: Path,
    pending: Path,
    as_json: bool,
) -> None:
    """Put the plugin and its network's configuration where runtimes look.

    Files that are not Fairway's are never overwritten. Runtimes take the change up by themselves; pods that run are
    not touched.
    """
    place = _place(bin_dir, conf_dir, socket, pending)
    chosen = kind or shim.best()
    networks = [parse_network(cidr, "--pool") for cidr in pools]
    check_network(network)
    installing.install_plugin(place, chosen)
    plugins = [] if plugin_only else installing.install_configuration(place, network, chain=chain)
    if networks:
        with this_host() as host:
            for each in networks:
                host.call("pool.add", {"network": str(each)})
    if as_json:
        written = {"plugin": str(place.plugin), "shim": chosen}
        if plugins:
            written |= {"configuration": str(place.configuration), "network": network}
        print_json(written | {"plugins": plugins})
        return
    click.echo(f"{place.plugin}: the plugin, in {chosen.capitalize()}")
    if plugins:
        click.echo(f"{place.configuration}: the network {network}: {installing.names_of(plugins)}")
    found = installing.status(place)
    if found.agent:
        click.echo(f"{found.agent}: start one with `fairway agent`, then see: fairway cni status")


@cni.command(epilog="\b\nExample:\n  fairway cni uninstall")
@_place_options
@json_option
def uninstall(bin_dir: Path | None, conf_dir: Path, as_json: bool) -> None:
    """Take away what `install` wrote. Pods that run go on; their runtime needs the plugin to delete them."""
    removed = installing.uninstall(_place(bin_dir, conf_dir))
    if as_json:
        print_json({"removed": [str(path) for path in removed]})
        return
    for path in removed:
        click.echo(f"removed {path}")
    if not removed:
        click.echo("nothing of Fairway's was there", err=True)


@cni.command(epilog="\b\nExample:\n  fairway cni status --json")
@_place_options
@json_option
def status(bin_dir: Path | None, conf_dir: Path, as_json: bool) -> None:
    """Whether a runtime would find the plugin, and the plugin its agent. Exit code 1 if not."""
    found = installing.status(_place(bin_dir, conf_dir))
    ready = bool(found.shim and found.network and not found.first and not found.agent)
    if as_json:
        told = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(found).items()}
        print_json(told | {"ready": ready})
    else:
        for line in _lines(found):
            click.echo(line)
    if not ready:
        raise SystemExit(1)


def _lines(found: installing.Status) -> list[str]:
    kind = f"ours, in {found.shim.capitalize()}" if found.shim else "not there: fairway cni install"
    network = f"the network {found.network}" if found.network else "not there: fairway cni install"
    if found.plugins:
        network += f": {installing.names_of(found.plugins)}"
    lines = [
        f"plugin         {found.plugin}: {kind}",
        f"configuration  {found.configuration}: {network}",
        f"agent          {found.agent or 'ready'}",
    ]
    if found.first:
        lines.append(f"in the way     runtimes take {found.configuration.parent / found.first}, the first by its name")
    if found.pending:
        lines.append(f"waiting        {plural(found.pending, 'deletion')} for the agent to do")
    return lines
