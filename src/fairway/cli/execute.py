"""fairway exec: a command inside a namespace."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from fairway.cli import names
from fairway.cli.places import enter_labs, find_place
from fairway.net.model.errors import FairwayError

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # exit codes, as shells have them


@click.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="\b\nExamples:\n  fairway exec demo01 -- ip addr\n  fairway exec two-hosts/node03 -- tcpdump -ni lan\n"
    "  fairway exec node03 -- fairway peers",
)
@click.argument("name", metavar="NODE-OR-POD", shell_complete=names.complete_places)
@click.argument("command", metavar="[-- CMD...]", nargs=-1, type=click.UNPROCESSED)
def execute(name: str, command: tuple[str, ...]) -> None:
    """Run CMD in the network of a pod or a lab's node, and exit as it does; without CMD, a shell.

    In a node, `fairway pod`, `status`, `peers` and the like are about that node.
    """
    words = list(command[1:] if command[:1] == ("--",) else command) or [os.environ.get("SHELL") or "/bin/sh"]
    enter_labs()
    from fairway.net.kernel import namespaces

    place = find_place(name)
    if place.namespace:
        namespaces.enter(place.namespace)
    os.environ.update(place.environment)
    beside = Path(sys.argv[0]).absolute().parent  # where `fairway` is, if it is not where commands are looked for
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{beside}"
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what is run would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(words[0], words)
    except FileNotFoundError:
        error = FairwayError(f"there is no command {words[0]!r}")
        error.exit_code = _NOT_FOUND
        raise error from None
    except PermissionError:
        error = FairwayError(f"{words[0]!r} is not a command that can be run")
        error.exit_code = _NOT_EXECUTABLE
        raise error from None
