"""fairway status: how this host and its agent are."""

from __future__ import annotations

import time
from typing import Any

import click

from fairway.cli.host import this_host
from fairway.cli.output import json_option, plural, print_json, table

_BETWEEN_S = 1.0


@click.command(epilog="\b\nExamples:\n  fairway status\n  fairway status --watch")
@click.option("--watch", is_flag=True, help="Go on, once a second, until interrupted.")
@json_option
def status(watch: bool, as_json: bool) -> None:
    """Show this host's pods, pools and agent."""
    while True:
        with this_host() as host:
            document = host.call("status")
        if as_json:
            print_json(document)
        else:
            click.echo(("\x1b[H\x1b[2J" if watch else "") + _text(document))
        if not watch:
            return
        time.sleep(_BETWEEN_S)


def _text(document: dict[str, Any]) -> str:
    runtime = document["attachments"]
    lines = {
        "agent": _agent(document.get("agent")),
        "pods": f"{document['pods']}, {runtime} of them a runtime's" if runtime else str(document["pods"]),
        "routes": str(document["routes"]),
        "state": f"{document['state']['free_bytes'] >> 20} MiB free" if document["state"]["writable"] else "full",
    }
    if "agent" in document:
        lines |= _work(document["agent"])
    shown = "\n".join(f"{name:<10}{text}" for name, text in lines.items())
    rows = [
        (pool["name"], pool["network"], str(pool["taken"]), f"{100 * pool['taken'] / pool['capacity']:.0f} %")
        for pool in document["pools"]
    ]
    return f"{shown}\n\n{table(('pool', 'network', 'taken', 'full'), rows)}"


def _agent(agent: dict[str, Any] | None) -> str:
    if agent is None:
        return "none runs; the commands do their work themselves"
    ready = "ready" if agent["ready"] else "not ready"
    return f"{agent['version']}, pid {agent['pid']}, {ready}, up {_span(time.time() - agent['since'])}"


def _work(agent: dict[str, Any]) -> dict[str, str]:
    repaired = sum(agent["repaired"].values())
    drift = f"{plural(repaired, 'repair')}, {agent['failed']} failed"
    looked = f"{_span(time.time() - agent['last_looked'])} ago, in {agent['last_look_s']:.2f} s"
    return {
        "clients": f"{agent['clients']}, {agent['waiting']} waiting",
        "drift": drift if agent["repairs"] else "only said, not repaired",
        "last": agent["last_repair"] or "nothing had to be repaired",
        "look": looked,
    }


def _span(seconds: float) -> str:
    """A span of time as a person says it: 42 s, 5 min, 3 h, 2 d."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"
