"""The command line: one file a subcommand, each imported when it is asked for."""

from fairway.cli.commands import main

__all__ = ["main"]
