"""Where a running lab's files are: its topology as it was brought up, and a state directory for each node."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from fairway.net.model.errors import FairwayError

LABS = Path("/run/fairway/labs")
NODE = "FAIRWAY_NODE"
"""The variable that names the lab's node, as LAB/NODE, in whose place a command stands."""

_LOCKS = Path("/run/fairway/locks")


def names() -> list[str]:
    """The labs that have a directory, whether or not anything of them is left in the kernel."""
    return sorted(path.name for path in LABS.iterdir()) if LABS.is_dir() else []


def node_state(lab: str, node: str) -> Path:
    """The state directory of a node's host."""
    return LABS / lab / "nodes" / node


def node_environment(lab: str, node: str) -> dict[str, str]:
    """By what a command is told that this host is the node: NODE where no agent answers, the others for programs."""
    return {
        NODE: f"{lab}/{node}",
        "FAIRWAY_SOCKET": str(agent_socket(lab, node)),
        "FAIRWAY_STATE": str(node_state(lab, node)),
    }


def agent_config(lab: str, node: str) -> Path:
    """What the node's agent is told, as any agent is."""
    return node_state(lab, node) / "agent.toml"


def agent_socket(lab: str, node: str) -> Path:
    """Where the node's agent listens."""
    return node_state(lab, node) / "agent.sock"


def agent_log(lab: str, node: str) -> Path:
    """What the node's agent says."""
    return node_state(lab, node) / "agent.log"


def write_topology(lab: str, text: str, source: Path) -> None:
    """Keep the topology that the lab is brought up by; written before anything is made, so that `down` finds it all."""
    directory = LABS / lab
    try:
        directory.mkdir(parents=True, exist_ok=True)
        new = directory / "topology.new"
        new.write_text(json.dumps({"source": str(source), "text": text}))
        new.replace(directory / "topology.json")
    except OSError as error:
        raise FairwayError(f"cannot write {directory}: {error.strerror}", mend="run it as root") from None


def read_topology(lab: str) -> tuple[str, str]:
    """The text of the topology and the path it came from; empty if there is none."""
    try:
        kept = json.loads((LABS / lab / "topology.json").read_text())
        return str(kept["text"]), str(kept["source"])
    except (OSError, ValueError, KeyError):
        return "", ""


def forget_node(lab: str, node: str) -> None:
    """Remove the state of a node that is no more."""
    shutil.rmtree(node_state(lab, node), ignore_errors=True)


def forget(lab: str) -> None:
    """Remove all that is kept of a lab."""
    shutil.rmtree(LABS / lab, ignore_errors=True)


@contextlib.contextmanager
def lock(lab: str) -> Iterator[None]:
    """Let one `up` or `down` of a lab happen at a time."""
    try:
        _LOCKS.mkdir(parents=True, exist_ok=True)
        file = open(_LOCKS / lab, "w")  # noqa: SIM115 - held in the with block below
    except OSError as error:
        raise FairwayError(f"cannot write {_LOCKS}: {error.strerror}", mend="run it as root") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
