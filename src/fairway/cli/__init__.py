"""The command line: one file a subcommand."""

from __future__ import annotations

import click

from fairway import __version__


@click.group()
@click.version_option(__version__, prog_name="fairway")
def main() -> None:
    """A pod network that a person can understand in one command."""
