"""fairway down: labs taken away."""

from __future__ import annotations

from dataclasses import asdict

import click

from fairway.cli import names, problems
from fairway.cli.output import json_option, plural, print_json
from fairway.lab import rootless
from fairway.net.model.errors import UsageError


@click.command(epilog="\b\nExamples:\n  fairway down two-hosts\n  fairway down --all")
@click.argument("lab_or_file", metavar="[NAME|FILE]", required=False, shell_complete=names.complete_labs_and_files)
@click.option("--all", "everything", is_flag=True, help="Take down every lab.")
@json_option
def down(lab_or_file: str | None, everything: bool, as_json: bool) -> None:
    """Take down the lab called NAME or described by FILE; without either, the only one that runs."""
    if everything and lab_or_file:
        raise UsageError("--all and the name of a lab exclude each other")
    rootless.enter(create=False)
    from fairway import lab

    if everything:
        wanted = [each.name for each in lab.running()]
    else:
        wanted = [lab.find(lab.name_of(lab_or_file) if lab_or_file else None).name]
    ended = [lab.down(name) for name in wanted]
    rootless.leave(lambda: not lab.running())
    if as_json:
        print_json({"ended": [asdict(each) for each in ended]})
        return
    for each in ended:
        click.echo(f"{each.name} is down: {plural(each.namespaces, 'namespace')} removed")
        if each.processes:
            numbers = ", ".join(map(str, each.processes))
            problems.warn(f"still running, and cut off from the network now: {numbers}")
    if not ended:
        click.echo("no lab is running", err=True)
