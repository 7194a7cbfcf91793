"""This machine as a host: opened for a command, with what its reader should know first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fairway.cli import problems
from fairway.lab import rootless
from fairway.lab.directory import NODE

if TYPE_CHECKING:
    from fairway.net.agent.local import Caller
    from fairway.net.host import Host

F = TypeVar("F", bound=Callable[..., Any])


@contextlib.contextmanager
def this_host(*, leave_foreign_chains: bool = False) -> Iterator[Caller]:
    """This host, which is root's to change: its agent if one runs, else this process itself, with the same calls.

    A state that had to be rebuilt is warned of.
    """
    if not rootless.privileged():
        raise problems.needs_root()
    from fairway.net.agent.client import Client, socket_path

    try:
        client = Client(socket_path())
    except OSError:
        pass  # no agent runs
    else:
        with client:
            yield client
        return
    from fairway.net.agent.local import InProcess

    with _opened(touch_foreign_chains=not leave_foreign_chains) as host:
        if host.corrupt is not None:
            problems.warn(f"{host.corrupt.message}; what the kernel has of it was taken over")
        yield InProcess(host)


def lab_node() -> tuple[str, str] | None:
    """The lab and the node that this process stands in, if `fairway exec` began it."""
    lab, _, node = os.environ.get(NODE, "").partition("/")
    return (lab, node) if node else None


def _opened(*, touch_foreign_chains: bool) -> Host:
    place = lab_node()
    if place is not None:
        from fairway.lab.nodes import node_host

        return node_host(*place, touch_foreign_chains=touch_foreign_chains)
    from fairway.net.host import Host

    return Host(touch_foreign_chains=touch_foreign_chains)


def has_state() -> bool:
    """Whether this machine was ever used as a host."""
    from fairway.net.host.host import DEFAULT_STATE

    return (Path(os.environ.get("FAIRWAY_STATE", DEFAULT_STATE)) / "state.db").exists()


def leave_foreign_chains_option(command: F) -> F:
    """Give `command` the option --leave-foreign-chains."""
    return click.option(
        "--leave-foreign-chains",
        is_flag=True,
        help="Add no rules to other programs' FORWARD chains that drop; only report them.",
    )(command)


def warn_of_chains(document: dict[str, Any]) -> None:
    """Warn of other programs' chains that drop what pods send, if the answered `document` has any."""
    for chain in document.get("foreign_chains", ()):
        reason = chain["reason"]
        problems.warn(f"{chain_name(chain)} drops what it does not know ({reason}): pods may not be let through")


def chain_name(chain: dict[str, Any]) -> str:
    """The chain, as its own tools would name it."""
    family = f"{chain['family']} " if chain["family"] and chain["engine"] == "nft" else ""
    return f"{chain['engine']} {family}{chain['table']} {chain['chain']}"
