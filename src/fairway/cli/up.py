"""fairway up: a lab, as its file says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from fairway.cli import problems
from fairway.cli.host import leave_foreign_chains_option
from fairway.cli.output import Progress, json_option, plural, print_json
from fairway.lab import rootless


@click.command(epilog="\b\nExample:\n  fairway up examples/two-hosts.toml && fairway ping")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@leave_foreign_chains_option
@click.option("--no-agents", is_flag=True, help="Start none, whatever FILE says; nodes are given their routes.")
@json_option
def up(file: Path, leave_foreign_chains: bool, no_agents: bool, as_json: bool) -> None:
    """Bring up the lab that FILE describes; one that runs is changed to what FILE says now."""
    rootless.enter(create=True)
    from fairway import lab

    try:
        with Progress("up") as progress:
            summary = lab.up(
                file, progress=progress.step, leave_foreign_chains=leave_foreign_chains, agents=not no_agents
            )
    except BaseException:
        rootless.leave(lambda: not lab.running())
        raise
    if as_json:
        print_json(asdict(summary))
        return
    if summary.waiting:
        problems.warn(summary.waiting)
    parts = [plural(summary.nodes, "node"), plural(summary.pods, "pod"), plural(summary.links, "link")]
    if summary.agents:
        parts.append(plural(summary.agents, "agent"))
    faults = f"; link faults by {summary.engine}" if summary.engine != "none" else ""
    done = f"in {summary.seconds:.2f} s" if summary.operations else "nothing to change"
    click.echo(f"{summary.name} is up: {', '.join(parts)}; {done}{faults}")
