"""What goes wrong is told in one way: a message and what mends it, no traceback, an exit code."""

from __future__ import annotations

import errno
import json
import os
import sys

import click
import pytest
from click.testing import CliRunner, Result

from fairway.cli import problems
from fairway.cli.lazy import Lazy, LazyGroup
from fairway.net.model.errors import FairwayError, KernelError, UsageError

PROBLEMS: dict[str, BaseException] = {
    "failed": FairwayError("it failed", mend="try again"),
    "usage": UsageError("no such thing"),
    "denied": KernelError("cannot do that", errno.EPERM, mend="be root"),
    "permission": PermissionError(errno.EACCES, "Permission denied", "/var/lib/fairway"),
    "full": OSError(errno.ENOSPC, "No space left on device", "/var/lib/fairway/state.db"),
    "interrupt": KeyboardInterrupt(),
    "bug": ZeroDivisionError("a bug"),
}


@click.command("raise")
@click.argument("which")
@click.option("--json", "as_json", is_flag=True)
def raiser(which: str, as_json: bool) -> None:
    """Raise the problem of that name."""
    raise PROBLEMS[which]


GROUP = LazyGroup("test", subcommands=[Lazy("raise", f"{__name__}:raiser", "Raise.", "All")])


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


def run(*arguments: str) -> Result:
    return CliRunner().invoke(GROUP, ["raise", *arguments])


def test_an_error_says_what_mends_it_and_exits_with_1():
    result = run("failed")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: it failed\n  mend: try again\n")


def test_a_usage_error_exits_with_2():
    result = run("usage")
    assert (result.exit_code, result.stderr) == (2, "error: no such thing\n")


def test_with_json_an_error_is_one_document_on_stderr():
    result = run("failed", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert json.loads(result.stderr) == {"error": {"message": "it failed", "mend": "try again"}}


def test_with_json_a_wrong_option_is_a_document_too():
    result = run("failed", "--json", "--wrong")
    assert result.exit_code == 2
    assert "--wrong" in json.loads(result.stderr)["error"]["message"]


def test_json_behind_two_dashes_is_not_ours():
    assert problems.wants_json(["exec", "--json"])
    assert not problems.wants_json(["exec", "demo01", "--", "ip", "--json"])


@pytest.mark.parametrize("which", ["denied", "permission"])
def test_without_privileges_it_says_needs_root(which: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = run(which)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: needs root: ")
    assert "mend: run it as root" in result.stderr


def test_root_is_told_what_the_kernel_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert run("denied").stderr == "error: cannot do that\n  mend: be root\n"


def test_a_full_disk_is_named_without_a_traceback():
    result = run("full")
    assert (result.exit_code, result.stderr) == (1, "error: /var/lib/fairway/state.db: No space left on device\n")


def test_an_interrupt_exits_with_130():
    assert run("interrupt").exit_code == 130


def test_a_bug_shows_itself():
    assert isinstance(run("bug").exception, ZeroDivisionError)
