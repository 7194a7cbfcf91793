"""fairway ls: the labs, and their members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fairway.cli import names
from fairway.cli.output import json_option, print_json, print_table
from fairway.cli.places import enter_labs

if TYPE_CHECKING:
    from fairway import lab
    from fairway.lab.agents.running import NodeAgent


@click.command(epilog="\b\nExamples:\n  fairway ls\n  fairway ls two-hosts --json")
@click.argument("name", metavar="[LAB]", required=False, shell_complete=names.complete_labs)
@json_option
def ls(name: str | None, as_json: bool) -> None:
    """List the labs that run, with what makes their links' faults; or the nodes and pods of one."""
    enter_labs()
    from fairway import lab

    labs = [lab.find(name)] if name else lab.running()
    if as_json:
        print_json({"labs": [_document(each) for each in labs]})
    elif name:
        _print_members(labs[0])
    else:
        rows = [
            (each.name, str(len(each.nodes())), str(len(each.pods())), each.engine, each.source or "unknown")
            for each in labs
        ]
        print_table(("lab", "nodes", "pods", "faults by", "file"), rows, "no lab is running; fairway up FILE")


def _print_members(running: lab.RunningLab) -> None:
    agents = running.agents()
    rows: list[tuple[str, ...]] = [
        (
            node.name,
            "router" if node.router else "node",
            "",
            " ".join(map(str, node.addresses)),
            node.namespace,
            _agent(running, agents, node),
        )
        for node in running.nodes()
    ]
    rows += [
        (pod.name, "pod", pod.node, " ".join(map(str, pod.addresses)), pod.namespace, "") for pod in running.pods()
    ]
    header = ["name", "kind", "on", "addresses", "namespace", "agent"]
    if not agents:
        header, rows = header[:-1], [row[:-1] for row in rows]
    print_table(header, rows, f"only namespaces are left of {running.name}")


def _agent(running: lab.RunningLab, agents: dict[str, NodeAgent], node: lab.NodeView) -> str:
    if node.router:
        return ""
    return f"pid {agents[node.name].pid}, {running.agent_state(node.name)}" if node.name in agents else "none runs"


def _document(running: lab.RunningLab) -> dict[str, Any]:
    agents = {node: {"pid": agent.pid, "state": running.agent_state(node)} for node, agent in running.agents().items()}
    nodes = [
        {
            "name": node.name,
            "router": node.router,
            "namespace": node.namespace,
            "addresses": [str(address) for address in node.addresses],
            "agent": agents.get(node.name),
        }
        for node in running.nodes()
    ]
    pods = [
        {
            "name": pod.name,
            "node": pod.node,
            "namespace": pod.namespace,
            "addresses": [str(address) for address in pod.addresses],
            "mtu": pod.mtu,
        }
        for pod in running.pods()
    ]
    return {"name": running.name, "file": running.source, "engine": running.engine, "nodes": nodes, "pods": pods}
