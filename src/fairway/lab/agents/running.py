"""Agents of a lab's nodes as processes: started together, found without any memory of them, ended."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from fairway.lab import directory, processes
from fairway.lab.agents.main import MODULE
from fairway.net.agent.client import Client
from fairway.net.agent.protocol import AnswerError
from fairway.net.model.errors import FairwayError

_START_S = 60.0  # how long all of them may take to be ready, on a machine that is busy
_STOP_S = 3.0  # how long after SIGTERM before SIGKILL
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class NodeAgent:
    """A running agent; `start_time` tells it from a later process of the same number."""

    node: str
    pid: int
    start_time: int


def find(lab: str) -> dict[str, NodeAgent]:
    """The agents of the lab's nodes that run, by node; not those of one that has the same name elsewhere."""
    found = {}
    for pid in processes.numbers():
        node = _node_of(pid, lab)
        started = processes.start_time(pid) if node else None
        # One whose namespace was taken from under it is still ours, if it has our files.
        here = processes.is_in(pid, f"{lab}.{node}") or processes.shares(pid, "mnt")
        if started is not None and here and processes.shares(pid, "user"):
            found[node] = NodeAgent(node, pid, started)
    return found


def state(lab: str, node: str) -> str:
    """ "ready", or "not ready", as the node's running agent says itself."""
    return "ready" if _is_ready(lab, node) else "not ready"


def is_in_place(lab: str, agent: NodeAgent) -> bool:
    """Whether the agent is in the namespace that is its node's now."""
    return processes.is_in(agent.pid, f"{lab}.{agent.node}")


def start(lab: str, nodes: Iterable[str]) -> None:
    """Start the agents of these nodes, all at once; returns when all are ready. FairwayError: one of them is not."""
    starting = {node: _spawn(lab, node) for node in nodes}
    waiting: dict[str, int] = {}
    try:
        for node in list(starting):
            waiting[node] = _number_of(lab, node, starting.pop(node))
    finally:
        for process in starting.values():  # another one did not start
            process.communicate()
    deadline = time.monotonic() + _START_S
    while waiting:
        for node, pid in list(waiting.items()):
            if _is_ready(lab, node):
                del waiting[node]
            elif processes.start_time(pid) is None:
                raise FairwayError(f"the agent of {node} did not start: {_last_words(lab, node)}")
        if waiting and time.monotonic() > deadline:
            raise FairwayError(
                f"the agent of {next(iter(waiting))} was not ready after {_START_S:.0f} s",
                mend=f"see: {directory.agent_log(lab, next(iter(waiting)))}",
            )
        time.sleep(_LOOK_S if waiting else 0)


def end(agents: Iterable[NodeAgent], *, at_once: bool = False) -> None:
    """End them; `at_once`: without time to say goodbye. What they were at is undone or finished by the next."""
    for agent in agents:
        processes.end(agent.pid, lambda agent=agent: _is_it(agent), 0 if at_once else _STOP_S)  # type: ignore[misc]


def _is_it(agent: NodeAgent) -> bool:
    return processes.start_time(agent.pid) == agent.start_time


def _node_of(pid: int, lab: str) -> str:
    words = processes.command_line(pid)
    return words[-1] if len(words) > 4 and words[-4:-1] == ["-m", MODULE, lab] else ""


def _spawn(lab: str, node: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", MODULE, lab, node],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=processes.environment(),
        text=True,
    )


def _number_of(lab: str, node: str, first: subprocess.Popen[str]) -> int:
    said = first.communicate()[0].strip()
    if not said.isdecimal():
        raise FairwayError(f"the agent of {node} did not start: {said.splitlines()[-1] if said else 'it said nothing'}")
    return int(said)


def _is_ready(lab: str, node: str) -> bool:
    with contextlib.suppress(OSError, AnswerError), Client(directory.agent_socket(lab, node)) as client:
        return bool(client.call("status")["agent"]["ready"])
    return False


def _last_words(lab: str, node: str) -> str:
    with contextlib.suppress(OSError, IndexError):
        return directory.agent_log(lab, node).read_text(errors="replace").splitlines()[-1]
    return "it said nothing"
