"""The command itself: fast to start, with help everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from fairway.cli import main
from fairway.cli.lazy import Lazy, LazyGroup

COMMAND = [sys.executable, "-c", "from fairway.cli import main; main(prog_name='fairway')"]
HEAVY = re.compile(
    r"\| +(pyroute2|sqlite3|ctypes|fairway\.net\.kernel|fairway\.net\.agent|fairway\.lab)\b", re.MULTILINE
)


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*words, name))


def test_the_version_is_printed():
    assert "0.1.0" in CliRunner().invoke(main, ["--version"]).output


def test_every_command_has_help_and_an_example():
    found = list(commands(main))
    assert len(found) > 20
    for words, command in found:
        result = CliRunner().invoke(main, [*words, "--help"])
        assert result.exit_code == 0, words
        assert "Example" in result.output, words
        assert command.help, words


def test_every_command_that_prints_data_has_json():
    without = {words for words, command in commands(main) if not isinstance(command, click.Group)} - {
        words for words, command in commands(main) if any("--json" in option.opts for option in command.params)
    }
    # What they print is not data, or (qlog) one JSON document as it is, or (agent) a file for another program.
    assert without == {
        ("exec",),
        ("completion",),
        ("perf", "serve"),
        ("qlog",),
        ("agent", "config"),
        ("agent", "install"),
    }


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["completion", "zsh"]])
def test_what_needs_no_kernel_imports_nothing_heavy(arguments: list[str]):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND[1:], *arguments], capture_output=True, text=True, check=True
    )
    assert not HEAVY.findall(result.stderr)


def test_an_unknown_command_is_a_usage_error():
    result = CliRunner().invoke(main, ["fly"])
    assert result.exit_code == 2
    assert "fly" in result.stderr


def test_a_subcommand_without_a_module_is_not_listed():
    group = LazyGroup(
        "test",
        subcommands=[
            Lazy("there", "fairway.cli.pod:pod", "Is.", "All"),
            Lazy("later", "fairway.cli.no_such_module:later", "Is not yet.", "All"),
        ],
    )
    assert group.list_commands(click.Context(group)) == ["there"]
    assert CliRunner().invoke(group, ["later"]).exit_code == 2
    assert "later" not in CliRunner().invoke(group, ["--help"]).output
