"""A lab's node as a host: the same as a real one, in another namespace, with its state in the lab's directory."""

from __future__ import annotations

from fairway.lab import directory
from fairway.net.host import Host, Identity


def node_identity(lab: str, node: str) -> Identity:
    """Which host the node is."""
    home = f"{lab}.{node}"
    return Identity(home, f"{home}.", f"fairway lab {lab} node {node} pod")


def node_host(lab: str, node: str, *, touch_foreign_chains: bool = True) -> Host:
    """The node's host."""
    return Host(directory.node_state(lab, node), node_identity(lab, node), touch_foreign_chains=touch_foreign_chains)
