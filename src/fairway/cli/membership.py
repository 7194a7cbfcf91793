"""What the commands about membership share: names, ports, and what becomes of a host that has joined."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fairway.net.model.facts import IPAddress

if TYPE_CHECKING:
    from fairway.net.agent.local import Caller
    from fairway.net.enrolment import Credentials

F = TypeVar("F", bound=Callable[..., Any])

PORT = 7946


def name_option(command: F) -> F:
    """Give `command` the option --name."""
    return click.option("--name", metavar="NODE", help="What this host is called in the network; its hostname.")(
        command
    )


def this_name() -> str:
    """A node's name out of the hostname: its first label, in lower case, of letters, digits and hyphens."""
    label = socket.gethostname().partition(".")[0].lower()
    return re.sub(r"[^a-z0-9-]+", "-", label).strip("-")[:63] or "node"


def endpoint_text(address: IPAddress, port: int) -> str:
    """HOST:PORT."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def state_of(host: Caller) -> Path:
    """The directory of this host's state."""
    return Path(host.call("status")["state"]["path"]).parent


def pools_of(host: Caller, credentials: Credentials) -> list[str]:
    """Let this host's pods take their addresses from its blocks; returns them."""
    for block in credentials.permit.blocks:
        host.call("pool.add", {"network": str(block)})
    return [str(block) for block in credentials.permit.blocks]
