"""fairway agent: the long-lived process of this host."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import click

from fairway.cli import problems
from fairway.lab import rootless
from fairway.net.agent import config as configuration
from fairway.net.agent import systemd
from fairway.net.model.errors import FairwayError

_DEFAULT = configuration.DEFAULT_PATH


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  fairway agent --config /etc/fairway/agent.toml\n"
    "  fairway agent install && systemctl enable --now fairway",
)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"The configuration; without it {_DEFAULT}, if there is one.",
)
@click.option("--check", is_flag=True, help="Only check the configuration.")
@click.pass_context
def agent(ctx: click.Context, path: Path | None, check: bool) -> None:
    """Keep this host as it should be, and answer the other commands and container runtimes, until told to end."""
    if ctx.invoked_subcommand is not None:
        return

    def place() -> Path | None:
        return path or (_DEFAULT if _DEFAULT.exists() else None)

    def read() -> configuration.Config:
        found = place()
        return configuration.load(found) if found is not None else configuration.Config()

    config = read()
    if check:
        click.echo(f"{place() or 'the default configuration'} is as it should be")
        return
    if not rootless.privileged():
        raise problems.needs_root()
    from fairway.net.agent.agent import Agent
    from fairway.net.agent.log import set_up

    set_up(config.log_format, config.log_level)

    async def run() -> None:
        await Agent(config, read=read).run()

    asyncio.run(run())


@agent.command(epilog="\b\nExample:\n  fairway agent config > /etc/fairway/agent.toml")
def config() -> None:
    """Print a configuration with every key, its default and what it is for."""
    click.echo(configuration.EXAMPLE, nl=False)


@agent.command(epilog="\b\nExample:\n  fairway agent install && systemctl enable --now fairway")
@click.option("--config", "path", type=click.Path(path_type=Path, dir_okay=False), help="What to run it with.")
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    default=systemd.UNIT_PATH,
    show_default=True,
    help="Where the unit goes; - prints it.",
)
def install(path: Path | None, to: Path) -> None:
    """Write the unit that systemd runs the agent by."""
    text = systemd.unit(_command(), path.absolute() if path is not None else None)
    if str(to) == "-":
        click.echo(text, nl=False)
    elif systemd.install(text, to):
        click.echo(f"wrote {to}; start it: systemctl daemon-reload && systemctl enable --now {to.stem}")
    else:
        click.echo(f"{to} is there already, just so")


def _command() -> str:
    """How systemd is to call this program: by an absolute path."""
    found = shutil.which(sys.argv[0]) or shutil.which("fairway")
    if found is None:
        raise FairwayError("the command fairway is not in the PATH", mend="install it: pip install fairway")
    return str(Path(found).absolute())
