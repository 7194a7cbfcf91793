"""A lab taken down, whatever state it is in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fairway.lab import directory, ground, impairment
from fairway.lab.agents import running
from fairway.net.kernel import Kernel
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import Namespace
from fairway.net.reconcile import plan


@dataclass(frozen=True, slots=True)
class Ended:
    """What `down` took away. `processes` still run in namespaces that have lost their names and their links."""

    name: str
    namespaces: int
    processes: tuple[int, ...]


def down(name: str) -> Ended:
    """Take away everything of the lab `name`: agents, relays, pods, nodes, links, files. What is not ours stays."""
    with directory.lock(name):
        kernel = Kernel()
        try:
            if not ground.namespaces(kernel, name) and name not in directory.names():
                raise UsageError(f"no lab {name!r} is running", mend="see: fairway ls")
            ended = end_namespaces(kernel, name)
        finally:
            kernel.close()
        directory.forget(name)
    return ended


def end_namespaces(kernel: Kernel, name: str) -> Ended:
    """Take away all of a lab that is in the kernel."""
    running.end(running.find(name).values(), at_once=True)  # first, or they would repair what goes
    impairment.end_relays(name)
    marks = ground.namespaces(kernel, name)
    processes = _processes_in({kernel.namespace_identity(found) for found in marks})
    failures = kernel.execute(plan((), {Namespace(found, mark) for found, mark in marks.items()}))
    kernel.sweep_placeholders(f"{name}.")
    if failures:
        raise failures[0].error
    return Ended(name, len(marks), processes)


def _processes_in(identities: set[int]) -> tuple[int, ...]:
    """The processes that are in one of these namespaces, known by their inodes."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                inside = os.stat(entry / "ns/net").st_ino in identities
            except OSError:
                continue  # ended meanwhile, or another user's
            if inside:
                found.append(int(entry.name))
    return tuple(sorted(found))
