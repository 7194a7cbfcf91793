"""Shells complete commands."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from fairway.cli import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell: str):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_FAIRWAY_COMPLETE={shell}_complete" in result.output


def test_an_unknown_shell_is_a_usage_error():
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [("fairway po", ["pod", "pool", "policy"]), ("fairway pod s", ["show"]), ("fairway check --re", ["--repair"])],
)
def test_commands_are_completed(words: str, expected: list[str]):
    environment = {
        "_FAIRWAY_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    result = CliRunner().invoke(main, prog_name="fairway", env=environment)
    assert [line.partition(",")[2] for line in result.output.splitlines()] == expected
