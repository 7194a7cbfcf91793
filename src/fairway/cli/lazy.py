"""A group whose subcommands are imported when they run, and which says what goes wrong in one way for all of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from fairway.cli import problems

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


@dataclass(frozen=True, slots=True)
class Lazy:
    """A subcommand: its name, where it is ("module:attribute"), its help in one line, the section of the list."""

    name: str
    where: str
    help: str
    section: str


class LazyGroup(click.Group):
    """Lists its subcommands out of a table alone; one whose module does not exist is not listed."""

    def __init__(self, *args: Any, subcommands: Sequence[Lazy] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._table = {entry.name: entry for entry in subcommands}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the table's order."""
        return [name for name, entry in self._table.items() if importlib.util.find_spec(entry.where.partition(":")[0])]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand of that name, imported."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module, _, attribute = self._table[cmd_name].where.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of the list."""
        entries = [self._table[name] for name in self.list_commands(ctx)]
        width = max(len(entry.name) for entry in entries)
        for section in dict.fromkeys(entry.section for entry in entries):
            with formatter.section(section):
                formatter.write_dl([(e.name.ljust(width), e.help) for e in entries if e.section == section])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of subcommands, with their help, and options."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        items = [CompletionItem(name, help=self._table[name].help) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; what is expected to go wrong ends the process with a message and an exit code."""
        arguments = [*ctx._protected_args, *ctx.args]
        with problems.told(ctx, as_json=problems.wants_json(arguments)):
            return super().invoke(ctx)
