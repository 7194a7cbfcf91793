"""fairway completion: what a shell needs to complete commands and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(
    epilog="\b\nExamples:\n  fairway completion bash > /etc/bash_completion.d/fairway\n"
    "  fairway completion zsh > ~/.zfunc/_fairway\n"
    "  fairway completion fish > ~/.config/fish/completions/fairway.fish"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, and the names of pods, nodes and labs, in a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "fairway", "_FAIRWAY_COMPLETE").source())
